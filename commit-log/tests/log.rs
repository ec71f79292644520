//! A log under concurrent writers, damage and restarts; its checkpoints and its clean-up.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bytes::Bytes;
use pagoda_commit_log::{CleanUp, Log, LogError, Lsn, Store};

fn text(payload: &str) -> Bytes {
    Bytes::copy_from_slice(payload.as_bytes())
}

async fn write(store: Store, writer: u32, count: u32) -> Vec<(Lsn, Bytes)> {
    let log = Log::open(store, "log").await.unwrap();
    let mut written = Vec::new();
    for n in 0..count {
        let payload = text(&format!("{writer}/{n}"));
        written.push((log.append(payload.clone()).await.unwrap(), payload));
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_lose_nothing_and_share_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let (a, b) = tokio::join!(
        tokio::spawn(write(store.clone(), 1, 40)),
        tokio::spawn(write(Store::open(dir.path().to_str().unwrap()).unwrap(), 2, 40)),
    );
    let mut acknowledged = [a.unwrap(), b.unwrap()].concat();
    acknowledged.sort();
    let log = Log::open(store, "log").await.unwrap();
    assert_eq!(log.head(), Lsn(80));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), acknowledged);
    let slots: BTreeSet<_> = acknowledged.iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(slots.len(), 80);
}

#[tokio::test]
async fn a_log_opened_again_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || Log::open(Store::open(dir.path().to_str().unwrap()).unwrap(), "index/main/log").await.unwrap();
    assert_eq!(open().await.append(text("one")).await.unwrap(), Lsn(1));
    let again = open().await;
    assert_eq!(again.head(), Lsn(1));
    assert_eq!(again.append(text("two")).await.unwrap(), Lsn(2));
    assert_eq!(open().await.read_after(Lsn(1)).await.unwrap(), [(Lsn(2), text("two"))]);
    assert!(dir.path().join("index/main/log/00000000000000000002").exists());
}

#[tokio::test]
async fn damage_is_found_and_named() {
    let store = Store::open("memory://").unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    for payload in ["one", "two", "three"] {
        log.append(text(payload)).await.unwrap();
    }
    let path = format!("log/{:020}", 2);
    let whole = store.get(&path).await.unwrap();
    let mut flipped = whole.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    for (damaged, says) in
        [(Bytes::from(flipped), "checksum"), (whole.slice(..whole.len() - 1), "torn"), (whole.slice(..5), "torn")]
    {
        store.put(&path, damaged).await.unwrap();
        let error = log.read_after(Lsn(0)).await.unwrap_err();
        let LogError::Damaged { path: at, source } = error else { panic!("{error}") };
        assert_eq!(at, path);
        assert!(source.to_string().contains(says), "{source}");
    }
}

#[tokio::test]
async fn a_writer_stops_at_a_damaged_slot() {
    let store = Store::open("memory://").unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    store.put(&format!("log/{:020}", 1), text("garbage of some length, more than a header has")).await.unwrap();
    assert!(matches!(log.append(text("x")).await, Err(LogError::Damaged { .. })));
}

#[tokio::test]
async fn a_missing_commit_is_found_at_open() {
    let store = Store::open("memory://").unwrap();
    store.put(&format!("log/{:020}", 2), text("x")).await.unwrap();
    let error = Log::open(store.clone(), "log").await.unwrap_err();
    assert!(matches!(error, LogError::Gap { missing: Lsn(1), head: Lsn(2), .. }), "{error}");
    store.put("other/readme.txt", text("x")).await.unwrap();
    assert!(matches!(Log::open(store, "other").await, Err(LogError::Foreign { .. })));
}

async fn log_of(store: &Store, commits: u64) -> Log {
    let log = Log::open(store.clone(), "log").await.unwrap();
    for n in 1..=commits {
        assert_eq!(log.append(text(&format!("commit {n}"))).await.unwrap(), Lsn(n));
    }
    log
}

fn slot(lsn: u64) -> String {
    format!("log/{lsn:020}")
}

fn checkpoint(lsn: u64) -> String {
    format!("log-checkpoints/{lsn:020}")
}

#[tokio::test]
async fn a_cleaned_log_sends_readers_to_the_newest_checkpoint_and_goes_on() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 100).await;
    assert_eq!(log.newest_checkpoint().await.unwrap(), None);
    log.checkpoint(Lsn(70), text("seventy")).await.unwrap();
    assert_eq!(log.clean_up(Lsn(65)).await.unwrap(), CleanUp { stubs: 65, checkpoints_deleted: 0 });
    let error = log.read_after(Lsn(10)).await.unwrap_err();
    assert!(matches!(error, LogError::Cleaned { lsn: Lsn(11), cleaned_to: Lsn(65), .. }), "{error}");
    assert_eq!(log.newest_checkpoint().await.unwrap(), Some((Lsn(70), text("seventy"))));
    assert_eq!(log.read_after(Lsn(65)).await.unwrap().len(), 35);
    let again = Log::open(store, "log").await.unwrap();
    assert_eq!(again.head(), Lsn(100));
    assert_eq!(again.append(text("commit 101")).await.unwrap(), Lsn(101));
    assert_eq!(log.read_after(Lsn(100)).await.unwrap(), [(Lsn(101), text("commit 101"))]);
}

#[tokio::test]
async fn clean_up_takes_up_where_another_was_killed() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 200).await;
    log.checkpoint(Lsn(200), text("all")).await.unwrap();
    log.clean_up(Lsn(90)).await.unwrap();
    // As a clean-up leaves it that was killed within a window: holes.
    let stub = store.get(&slot(90)).await.unwrap();
    for lsn in [91, 93, 110] {
        store.put(&slot(lsn), stub.clone()).await.unwrap();
    }
    let another = Log::open(store.clone(), "log").await.unwrap();
    assert_eq!(another.clean_up(Lsn(150)).await.unwrap().stubs, 60 - 3);
    assert_eq!(another.clean_up(Lsn(150)).await.unwrap().stubs, 0);
    for lsn in 1..=150 {
        let error = log.read_after(Lsn(lsn - 1)).await.unwrap_err();
        assert!(matches!(error, LogError::Cleaned { lsn: Lsn(at), .. } if at == lsn), "{lsn}: {error}");
    }
    assert_eq!(log.read_after(Lsn(150)).await.unwrap().len(), 50);
}

#[tokio::test]
async fn nothing_is_cleaned_up_that_no_whole_checkpoint_covers() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 5).await;
    let covered = |error| match error {
        LogError::NotCovered { newest, .. } => newest,
        other => panic!("{other}"),
    };
    assert_eq!(covered(log.clean_up(Lsn(1)).await.unwrap_err()), None);
    log.checkpoint(Lsn(3), text("three")).await.unwrap();
    log.checkpoint(Lsn(5), text("five")).await.unwrap();
    store.put(&checkpoint(5), text("damage")).await.unwrap();
    assert_eq!(covered(log.clean_up(Lsn(4)).await.unwrap_err()), Some(Lsn(3)));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap().len(), 5);
    log.clean_up(Lsn(3)).await.unwrap();
    let future = log.checkpoint(Lsn(6), text("six")).await.unwrap_err();
    assert!(matches!(future, LogError::NotCommitted { lsn: Lsn(6), .. }), "{future}");
}

#[tokio::test]
async fn only_the_newest_two_checkpoints_are_kept_and_damaged_ones_do_not_count() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 9).await;
    for lsn in [2, 4, 6, 8] {
        log.checkpoint(Lsn(lsn), text("state")).await.unwrap();
    }
    store.put(&checkpoint(6), text("damage")).await.unwrap();
    assert_eq!(log.clean_up(Lsn(4)).await.unwrap(), CleanUp { stubs: 4, checkpoints_deleted: 1 });
    let left: Vec<_> = store.list("log-checkpoints").await.unwrap().into_iter().map(|object| object.path).collect();
    assert_eq!(left, [checkpoint(4), checkpoint(6), checkpoint(8)]);
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over_while_an_older_one_leads_on() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 9).await;
    log.checkpoint(Lsn(4), text("four")).await.unwrap();
    log.checkpoint(Lsn(8), text("eight")).await.unwrap();
    log.clean_up(Lsn(4)).await.unwrap();
    let whole = store.get(&checkpoint(8)).await.unwrap();
    for damage in [whole.slice(..whole.len() - 1), text("damage"), store.get(&checkpoint(4)).await.unwrap()] {
        store.put(&checkpoint(8), damage.clone()).await.unwrap();
        assert_eq!(log.newest_checkpoint().await.unwrap(), Some((Lsn(4), text("four"))));
        // The fold of the same commits mends it.
        log.checkpoint(Lsn(8), text("eight")).await.unwrap();
        assert_eq!(log.newest_checkpoint().await.unwrap(), Some((Lsn(8), text("eight"))));
    }
    assert_eq!(log.clean_up(Lsn(6)).await.unwrap().stubs, 0, "past the older one it would not lead on");
    store.put(&checkpoint(4), text("damage")).await.unwrap();
    assert_eq!(log.clean_up(Lsn(6)).await.unwrap().stubs, 2);
    store.put(&checkpoint(8), text("damage")).await.unwrap();
    let error = log.newest_checkpoint().await.unwrap_err();
    assert!(matches!(&error, LogError::Damaged { path, .. } if *path == checkpoint(8)), "{error}");
    assert_eq!(Log::open(store, "log").await.unwrap().head(), Lsn(9), "where the log ends is known all the same");
}

#[tokio::test]
async fn a_log_without_its_checkpoints_says_what_is_lost() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 9).await;
    log.checkpoint(Lsn(8), text("eight")).await.unwrap();
    store.put(&checkpoint(8), text("damage")).await.unwrap();
    assert_eq!(log.newest_checkpoint().await.unwrap(), None, "the log leads on from its start");
    log.checkpoint(Lsn(8), text("eight")).await.unwrap();
    log.clean_up(Lsn(7)).await.unwrap();
    store.delete(&checkpoint(8)).await.unwrap();
    let error = log.newest_checkpoint().await.unwrap_err();
    assert!(matches!(error, LogError::NoCheckpoint { cleaned_to: Lsn(7), .. }), "{error}");
}

#[tokio::test]
async fn a_gap_after_the_newest_checkpoint_is_found_and_what_it_covers_is_not_listed() {
    let store = Store::open("memory://").unwrap();
    let log = log_of(&store, 9).await;
    log.checkpoint(Lsn(5), text("five")).await.unwrap();
    store.delete(&slot(2)).await.unwrap();
    assert_eq!(Log::open(store.clone(), "log").await.unwrap().head(), Lsn(9));
    store.delete(&slot(7)).await.unwrap();
    let error = Log::open(store.clone(), "log").await.unwrap_err();
    assert!(matches!(error, LogError::Gap { missing: Lsn(7), head: Lsn(9), .. }), "{error}");
    // A checkpoint past the end would lead writers to leave a gap.
    for beyond in [6, 10] {
        store.put(&checkpoint(beyond), text("of another log")).await.unwrap();
        for lsn in 6..=9 {
            store.delete(&slot(lsn)).await.unwrap();
        }
        let error = Log::open(store.clone(), "log").await.unwrap_err();
        assert!(matches!(error, LogError::Gap { missing: Lsn(at), .. } if at == beyond), "{error}");
    }
}

#[tokio::test]
async fn what_a_killed_process_left_unfinished_on_the_disk_is_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let log = log_of(&store, 3).await;
    log.checkpoint(Lsn(2), text("two")).await.unwrap();
    // Files are written beside their place, as `name#1`, and linked or renamed into it.
    for unfinished in
        ["log/00000000000000000004#1", "log/00000000000000000009#1", "log-checkpoints/00000000000000000003#1"]
    {
        std::fs::write(dir.path().join(unfinished), "half").unwrap();
    }
    let again = Log::open(store.clone(), "log").await.unwrap();
    assert_eq!((again.head(), again.newest_checkpoint().await.unwrap()), (Lsn(3), Some((Lsn(2), text("two")))));
    assert_eq!(again.append(text("commit 4")).await.unwrap(), Lsn(4));
    again.checkpoint(Lsn(3), text("three")).await.unwrap();
    assert_eq!(again.clean_up(Lsn(3)).await.unwrap().stubs, 2, "the older checkpoint is of 2");
    assert_eq!(again.read_after(Lsn(3)).await.unwrap(), [(Lsn(4), text("commit 4"))]);
    assert_eq!(store.list("log").await.unwrap().len(), 4);
}
