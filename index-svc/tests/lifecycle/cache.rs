//! The local cache: restarts without the store, damaged and partial files.

use std::{fs, path::Path};

use pagoda_commit_log::{
    Store,
    faulty::{Faults, FaultyStore},
};
use tonic::Code;

use crate::harness::{Index, names, reason, until};

fn cached(dir: &Path) -> String {
    format!("cache.directory=\"{}\"", dir.display())
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_the_store_is_away_serves_from_the_cache_and_catches_up_later() {
    let dir = tempfile::tempdir().unwrap();
    let setting = cached(dir.path());
    let set = [setting.as_str(), "checkpoint.commits=2"];
    let faulty = FaultyStore::new(7, Faults::default());
    let store = faulty.store();
    let index = Index::holding(&store, &set, 0..4).await;
    index.upsert([10]).await.unwrap();
    index.delete([1]).await.unwrap();
    until("the state on the disk", async || {
        // Written at the last checkpoint: position 2.
        let state = fs::read(dir.path().join("main/state.bin")).ok()?;
        (state.len() > 100).then_some(())
    })
    .await;
    drop(index);
    faulty.set_faults(Faults { unavailable: 1.0, ..Faults::default() });

    let index = Index::open(&store, &set).await;
    let found = index.ids().await;
    assert!(found == names([0, 1, 2, 3, 10]) || found == names([0, 2, 3, 10]), "{found:?}");
    let refused = index.upsert([11]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));

    faulty.set_faults(Faults::default());
    until("what was written after the checkpoint", async || (index.ids().await == names([0, 2, 3, 10])).then_some(()))
        .await;
    index.upsert([11]).await.unwrap();
    assert_eq!(index.ids().await, names([0, 2, 3, 10, 11]));
}

#[tokio::test]
async fn a_store_that_ends_before_what_the_cache_has_seen_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let setting = cached(&dir.path().join("cache"));
    let (folder, away) = (dir.path().join("store"), dir.path().join("away"));
    let store = || Store::open(folder.to_str().unwrap()).unwrap();
    drop(Index::holding(&store(), &[&setting], 0..4).await);
    drop(Index::open(&store(), &[&setting]).await);
    fs::rename(&folder, &away).unwrap();
    let refused = Index::try_open(&store(), &[&setting]).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("is the right store there?"), "{refused}");
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert_eq!(Index::open(&store(), &[&setting]).await.ids().await, names(0..4));
}

#[tokio::test(start_paused = true)]
async fn without_a_cache_a_start_needs_the_store() {
    let faulty = FaultyStore::new(7, Faults { unavailable: 1.0, ..Faults::default() });
    assert!(Index::try_open(&faulty.store(), &[]).await.is_err());
}

#[tokio::test]
async fn a_file_of_the_cache_that_is_not_what_it_should_be_is_read_again_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let setting = cached(&dir.path().join("cache"));
    let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
    Index::holding(&store, &[&setting], 0..4).await;
    let kept: Vec<_> = files(&dir.path().join("cache/main/generations"));
    assert_eq!(kept.len(), 5, "{kept:?}");
    for file in &kept {
        let mut bytes = fs::read(file).unwrap();
        match bytes.first_mut() {
            Some(first) => *first ^= 1,
            None => bytes.push(1),
        }
        fs::write(file, bytes).unwrap();
    }
    fs::write(kept[0].with_extension("partial"), "half of it").unwrap();
    assert_eq!(Index::open(&store, &[&setting]).await.ids().await, names(0..4));
    assert!(files(&dir.path().join("cache")).iter().all(|file| file.extension() != Some("partial".as_ref())));
}

#[tokio::test]
async fn a_damaged_generation_leaves_the_one_before_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let index = Index::holding(&store, &[], 0..4).await;
    let other = Index::open(&store, &["index.poll_ms=3600000"]).await;
    let newer = index.refresh(0..6).await.unwrap();
    let path = format!("index/main/generations/{newer}/shard-0/vectors.f32");
    let mut bytes = store.get(&path).await.unwrap().to_vec();
    bytes[0] ^= 1;
    store.put(&path, bytes.into()).await.unwrap();
    // A process that follows keeps searching the older one, with all writes since; one that starts falls back to it.
    other.upsert([10]).await.unwrap();
    assert_eq!(other.ids().await, names([0, 1, 2, 3, 10]));
    let started = Index::open(&store, &[]).await;
    assert_eq!(started.ids().await, names([0, 1, 2, 3, 10]));
    let served: Vec<_> = started.generations().await.iter().map(|g| (g.is_current, g.is_served)).collect();
    assert_eq!(served, [(true, false), (false, true)]);
    assert_eq!(index.publish(&newer).await.unwrap(), 2, "it is in this process's memory, whole");
}
