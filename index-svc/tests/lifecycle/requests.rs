//! What a caller may rely on: retries that change nothing, reading its own writes, roles.

use std::time::Duration;

use pagoda_proto::{
    feature::v1::Embedding,
    index::v1::{self as proto, index_service_server::IndexService as _},
};
use pagoda_server::{Deadline, status};
use tonic::{Code, Request};

use crate::harness::{Index, SPACE, memory, names, reason, until, vector};

#[tokio::test]
async fn a_retry_with_its_request_id_changes_nothing_even_after_a_restart() {
    let store = memory();
    let set = ["checkpoint.commits=2", "checkpoint.commits_kept=0"];
    let index = Index::holding(&store, &set, 0..4).await;
    let first = index.upsert_as("upsert-10", [10]).await.unwrap();
    index.delete([10]).await.unwrap();
    assert_eq!(index.upsert_as("upsert-10", [10]).await.unwrap(), first);
    assert_eq!(index.ids().await, names(0..4), "the delete came after the first try");
    let lsn = index.lsn();
    let again = Index::open(&store, &set).await;
    assert_eq!(again.upsert_as("upsert-10", [10]).await.unwrap(), first);
    assert_eq!((again.ids().await, again.lsn()), (names(0..4), lsn));
    assert_eq!(index.upsert_as(&"x".repeat(65), [1]).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_same_request_through_two_processes_is_applied_once() {
    let store = memory();
    let (one, two) = (Index::holding(&store, &[], 0..4).await, Index::open(&store, &[]).await);
    let (a, b) = tokio::join!(one.upsert_as("r", [10]), two.upsert_as("r", [10]));
    assert_eq!(a.unwrap(), b.unwrap());
}

#[tokio::test]
async fn a_search_sees_the_position_that_it_asks_for_or_says_how_far_it_is() {
    let store = memory();
    let (writer, reader) = (Index::holding(&store, &[], 0..4).await, Index::open(&store, &[]).await);
    for n in 10..20 {
        let lsn = writer.upsert([n]).await.unwrap();
        let found = reader.search(lsn).await.unwrap();
        assert!(found.lsn >= lsn && found.items.iter().any(|item| item.item_id == format!("i{n}")));
    }
    let embedding = Some(Embedding { values: vector(0) });
    let query = proto::SearchRequest { space_id: SPACE.into(), embedding, k: 1, min_lsn: 999, ..Default::default() };
    let mut request = Request::new(query);
    request.extensions_mut().insert(Deadline(std::time::Instant::now() + Duration::from_millis(50)));
    let late = reader.service.search(request).await.unwrap_err();
    let (reason, metadata) = status::reason_of(&late).unwrap();
    assert_eq!((late.code(), reason.as_str()), (Code::Unavailable, "NOT_REACHED"));
    assert_eq!(metadata["lsn"], writer.lsn().to_string());
}

#[tokio::test]
async fn a_process_does_what_its_roles_say_and_no_more() {
    let store = memory();
    let writer = Index::holding(&store, &[], 0..4).await;
    let follower = Index::open(&store, &["index.roles=[\"search\"]"]).await;
    assert_eq!(follower.ids().await, names(0..4));
    let current = writer.generations().await[0].generation_id.clone();
    let refused = [
        follower.upsert([1]).await.unwrap_err(),
        follower.delete([1]).await.unwrap_err(),
        follower.publish(&current).await.unwrap_err(),
        follower.roll_back("", None).await.unwrap_err(),
        follower.build(follower.header(1), vec![]).await.unwrap_err(),
    ];
    for refused in refused {
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ROLE"), "{refused}");
    }
    let builder = Index::open(&store, &["index.roles=[\"build\"]"]).await;
    let built = builder.built(0..6).await;
    assert_eq!(reason(&builder.search(0).await.unwrap_err()), "ROLE");
    // One that only writes loads nothing, and takes writes and publications all the same.
    let writing = Index::open(&store, &["index.roles=[\"write\"]"]).await;
    writing.publish(&built).await.unwrap();
    let status = writing.status().await;
    assert_eq!((status.spaces.len(), &status.unsearched_spaces[0].lineage), (0, &vec![built.clone()]));
    assert!(follower.status().await.unsearched_spaces.is_empty());
    let lsn = writing.upsert([10]).await.unwrap();
    // The write is visible at once; the generation as soon as the follower has loaded it.
    assert!(follower.search(lsn).await.unwrap().items.iter().any(|item| item.item_id == "i10"));
    until("the generation", async || (follower.ids().await == names((0..6).chain([10]))).then_some(())).await;
    let wrong = writing.roll_back("00000000000000aa-0-0000000000000000", None).await.unwrap_err();
    assert_eq!(reason(&wrong), "NOT_PUBLISHABLE");
}

#[tokio::test]
async fn one_that_only_searches_never_writes_to_the_store() {
    let store = memory();
    Index::open(&store, &["index.roles=[\"search\"]"]).await;
    assert_eq!(store.list("").await.unwrap(), []);
}

#[tokio::test]
async fn a_process_that_does_not_search_counts_what_is_fresh_and_not_what_is_known() {
    let store = memory();
    let index = Index::holding(&store, &["compaction.delta_items=0"], 0..4).await;
    let writer = Index::open(&store, &["index.roles=[write]", "write.delta_items_max=10"]).await;
    writer.upsert(100..110).await.unwrap();
    assert_eq!(writer.upsert([110]).await.unwrap_err().code(), Code::ResourceExhausted);
    writer.delete(100..105).await.unwrap();
    writer.upsert(110..115).await.unwrap();
    assert_eq!(writer.upsert([115]).await.unwrap_err().code(), Code::ResourceExhausted);
    let followed = async || (index.lsn() == writer.lsn()).then_some(());
    until("the writes", followed).await;
    // What was written before is known still, for the sake of the generation before, and is not fresh.
    index.refresh(0..14).await.unwrap();
    until("the generation", followed).await;
    writer.upsert(120..130).await.unwrap();
    assert_eq!(writer.upsert([130]).await.unwrap_err().code(), Code::ResourceExhausted);
}
