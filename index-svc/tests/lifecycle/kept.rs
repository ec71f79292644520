//! What older versions wrote is read; what a newer one wrote is refused plainly.

use std::path::Path;

use pagoda_commit_log::Store;

use crate::harness::{Index, memory, names};

/// A store as version 0.1.0 left it: commits and a generation of format 1. `i0` to `i4` in the generation, `i7` upserted, `i1` deleted.
fn kept() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-0.1.0"))
}

async fn copy_of_kept() -> Store {
    let (from, to) = (Store::open(kept().to_str().unwrap()).unwrap(), memory());
    for object in from.list("").await.unwrap() {
        to.put(&object.path, from.get(&object.path).await.unwrap()).await.unwrap();
    }
    to
}

#[tokio::test]
async fn a_log_and_a_generation_of_the_first_version_are_read_and_written_on() {
    let store = copy_of_kept().await;
    let index = Index::open(&store, &["checkpoint.commits=2", "checkpoint.commits_kept=0"]).await;
    assert_eq!(index.ids().await, names([0, 2, 3, 4, 7]));
    index.upsert([8]).await.unwrap();
    index.refresh([0, 1, 2, 3]).await.unwrap();
    assert_eq!(index.ids().await, names([0, 2, 3]));
    index.roll_back("", None).await.unwrap();
    let expected = names([0, 2, 3, 4, 7, 8]);
    assert_eq!(index.ids().await, expected);
    assert_eq!(Index::open(&store, &[]).await.ids().await, expected);
}

#[tokio::test]
async fn a_commit_of_a_newer_version_is_refused_plainly() {
    let store = copy_of_kept().await;
    let log = pagoda_commit_log::Log::open(store.clone(), "index/main/log").await.unwrap();
    log.append(bytes::Bytes::from_static(b"\x08\x63")).await.unwrap();
    let refused = Index::try_open(&store, &[]).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("format version 99") && refused.contains("use a newer one"), "{refused}");
}

#[tokio::test]
async fn a_checkpoint_of_a_newer_version_is_refused_plainly() {
    let store = copy_of_kept().await;
    let log = pagoda_commit_log::Log::open(store.clone(), "index/main/log").await.unwrap();
    log.checkpoint(log.head(), bytes::Bytes::from_static(b"\x08\x63")).await.unwrap();
    let refused = Index::try_open(&store, &[]).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("format version 99") && refused.contains("use a newer one"), "{refused}");
}
