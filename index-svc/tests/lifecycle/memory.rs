//! A generation that does not fit into memory is refused before it is loaded.

use tonic::Code;

use crate::harness::{Index, memory, names, reason, until};

#[tokio::test]
async fn what_does_not_fit_beside_the_old_one_is_refused_before_anything_is_published() {
    let store = memory();
    let index = Index::holding(&store, &["memory.bytes_max=60000"], 0..100).await;
    let lsn = index.lsn();
    let big = index.built(0..500).await;
    let refused = index.publish(&big).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "DOES_NOT_FIT"), "{refused}");
    assert_eq!((index.lsn(), index.ids().await), (lsn, names(0..100)));
    // What fits still does: nothing was leaked by the refusal.
    for n in 100..105 {
        index.refresh(0..n).await.unwrap();
    }
    assert_eq!(index.ids().await, names(0..104));
}

#[tokio::test]
async fn a_smaller_process_keeps_searching_what_it_has() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let small = Index::open(&store, &["memory.bytes_max=60000"]).await;
    index.refresh(0..500).await.unwrap();
    let lsn = index.upsert([1000]).await.unwrap();
    until("the write", async || (small.lsn() >= lsn).then_some(())).await;
    assert_eq!(small.ids().await, names((0..100).chain([1000])));
}
