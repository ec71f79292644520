//! Starting from a checkpoint is starting from the log.

use std::{fs, time::Duration};

use pagoda_commit_log::Store;
use pagoda_proto::{
    feature::v1::ModelVersion,
    index::v1::{self as proto, index_service_server::IndexService as _},
};
use tonic::Request;

use crate::harness::{Index, items, memory, names, until};

const ANOTHER_SPACE: &str = "00000000000000bb";

const OFTEN: [&str; 3] = ["checkpoint.commits=10", "checkpoint.commits_kept=3", "build.item_count_ratio_min=0"];

async fn checkpoints(store: &Store) -> usize {
    store.list("index/main/log-checkpoints").await.unwrap().len()
}

/// Writes item 100 until the log is cleaned up to a position.
async fn until_cleaned_up(index: &Index, store: &Store, lsn: u64) {
    // A checkpoint that is due while one is written waits for the next commit.
    until("the clean-up", async || {
        index.upsert([100]).await.unwrap();
        let slot = store.get(&format!("index/main/log/{lsn:020}")).await;
        // Too short for a commit of an embedding.
        slot.is_ok_and(|slot| slot.len() < 80).then_some(())
    })
    .await;
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
    until_cleaned_up(&index, &store, 90).await;
    assert!(asleep.lsn() < 60, "it looked once, when it started");
    asleep.delete([200]).await.unwrap();
    until("the newer generation", async || (asleep.generations().await[0].generation_id == newer).then_some(())).await;
    until("all writes", async || (asleep.ids().await == names((0..2).chain([100]).chain(201..207))).then_some(()))
        .await;
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

#[tokio::test]
async fn the_log_is_kept_from_the_last_checkpoint_before_the_newest_that_was_really_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let index = Index::holding(&store, &OFTEN, 0..4).await;
    let written_up_to = async |lsn: u64| {
        while index.upsert([100]).await.unwrap() < lsn {}
    };
    written_up_to(10).await;
    until("the first checkpoint", async || (checkpoints(&store).await == 1).then_some(())).await;
    // No checkpoint can be written where a file is in the folder's place.
    let folder = dir.path().join("index/main/log-checkpoints");
    let aside = dir.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "in the way").unwrap();
    written_up_to(25).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    written_up_to(30).await;
    until("the second checkpoint", async || {
        index.upsert([100]).await.unwrap();
        (checkpoints(&store).await == 2).then_some(())
    })
    .await;
    let is_stub = async |lsn: u64| store.get(&format!("index/main/log/{lsn:020}")).await.unwrap().len() < 80;
    until("the clean-up", async || is_stub(9).await.then_some(())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for lsn in 11..=30 {
        assert!(!is_stub(lsn).await, "{lsn}");
    }
    // The newest one may get damaged.
    let newest = store.list("index/main/log-checkpoints").await.unwrap().pop().unwrap().path;
    store.put(&newest, "damaged".into()).await.unwrap();
    assert_eq!(Index::open(&store, &OFTEN).await.ids().await, index.ids().await);
}

/// Looks at the log when it writes, holds the spaces of two models, and has no room for much more of the second.
async fn asleep(store: &Store) -> Index {
    let settings = [OFTEN.as_slice(), &["index.poll_ms=3600000", "memory.bytes_max=28000"]].concat();
    Index::open(store, &settings).await
}

fn of_another_space(index: &Index, item_count: usize) -> proto::GenerationHeader {
    proto::GenerationHeader { model_version: Some(another_model()), ..index.header(item_count) }
}

fn another_model() -> ModelVersion {
    ModelVersion { space_id: ANOTHER_SPACE.into(), revision: 0 }
}

async fn upsert_to_another_space(index: &Index, numbers: std::ops::Range<u64>) {
    let request =
        proto::UpsertRequest { model_version: Some(another_model()), items: items(numbers), ..Default::default() };
    index.service.upsert(Request::new(request)).await.unwrap();
}

#[tokio::test]
async fn a_space_that_cannot_be_loaded_after_a_jump_holds_up_no_writes_of_others() {
    let store = memory();
    let index = Index::holding(&store, &[OFTEN.as_slice(), &["generations.retained_max=0"]].concat(), 0..4).await;
    let refresh_another = async |count: u64| {
        let built = index.build(of_another_space(&index, count as usize), items(0..count)).await.unwrap();
        index.publish(&built.generation_id).await.unwrap();
    };
    refresh_another(20).await;
    let asleep = asleep(&store).await;
    assert_eq!(asleep.status().await.spaces.len(), 2);
    refresh_another(500).await;
    until_cleaned_up(&index, &store, 60).await;
    asleep.delete([3]).await.unwrap();
    until("the delete", async || (asleep.ids().await == names((0..3).chain([100]))).then_some(())).await;
    assert_eq!(asleep.status().await.spaces.len(), 1, "what cannot be loaded is not searched");
    assert!(asleep.status().await.load_trouble.is_some());
}

#[tokio::test]
async fn what_was_compacted_during_a_jump_is_searched_as_it_was_until_the_newer_generation_is_loaded() {
    let store = memory();
    let settings =
        [OFTEN.as_slice(), &["generations.retained_max=0", "compaction.delta_items=200", "compaction.delta_share=0.1"]];
    let index = Index::holding(&store, &settings.concat(), 0..4).await;
    let built = index.build(of_another_space(&index, 20), items(0..20)).await.unwrap();
    index.publish(&built.generation_id).await.unwrap();
    let asleep = asleep(&store).await;
    upsert_to_another_space(&index, 100..400).await;
    let of_another = async || {
        let mut listed = index.generations().await.into_iter();
        listed.find(|generation| generation.model_version == Some(another_model())).unwrap()
    };
    until("a compaction", async || (of_another().await.compacted_from == built.generation_id).then_some(())).await;
    until_cleaned_up(&index, &store, 60).await;
    asleep.delete([3]).await.unwrap();
    until("the delete", async || (asleep.ids().await == names((0..3).chain([100]))).then_some(())).await;
    let status = asleep.status().await;
    let another = status.spaces.iter().find(|space| space.model_version == Some(another_model())).unwrap();
    assert_eq!((another.base_count, another.delta_count), (19, 300), "{another:?}");
    assert!(status.load_trouble.is_some());
}
