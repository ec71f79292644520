//! A directory whose folder vanishes while a process uses it, or is exchanged for another.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use pagoda_commit_log::{
    Log, LogError, Lsn, Store, StoreError,
    faulty::{Faults, FaultyStore},
};

/// Where the store is, and where it is moved to.
struct Places {
    store: PathBuf,
    away: PathBuf,
    _dir: tempfile::TempDir,
}

impl Places {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // As the store names it: without symbolic links.
        let root = dir.path().canonicalize().unwrap();
        Self { store: root.join("store"), away: root.join("away"), _dir: dir }
    }

    fn open(&self) -> Store {
        open(&self.store)
    }

    fn take_away(&self) {
        fs::rename(&self.store, &self.away).unwrap();
    }

    fn bring_back(&self) {
        fs::rename(&self.away, &self.store).unwrap();
    }
}

fn open(folder: &Path) -> Store {
    Store::open(folder.to_str().unwrap()).unwrap()
}

fn payload(n: u8) -> Bytes {
    vec![n].into()
}

/// Asserts that a call was refused because of the folder, which is named.
#[track_caller]
fn assert_lost<T: std::fmt::Debug>(result: Result<T, StoreError>, folder: &Path) {
    let error = result.unwrap_err();
    assert!(matches!(&error, StoreError::FolderLost { folder: lost, .. } if lost == folder), "{error:?}");
    assert!(error.may_pass() && error.to_string().contains(folder.to_str().unwrap()), "{error}");
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_vanished_takes_no_commit_and_is_not_made_anew() {
    let places = Places::new();
    let log = Log::open(places.open(), "log").await.unwrap();
    log.append(payload(1)).await.unwrap();
    places.take_away();
    assert!(matches!(log.append(payload(2)).await, Err(LogError::Store(StoreError::FolderLost { .. }))));
    assert!(matches!(log.read_after(Lsn(1)).await, Err(LogError::Store(StoreError::FolderLost { .. }))));
    assert!(!places.store.exists());
    places.bring_back();
    assert_eq!(log.append(payload(3)).await.unwrap(), Lsn(2));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), [(Lsn(1), payload(1)), (Lsn(2), payload(3))]);
}

#[tokio::test]
async fn in_a_folder_that_vanished_nothing_is_called_missing() {
    let places = Places::new();
    let store = places.open();
    store.put("a/b", payload(1)).await.unwrap();
    places.take_away();
    assert_lost(store.get("a/b").await, &places.store);
    assert_lost(store.exists("a/b").await, &places.store);
    assert_lost(store.list("a").await, &places.store);
    assert_lost(store.list_after("a", "a/a").await, &places.store);
    assert_lost(store.delete("a/b").await, &places.store);
    places.bring_back();
    assert!(matches!(store.get("a/c").await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.get("a/b").await.unwrap(), payload(1));
}

#[tokio::test]
async fn a_folder_in_its_place_takes_nothing_be_it_empty_or_a_store() {
    let places = Places::new();
    let store = places.open();
    store.put("a", payload(1)).await.unwrap();
    places.take_away();
    fs::create_dir(&places.store).unwrap();
    assert_lost(store.put("b", payload(2)).await, &places.store);
    assert_lost(store.exists("a").await, &places.store);
    assert_eq!(entries(&places.store), 0);
    places.open().put("a", payload(3)).await.unwrap();
    assert_lost(store.put("b", payload(2)).await, &places.store);
    assert_eq!(entries(&places.store), 2, "its id and `a`");
}

#[tokio::test]
async fn a_new_folder_is_known_before_its_first_put_too() {
    let places = Places::new();
    let store = places.open();
    fs::create_dir(&places.away).unwrap();
    places.bring_back();
    assert_lost(store.put("a", payload(1)).await, &places.store);
    assert_eq!(entries(&places.store), 0);
    fs::remove_dir(&places.store).unwrap();
    assert_lost(store.put("a", payload(1)).await, &places.store);
    assert!(!places.store.exists());
}

#[tokio::test]
async fn a_put_that_was_under_way_when_its_folder_vanished_is_not_acknowledged() {
    let places = Places::new();
    let objects = FaultyStore::in_directory(places.store.to_str().unwrap(), 1, Faults::default()).unwrap();
    let (store, gate) = objects.gated();
    gate.close();
    let put = tokio::spawn(async move { store.put("a", payload(1)).await });
    // It has found its folder, and waits at the gate.
    while objects.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    places.take_away();
    gate.open();
    assert_lost(put.await.unwrap(), &places.store);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_waited_for_however_long_it_takes_while_the_folder_is_there() {
    let places = Places::new();
    let objects = FaultyStore::in_directory(places.store.to_str().unwrap(), 1, Faults::default()).unwrap();
    Log::open(objects.store(), "log").await.unwrap().append(payload(1)).await.unwrap();
    objects.set_faults(Faults { latency_max: Duration::from_secs(600), ..Faults::default() });
    assert_eq!(Log::open(objects.store(), "log").await.unwrap().head(), Lsn(1));
    let store = objects.store();
    let listing = tokio::spawn(async move { store.list("log").await });
    let calls = objects.calls();
    while objects.calls() == calls {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    places.take_away();
    listing.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_folder_is_deleted_with_what_puts_that_were_killed_left_in_it() {
    let places = Places::new();
    let store = places.open();
    let path = |name: &str| places.store.join(name);
    for object in ["a/b/one", "a/b/c/two", "a/other"] {
        store.put(object, payload(1)).await.unwrap();
    }
    // Killed before the link into place, and after it.
    fs::write(path("a/b/three#1"), "half").unwrap();
    fs::hard_link(path("a/b/one"), path("a/b/one#1")).unwrap();
    std::os::unix::fs::symlink(path("a/b"), path("link")).unwrap();
    store.delete_folder("link/c").await.unwrap();
    assert!(path("a/b/c").exists(), "it is not there that the folder lies");
    places.take_away();
    assert_lost(store.delete_folder("a/b").await, &places.store);
    places.bring_back();
    for _ in 0..2 {
        store.delete_folder("a/b").await.unwrap();
        assert!(!path("a/b").exists());
    }
    assert_eq!(entries(&path("a")), 1);
}

#[tokio::test]
async fn who_only_reads_writes_no_id_and_learns_that_of_who_writes() {
    let places = Places::new();
    let reader = places.open();
    assert!(!reader.exists("a").await.unwrap());
    assert_eq!(entries(&places.store), 0);
    let writers = [places.open(), places.open(), places.open()];
    for put in join_all(writers.iter().map(|writer| writer.put("a", payload(1)))).await {
        put.unwrap();
    }
    assert!(!reader.exists("b").await.unwrap());
    for store in writers.iter().chain([&reader]) {
        store.put("a", payload(2)).await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_of_an_older_release_and_one_that_was_moved_go_on() {
    let places = Places::new();
    fs::create_dir_all(places.store.join("a")).unwrap();
    fs::write(places.store.join("a/b"), "older").unwrap();
    let store = places.open();
    assert_eq!(store.get("a/b").await.unwrap(), "older");
    store.put("c", payload(1)).await.unwrap();
    places.take_away();
    open(&places.away).put("d", payload(2)).await.unwrap();
    places.bring_back();
    assert_eq!(store.get("d").await.unwrap(), payload(2));
    store.put("e", payload(3)).await.unwrap();
}
