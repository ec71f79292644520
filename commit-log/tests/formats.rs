//! Logs as older releases left them are read; what a newer release wrote is refused plainly. The files in `fixtures/` are never made anew.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use pagoda_commit_log::{FrameError, Log, LogError, Lsn, Store};

/// A copy of kept files, which may be written to.
async fn kept(version: &str) -> Store {
    let store = Store::open("memory://").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version);
    for folder in std::fs::read_dir(&root).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let bytes = std::fs::read(&file).unwrap();
            store.put(file.strip_prefix(&root).unwrap().to_str().unwrap(), bytes.into()).await.unwrap();
        }
    }
    store
}

fn is_of_the_future(error: &LogError) -> bool {
    matches!(error, LogError::Damaged { source: FrameError::UnknownVersion { found: 3 }, .. })
}

#[tokio::test]
async fn a_log_of_version_1_is_read_and_goes_on() {
    let log = Log::open(kept("version-1").await, "log").await.unwrap();
    let commits = [
        (Lsn(1), Bytes::from_static(b"first commit")),
        (Lsn(2), Bytes::new()),
        (Lsn(3), (0..=255).collect::<Vec<u8>>().into()),
    ];
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), commits);
    assert_eq!(log.append(Bytes::from_static(b"next")).await.unwrap(), Lsn(4));
    log.checkpoint(Lsn(3), Bytes::from_static(b"three")).await.unwrap();
    assert_eq!(log.clean_up(Lsn(3)).await.unwrap().stubs, 3);
}

#[tokio::test]
async fn commits_are_still_written_as_version_1_and_kept_byte_for_byte() {
    let store = kept("version-1").await;
    let log = Log::open(store.clone(), "log").await.unwrap();
    log.append(Bytes::from_static(b"next")).await.unwrap();
    let (old, new) =
        (store.get("log/00000000000000000001").await.unwrap(), store.get("log/00000000000000000004").await.unwrap());
    assert_eq!(old[..12], new[..12], "magic, version and kind");
}

#[tokio::test]
async fn a_log_of_version_2_is_read_from_its_checkpoint() {
    let log = Log::open(kept("version-2").await, "log").await.unwrap();
    assert_eq!(log.head(), Lsn(4));
    assert!(matches!(log.read_after(Lsn(0)).await, Err(LogError::Cleaned { lsn: Lsn(1), cleaned_to: Lsn(2), .. })));
    assert_eq!(log.newest_checkpoint().await.unwrap(), Some((Lsn(2), Bytes::from_static(b"state after 2"))));
    let commits = log.read_after(Lsn(2)).await.unwrap();
    assert_eq!(commits, [(Lsn(3), Bytes::from_static(b"commit 3")), (Lsn(4), Bytes::from_static(b"commit 4"))]);
}

#[tokio::test]
async fn what_a_newer_release_wrote_is_refused_plainly() {
    let store = kept("version-3").await;
    let log = Log::open(store.clone(), "log").await.unwrap();
    let error = log.read_after(Lsn(0)).await.unwrap_err();
    assert!(is_of_the_future(&error), "{error}");
    let LogError::Damaged { source, .. } = &error else { unreachable!() };
    assert_eq!(source.to_string(), "log format version 3, this program reads up to 2: use a newer one");
}

#[tokio::test]
async fn a_writer_that_comes_across_a_newer_commit_stops() {
    let newer = kept("version-3").await.get("log/00000000000000000001").await.unwrap();
    let store = Store::open("memory://").unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    store.put("log/00000000000000000001", newer).await.unwrap();
    assert!(is_of_the_future(&log.append(Bytes::from_static(b"x")).await.unwrap_err()));
}

#[tokio::test]
async fn a_newer_checkpoint_is_refused_where_the_log_leads_on_from_no_other() {
    let store = kept("version-2").await;
    let newer = kept("version-3").await.get("log-checkpoints/00000000000000000001").await.unwrap();
    store.put("log-checkpoints/00000000000000000002", newer).await.unwrap();
    let log = Log::open(store, "log").await.unwrap();
    assert!(is_of_the_future(&log.newest_checkpoint().await.unwrap_err()));
    assert!(matches!(log.clean_up(Lsn(2)).await, Err(LogError::NotCovered { .. })));
}
