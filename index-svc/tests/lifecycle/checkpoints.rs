//! Starting from a checkpoint is starting from the log.

use pagoda_commit_log::Store;

use crate::harness::{Index, memory, names, until};

const OFTEN: [&str; 3] = ["checkpoint.commits=10", "checkpoint.commits_kept=3", "build.item_count_ratio_min=0"];

async fn checkpoints(store: &Store) -> usize {
    store.list("index/main/log-checkpoints").await.unwrap().len()
}

#[tokio::test]
async fn a_restart_after_clean_up_holds_the_same() {
    let store = memory();
    let index = Index::holding(&store, &OFTEN, 0..4).await;
    for n in 0..50 {
        index.upsert([100 + n % 7]).await.unwrap();
        index.delete([n % 3]).await.unwrap();
    }
    index.refresh(0..3).await.unwrap();
    until("the clean-up", async || {
        let slot = store.get("index/main/log/00000000000000000005").await.unwrap();
        // Too short for a commit of an embedding.
        (slot.len() < 80 && checkpoints(&store).await == 2).then_some(())
    })
    .await;
    let again = Index::open(&store, &OFTEN).await;
    assert_eq!(again.ids().await, index.ids().await);
    assert_eq!(again.status().await, index.status().await);
    // Rolling back needs no log either.
    let back = again.roll_back("", None).await.unwrap();
    index.roll_back(&back, None).await.unwrap();
    assert_eq!(again.ids().await, index.ids().await);
    assert_eq!(again.ids().await, names((100..107).chain([3])));
}

#[tokio::test]
async fn a_follower_that_was_away_for_longer_than_the_log_is_kept_takes_a_checkpoint() {
    let store = memory();
    let index = Index::holding(&store, &OFTEN, 0..4).await;
    // Looks at the log once an hour: in this test, when it writes.
    let asleep = Index::open(&store, &[OFTEN.as_slice(), &["index.poll_ms=3600000"]].concat()).await;
    for n in 0..60 {
        index.upsert([100 + n % 7]).await.unwrap();
    }
    let newer = index.refresh(0..2).await.unwrap();
    for n in 0..60 {
        index.upsert([200 + n % 7]).await.unwrap();
    }
    // A checkpoint that is due while one is written waits for the next commit.
    until("the clean-up", async || {
        index.upsert([200]).await.unwrap();
        let slot = store.get("index/main/log/00000000000000000090").await.unwrap();
        (slot.len() < 80).then_some(())
    })
    .await;
    assert!(asleep.lsn() < 60, "it looked once, when it started");
    asleep.delete([200]).await.unwrap();
    until("the newer generation", async || (asleep.generations().await[0].generation_id == newer).then_some(())).await;
    until("all writes", async || (asleep.ids().await == names((0..2).chain(201..207))).then_some(())).await;
    until("the delete", async || (index.ids().await == asleep.ids().await).then_some(())).await;
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let store = memory();
    let index = Index::holding(&store, &OFTEN, 0..4).await;
    for n in 0..45 {
        index.upsert([100 + n]).await.unwrap();
    }
    until("two checkpoints", async || (checkpoints(&store).await == 2).then_some(())).await;
    let newest = store.list("index/main/log-checkpoints").await.unwrap().pop().unwrap().path;
    let mut flipped = store.get(&newest).await.unwrap().to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    store.put(&newest, flipped.into()).await.unwrap();
    assert_eq!(Index::open(&store, &OFTEN).await.ids().await, index.ids().await);
}
