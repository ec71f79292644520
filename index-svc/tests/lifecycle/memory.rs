//! A generation that does not fit into memory is refused before it is loaded, and one whose build does not fit before it is built.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use index_svc::error::IndexError;
use pagoda_commit_log::Store;
use pagoda_proto::index::v1::{BuildGenerationRequest, build_generation_request::Message};
use pagoda_server::status;
use tonic::Code;

use crate::harness::{Index, memory, names, reason, until};

/// Holds 100 items, and may build and load a few more beside them, but not 500.
const SMALL: [&str; 1] = ["memory.bytes_max=28000"];

#[tokio::test]
async fn what_does_not_fit_beside_the_old_one_is_refused_before_anything_is_published() {
    let dir = tempfile::tempdir().unwrap();
    // Mapped or not.
    for store in [Store::open(dir.path().to_str().unwrap()).unwrap(), memory()] {
        let index = Index::holding(&store, &SMALL, 0..100).await;
        let lsn = index.lsn();
        let big = Index::open(&store, &[]).await.built(0..500).await;
        let refused = index.publish(&big).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "DOES_NOT_FIT"),
            "{refused}"
        );
        assert_eq!((index.lsn(), index.ids().await), (lsn, names(0..100)));
        // What fits still does: nothing was leaked by the refusal.
        for n in 100..105 {
            index.refresh(0..n).await.unwrap();
        }
        assert_eq!(index.ids().await, names(0..104));
    }
}

#[tokio::test]
async fn who_publishes_is_told_when_what_was_replaced_is_freed() {
    let index = Index::holding(&memory(), &[], 0..100).await;
    for n in 101..105 {
        let id = index.built(0..n).await;
        let searched = index.service.current().load_full();
        let replaced = Arc::downgrade(&searched);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(searched);
        });
        index.publish(&id).await.unwrap();
        assert!(replaced.upgrade().is_none());
    }
}

#[tokio::test]
async fn a_build_that_does_not_fit_is_refused_at_its_header_with_its_numbers() {
    let index = Index::holding(&memory(), &SMALL, 0..100).await;
    for _ in 0..2 {
        let header = BuildGenerationRequest { message: Some(Message::Header(index.header(500))) };
        // No batch ever comes.
        let messages = stream::iter([Ok(header)]).chain(stream::pending());
        let refused = index.service.build(messages).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let (reason, numbers) = status::reason_of(&refused).unwrap();
        let [bytes, free] = ["bytes", "free_bytes"].map(|name| numbers[name].parse::<u64>().unwrap());
        assert_eq!(reason, "BUILD_DOES_NOT_FIT");
        assert!(bytes > free && (1..28_000).contains(&free), "{bytes} of {free}");
        for number in [bytes, free] {
            assert!(refused.message().contains(&number.to_string()), "{refused}");
        }
    }
    index.refresh(0..101).await.unwrap();
}

#[tokio::test]
async fn a_smaller_process_keeps_searching_what_it_has() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let small = Index::open(&store, &SMALL).await;
    let big = index.refresh(0..500).await.unwrap();
    let lsn = index.upsert([1000]).await.unwrap();
    until("the write", async || (small.lsn() >= lsn).then_some(())).await;
    assert_eq!(small.ids().await, names((0..100).chain([1000])));
    let trouble = until("the trouble", async || small.status().await.load_trouble).await;
    assert!(trouble.why.contains("bytes of memory") && trouble.why.contains("memory.bytes_max"), "{}", trouble.why);
    assert!(!small.service.troubles().now().serves_nothing);
    let space = &small.status().await.spaces[0];
    assert_eq!(space.lineage, [big.as_str()], "what is current, not what is searched");
    assert_ne!(space.generation_id, big);
}

#[tokio::test]
async fn a_process_that_is_too_small_for_anything_does_not_start_and_says_what_it_needs() {
    let store = memory();
    Index::holding(&store, &[], 0..500).await;
    let refused = Index::try_open(&store, &["memory.bytes_max=3000"]).await.map(drop).unwrap_err();
    let IndexError::DoesNotFit { bytes, free, total } = refused else { panic!("{refused}") };
    assert!(bytes > free && free <= total && total == 3000, "{refused}");
    assert!(refused.to_string().contains("memory.bytes_max"), "{refused}");
}
