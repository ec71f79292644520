//! A build holds its place and its memory until it has ended, and leaves nothing on the store that is of no use.

use std::{task::Poll, time::Duration};

use futures::{StreamExt, stream};
use pagoda_commit_log::faulty::{Fault, Faults, FaultyStore};
use pagoda_proto::index::v1::{self as proto, build_generation_request::Message};
use tonic::Code;

use crate::harness::{Index, items, memory, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_whose_caller_went_away_keeps_its_place_until_it_ends_and_is_not_stored() {
    let store = memory();
    let index = Index::holding(&store, &["build.threads=1", "build.nice=0"], 0..4).await;
    let all = items(0..20_000);
    let spec = proto::IndexSpec { kind: proto::IndexKind::Hnsw.into(), ..Default::default() };
    let header = proto::GenerationHeader { spec: Some(spec), ..index.header(all.len()) };
    let batches = all.chunks(1000).map(|items| Message::Batch(proto::ItemBatch { items: items.to_vec() }));
    let messages: Vec<_> = [Message::Header(header)].into_iter().chain(batches).collect();
    let messages = messages.into_iter().map(|message| Ok(proto::BuildGenerationRequest { message: Some(message) }));
    let (told, has_all) = tokio::sync::oneshot::channel();
    let mut told = Some(told);
    let end = stream::poll_fn(move |_| {
        told.take().map(|told| told.send(()));
        Poll::Ready(None)
    });
    let caller = tokio::spawn({
        let service = index.service.clone();
        async move { service.build(stream::iter(messages).chain(end)).await }
    });
    has_all.await.unwrap();
    // It takes a second or more.
    tokio::time::sleep(Duration::from_millis(100)).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());

    let refused = index.build(index.header(5), items(0..5)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let next = until("the place", async || index.build(index.header(5), items(0..5)).await.ok()).await;
    let stored = store.list("index/main/generations").await.unwrap();
    let manifests = stored.iter().filter(|object| object.path.ends_with("manifest.json"));
    assert_eq!(manifests.count(), 2, "what is current and {}", next.generation_id);
}

#[tokio::test]
async fn what_was_stored_of_a_generation_is_deleted_where_the_rest_cannot_be() {
    let faulty = FaultyStore::new(1, Faults::default());
    let index = Index::holding(&faulty.store(), &[], 0..4).await;
    let stored = async || faulty.honest().list("index/main/generations").await.unwrap();
    let before = stored().await;
    // Two objects are written, the third is not.
    faulty.script([Fault::Overwrites, Fault::Overwrites, Fault::Unavailable]);
    let refused = index.build(index.header(5), items(0..5)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(stored().await, before);
    index.refresh(0..5).await.unwrap();
}
