//! A disk that is full, read-only, or fails to flush. The first two run in a mount namespace of their own, with a small disk in memory;
//! where the system does not let them they skip and say so.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

use bytes::Bytes;
use pagoda_commit_log::{
    Access, Log, LogError, Lsn, Store, StoreError,
    faulty::{Fault, Faults, FaultyStore},
};

/// Set in the process that has the small disk: where it is.
const DISK: &str = "PAGODA_TEST_DISK";
const DISK_BYTES: usize = 256 << 10;

/// The small disk, in the process that has one. Elsewhere starts this test anew in such a process, with the disk prepared, and waits.
fn small_disk(test: &str, prepare: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]).env(DISK, dir.path());
        command
    };
    let mount = format!("mount -t tmpfs -o size={DISK_BYTES} tmpfs \"${DISK}\"");
    if !namespace(&mount).output().is_ok_and(|mounted| mounted.status.success()) {
        println!("skipped: this system lets no test mount a disk of its own");
        return None;
    }
    let script = format!("{mount}; {prepare}; exec \"$0\" --exact {test} --nocapture");
    let status = namespace(&script).arg(std::env::current_exe().unwrap()).status();
    assert!(status.unwrap().success(), "{test} failed on its small disk");
    None
}

fn bytes(n: usize) -> Bytes {
    vec![7; n].into()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reading_and_recovers_without_a_restart() {
    let test = "a_full_disk_refuses_writes_keeps_reading_and_recovers_without_a_restart";
    let Some(disk) = small_disk(test, "true") else { return };
    let store = Store::open(disk.join("store").to_str().unwrap()).unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    assert_eq!(log.append(bytes(1000)).await.unwrap(), Lsn(1));
    let full = |error: &LogError| matches!(error, LogError::Store(StoreError::Full { .. }));
    let error = log.append(bytes(2 * DISK_BYTES)).await.unwrap_err();
    assert!(full(&error), "{error:?}");
    assert_eq!(store.list("log").await.unwrap().len(), 1, "nothing is left of it");
    assert_eq!(std::fs::read_dir(disk.join("store/log")).unwrap().count(), 1, "nor beside it");
    let filler = disk.join("filler");
    std::fs::write(&filler, vec![0; DISK_BYTES]).unwrap_err();
    assert!(full(&log.append(bytes(10_000)).await.unwrap_err()));
    assert!(full(&log.checkpoint(Lsn(1), bytes(10_000)).await.unwrap_err()));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), [(Lsn(1), bytes(1000))]);
    std::fs::remove_file(filler).unwrap();
    assert_eq!(log.append(bytes(10_000)).await.unwrap(), Lsn(2));
    log.checkpoint(Lsn(1), bytes(10_000)).await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_is_no_permission() {
    let test = "a_read_only_disk_is_no_permission";
    let prepare = format!("mkdir \"${DISK}/log\"; mount -o remount,ro \"${DISK}\"");
    let Some(disk) = small_disk(test, &prepare) else { return };
    let store = Store::open(disk.to_str().unwrap()).unwrap();
    let error = store.probe_create_only().await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { access: Access::Write, .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(disk.to_str().unwrap()) && said.contains("no permission to write"), "{said}");
    let log = Log::open(store, "log").await.unwrap();
    assert!(matches!(log.append(bytes(1)).await, Err(LogError::Store(StoreError::Denied { .. }))));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), []);
}

/// A failed flush of the directory looks so: the object is in its place, and the put failed.
#[tokio::test]
async fn what_a_disk_could_not_flush_is_not_acknowledged_though_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let objects = FaultyStore::in_directory(dir.path().to_str().unwrap(), 1, Faults::default()).unwrap();
    let log = Log::open(objects.store(), "log").await.unwrap();
    objects.script([Fault::LostReply]);
    let error = log.append(bytes(1)).await.unwrap_err();
    assert!(matches!(error, LogError::Store(StoreError::Unavailable { .. })), "{error:?}");
    assert!(objects.store().exists("log/00000000000000000001").await.unwrap());
    assert_eq!(log.append(bytes(2)).await.unwrap(), Lsn(2), "what comes after flushes the directory anew");
    objects.script([Fault::LostReply]);
    log.checkpoint(Lsn(2), bytes(3)).await.unwrap_err();
}

#[tokio::test]
async fn no_checkpoint_is_written_of_commits_that_could_not_be_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    log.append(bytes(1)).await.unwrap();
    // As if the folder could not be flushed: it cannot be opened.
    let (folder, away) = (dir.path().join("log"), dir.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    log.checkpoint(Lsn(1), bytes(2)).await.unwrap_err();
    assert_eq!(store.list("log-checkpoints").await.unwrap(), []);
    std::fs::rename(&away, &folder).unwrap();
    log.checkpoint(Lsn(1), bytes(2)).await.unwrap();
}
