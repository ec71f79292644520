//! Generations that are mapped where they lie on a disk of this machine, and those that are read into memory.

use std::{fs, path::Path};

use pagoda_commit_log::Store;

use crate::harness::{Index, memory, names};

/// Files of a folder that this process has mapped.
fn mapped_files(folder: &Path) -> usize {
    let folder = folder.canonicalize().unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(folder.to_str().unwrap())).count()
}

/// Whether vectors, and whether the index, take no memory of the process.
fn is_mapped(index: &Index) -> (bool, bool) {
    let snapshot = index.service.current().load_full();
    let shard = &snapshot.spaces[0].generation().shards[0];
    (shard.vectors.is_mapped(), shard.index.as_ref().unwrap().bytes() == 0)
}

fn open(folder: &Path) -> Store {
    Store::open(folder.to_str().unwrap()).unwrap()
}

#[tokio::test]
async fn what_lies_in_a_directory_is_mapped_there_unless_the_settings_say_no() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let index = Index::holding(&store, &[], 0..50).await;
    assert_eq!((is_mapped(&index), mapped_files(dir.path())), ((true, true), 2));
    drop(index);
    let index = Index::open(&store, &["memory.map_files=false"]).await;
    assert_eq!((is_mapped(&index), index.ids().await), ((false, false), names(0..50)));
}

#[tokio::test]
async fn what_lies_elsewhere_is_mapped_from_the_cache_or_read() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..50).await;
    assert_eq!(is_mapped(&index), (false, false));
    let dir = tempfile::tempdir().unwrap();
    let setting = format!("cache.directory=\"{}\"", dir.path().display());
    // What was only just kept is mapped already, as what was kept before is. A check of live recall would hold it for as long as it gets no time.
    for _ in 0..2 {
        let index = Index::open(&store, &[&setting, "search.live_recall_share=0"]).await;
        assert_eq!((is_mapped(&index), mapped_files(dir.path())), ((true, true), 2));
        assert_eq!(index.ids().await, names(0..50));
    }
}

#[tokio::test]
async fn a_cache_comes_before_a_directory() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let setting = format!("cache.directory=\"{}\"", near.path().display());
    let index = Index::holding(&open(far.path()), &[&setting], 0..50).await;
    assert_eq!((mapped_files(near.path()), mapped_files(far.path())), (2, 0));
    assert_eq!(index.ids().await, names(0..50));
}

#[tokio::test]
async fn files_that_are_removed_or_replaced_while_they_are_mapped_are_searched_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let index = Index::holding(&store, &[], 0..50).await;
    let id = index.generations().await.remove(0).generation_id;
    let shard = format!("index/main/generations/{id}/shard-0");
    store.put(&format!("{shard}/vectors.f32"), vec![0; 7].into()).await.unwrap();
    assert_eq!(index.ids().await, names(0..50));
    fs::remove_dir_all(dir.path().join(shard)).unwrap();
    assert_eq!(index.ids().await, names(0..50));
}
