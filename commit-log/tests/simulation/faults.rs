//! The faults by name, each alone.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use pagoda_commit_log::{
    Log, LogError, LogOptions, Lsn, Store, StoreError,
    faulty::{Fault, Faults, FaultyStore},
};
use tokio::time::{Instant, sleep, timeout};

use crate::fold::Follower;

fn text(payload: &str) -> Bytes {
    Bytes::copy_from_slice(payload.as_bytes())
}

fn smooth() -> FaultyStore {
    FaultyStore::new(1, Faults::default())
}

async fn open(store: Store) -> Log {
    Log::open(store, "log").await.unwrap()
}

/// What is in the log, as one who reads it from the start sees it.
async fn commits(objects: &FaultyStore) -> Vec<(Lsn, Bytes)> {
    open(objects.honest()).await.read_after(Lsn(0)).await.unwrap()
}

/// Checkpoints and cleans up to the log's end.
async fn checkpoint_and_clean_up(objects: &FaultyStore) -> Follower {
    let mut follower = Follower::new(open(objects.honest()).await);
    follower.follow().await.unwrap();
    let lsn = follower.fold.lsn();
    follower.log.checkpoint(lsn, follower.fold.encode()).await.unwrap();
    follower.log.clean_up(lsn).await.unwrap();
    follower
}

#[tokio::test(start_paused = true)]
async fn a_writer_killed_at_any_moment_leaves_its_commit_whole_or_absent_and_an_acknowledged_one_present() {
    let (mut present, mut absent) = (0, 0);
    for killed_after_ms in 0..120 {
        let objects =
            FaultyStore::new(killed_after_ms, Faults { latency_max: Duration::from_millis(50), ..Faults::default() });
        let log = open(objects.store()).await;
        log.append(text("before")).await.unwrap();
        let acknowledged = timeout(Duration::from_millis(killed_after_ms), log.append(text("batch"))).await.is_ok();
        let restarted = open(objects.store()).await;
        let retried = restarted.append(text("after")).await.unwrap();
        let found = commits(&objects).await;
        match &found[..] {
            [_, (_, batch), (lsn, _)] if batch == "batch" && *lsn == retried => present += 1,
            [_, (lsn, _)] if *lsn == retried && !acknowledged => absent += 1,
            _ => panic!("killed after {killed_after_ms} ms: {found:?}"),
        }
    }
    assert!(present > 0 && absent > 0, "{present} {absent}");
}

#[tokio::test(start_paused = true)]
async fn a_torn_commit_stops_writers_and_readers_and_no_checkpoint_passes_it() {
    let objects = smooth();
    let log = open(objects.store()).await;
    log.append(text("one")).await.unwrap();
    objects.script([Fault::Torn]);
    let is_damage = |error: &LogError| matches!(error, LogError::Damaged { path, .. } if path.ends_with('2'));
    let torn = log.append(text("two")).await.unwrap_err();
    assert!(is_damage(&torn), "not acknowledged, and named: {torn}");
    assert!(is_damage(&open(objects.store()).await.append(text("three")).await.unwrap_err()));
    let mut follower = Follower::new(open(objects.store()).await);
    assert!(is_damage(&follower.follow().await.unwrap_err()));
    assert_eq!(follower.fold.lsn(), Lsn(0), "of a batch of commits that is damaged none is handed out");
}

#[tokio::test(start_paused = true)]
async fn a_torn_checkpoint_is_written_again() {
    let objects = smooth();
    let log = open(objects.store()).await;
    log.append(text("one")).await.unwrap();
    objects.script([Fault::Torn]);
    log.checkpoint(Lsn(1), text("state")).await.unwrap();
    assert_eq!(log.newest_checkpoint().await.unwrap(), Some((Lsn(1), text("state"))));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_a_third_of_its_calls_delays_acks_and_never_fakes_one() {
    let faults = Faults { unavailable: 0.25, hang: 0.02, lost_reply: 0.1, ..Faults::default() };
    let objects = FaultyStore::new(7, faults);
    let log = open(objects.store()).await;
    for n in 1..=200 {
        assert_eq!(log.append(text(&n.to_string())).await.unwrap(), Lsn(n), "within the budget, at its own position");
    }
    let found = commits(&objects).await;
    assert!(found.iter().zip(1_u64..).all(|((lsn, payload), n)| *lsn == Lsn(n) && *payload == n.to_string()));
    assert_eq!(found.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_append_to_a_store_that_is_gone_ends_within_its_budget() {
    let objects = smooth();
    let options = LogOptions { retry_budget: Duration::from_secs(9), ..LogOptions::default() };
    let log = Log::open_with(objects.store(), "log", options).await.unwrap();
    objects.set_faults(Faults { unavailable: 1.0, ..Faults::default() });
    let began = Instant::now();
    let error = log.append(text("one")).await.unwrap_err();
    assert!(matches!(error, LogError::Store(StoreError::Unavailable { .. })), "{error}");
    assert!(
        began.elapsed() >= Duration::from_secs(5) && began.elapsed() <= Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    objects.set_faults(Faults::default());
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1), "the slot was left free");
}

#[tokio::test(start_paused = true)]
async fn an_append_to_a_store_that_is_silent_ends_within_its_budget() {
    let objects = smooth();
    let retry_budget = Duration::from_secs(5);
    let options = LogOptions { retry_budget, ..LogOptions::default() };
    let log = Log::open_with(objects.store(), "log", options).await.unwrap();
    objects.script([Fault::Hang]);
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1), "one call may be silent");
    objects.set_faults(Faults { hang: 1.0, ..Faults::default() });
    let began = Instant::now();
    let error = log.append(text("two")).await.unwrap_err();
    assert!(matches!(error, LogError::Store(StoreError::Unavailable { .. })), "{error}");
    assert!(began.elapsed() <= retry_budget + Duration::from_millis(10), "{:?}", began.elapsed());
    let began = Instant::now();
    log.read_after(Lsn(1)).await.unwrap_err();
    assert!(began.elapsed() < retry_budget * 2, "{:?}", began.elapsed());
    objects.set_faults(Faults::default());
    assert_eq!(log.append(text("two")).await.unwrap(), Lsn(2));
}

/// Of what is cut off, some lands, and whose it is the put id says.
#[tokio::test(start_paused = true)]
async fn a_store_that_often_takes_longer_than_the_budget_delays_acks_and_never_fakes_one() {
    let objects = smooth();
    let options = LogOptions { retry_budget: Duration::from_secs(5), ..LogOptions::default() };
    let log = Log::open_with(objects.store(), "log", options).await.unwrap();
    objects.set_faults(Faults { latency_max: Duration::from_millis(2500), ..Faults::default() });
    let (mut acknowledged, mut given_up) = (Vec::new(), 0);
    for n in 0..200 {
        match log.append(text(&n.to_string())).await {
            Ok(lsn) => acknowledged.push((lsn, text(&n.to_string()))),
            Err(LogError::Store(StoreError::Unavailable { .. })) => given_up += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(acknowledged.len() > 50 && given_up > 10, "{} {given_up}", acknowledged.len());
    let found = commits(&objects).await;
    assert!(acknowledged.iter().all(|commit| found.contains(commit)));
    let once: BTreeSet<_> = found.iter().map(|(_, payload)| payload).collect();
    assert_eq!(once.len(), found.len(), "an append was committed twice");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_settled_by_the_put_id() {
    let objects = smooth();
    let log = open(objects.store()).await;
    objects.script([Fault::LostReply]);
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1));
    assert_eq!(log.append(text("two")).await.unwrap(), Lsn(2));
    assert_eq!(commits(&objects).await, [(Lsn(1), text("one")), (Lsn(2), text("two"))]);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_lands_after_its_retry_is_one_commit() {
    let objects = smooth();
    let log = open(objects.store()).await;
    objects.script([Fault::Late(Duration::from_millis(1))]);
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(log.append(text("two")).await.unwrap(), Lsn(2));
    assert_eq!(commits(&objects).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_settled_even_when_the_commit_was_cleaned_up_meanwhile() {
    let objects = FaultyStore::new(1, Faults { latency_max: Duration::from_secs(5), ..Faults::default() });
    let (store, gate) = objects.gated();
    let log = open(store).await;
    objects.script([Fault::LostReply]);
    let append = tokio::spawn(async move { log.append(text("one")).await });
    while objects.honest().list("log").await.unwrap().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    gate.close();
    // The put has landed, the writer has not heard of it.
    checkpoint_and_clean_up(&objects).await;
    gate.open();
    assert_eq!(append.await.unwrap().unwrap(), Lsn(1), "the stub says whose the commit was");
    assert_eq!(open(objects.honest()).await.head(), Lsn(1), "no duplicate");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_over_a_free_slot_is_tried_again() {
    let objects = smooth();
    let log = open(objects.store()).await;
    objects.script([Fault::Conflict; 3]);
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1));
    objects.set_faults(Faults { conflict: 1.0, ..Faults::default() });
    assert!(log.append(text("two")).await.is_err(), "and not for ever");
    objects.set_faults(Faults::default());
    assert_eq!(log.append(text("two")).await.unwrap(), Lsn(2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_create_only_is_refused_whatever_lies_there() {
    for first in [None, Some(Fault::Conflict), Some(Fault::LostReply)] {
        let objects = smooth();
        objects.honest().put("probes/create-only", text("an old probe")).await.unwrap();
        // Two writers start at once, and the first answers tell them nothing.
        objects.script(first.into_iter().chain([Fault::Overwrites; 20]));
        let (one, two) = (objects.store(), objects.store());
        for refused in <[_; 2]>::from(tokio::join!(one.probe_create_only(), two.probe_create_only())) {
            let error = refused.unwrap_err();
            assert!(matches!(error, StoreError::IgnoresCreateOnly { .. }), "{first:?}: {error}");
            assert!(error.to_string().contains("ignores create-only puts"), "{error}");
        }
        assert_eq!(objects.honest().list("probes").await.unwrap().len(), 1, "the probes are gone again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_honest_store_passes_the_probe_when_replies_are_lost() {
    let objects = smooth();
    objects.script([Fault::LostReply, Fault::Conflict, Fault::Conflict]);
    let (one, two) = (objects.store(), objects.store());
    let (one, two) = tokio::join!(one.probe_create_only(), two.probe_create_only());
    one.unwrap();
    two.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_an_answer_proves_nothing() {
    let objects = smooth();
    let store = objects.store();
    objects.script([Fault::Unavailable; 4]);
    assert!(matches!(store.probe_create_only().await, Err(StoreError::Unavailable { .. })));
    store.probe_create_only().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_writer_paused_for_longer_than_checkpoint_and_clean_up_cannot_commit_into_the_past() {
    let objects = smooth();
    let (store, gate) = objects.gated();
    let zombie = open(store).await;
    gate.close();
    let append = tokio::spawn(async move { (zombie.append(text("zombie")).await, zombie) });
    // It is on its way to slot 1.
    sleep(Duration::from_secs(1)).await;
    let living = open(objects.store()).await;
    for n in 0..100 {
        living.append(text(&n.to_string())).await.unwrap();
    }
    let follower = checkpoint_and_clean_up(&objects).await;
    sleep(Duration::from_secs(5 * 3600)).await;
    let calls = objects.calls();
    gate.open();
    let (lsn, zombie) = append.await.unwrap();
    assert_eq!(lsn.unwrap(), Lsn(101));
    assert!(objects.calls() - calls < 10, "it jumps");
    // What it held to be the past is told to be gone; the newest checkpoint and what follows is the whole.
    assert!(matches!(zombie.read_after(Lsn(0)).await, Err(LogError::Cleaned { cleaned_to: Lsn(100), .. })));
    let mut late = Follower::new(zombie);
    late.follow().await.unwrap();
    assert_eq!(late.fold.lsn(), Lsn(101));
    assert_eq!(late.fold.digest_at(Lsn(100)), follower.fold.digest());
}

#[tokio::test(start_paused = true)]
async fn a_put_that_lands_hours_later_finds_its_slot_taken() {
    let objects = smooth();
    let options = LogOptions { retry_budget: Duration::ZERO, ..LogOptions::default() };
    let log = Log::open_with(objects.store(), "log", options).await.unwrap();
    objects.script([Fault::Late(Duration::from_secs(5 * 3600))]);
    log.append(text("given up")).await.unwrap_err();
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1));
    checkpoint_and_clean_up(&objects).await;
    sleep(Duration::from_secs(6 * 3600)).await;
    let mut reader = Follower::new(open(objects.store()).await);
    reader.follow().await.unwrap();
    assert_eq!(reader.fold.payloads(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_far_behind_does_not_walk_through_what_others_wrote() {
    let objects = smooth();
    let behind = open(objects.store()).await;
    let ahead = open(objects.honest()).await;
    for n in 0..500 {
        ahead.append(text(&n.to_string())).await.unwrap();
    }
    let calls = objects.calls();
    assert_eq!(behind.append(text("late")).await.unwrap(), Lsn(501));
    assert!(objects.calls() - calls < 50, "{}", objects.calls() - calls);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_runs_while_others_write_is_no_gap() {
    let objects = smooth();
    let log = open(objects.store()).await;
    for n in 0..5 {
        log.append(text(&n.to_string())).await.unwrap();
    }
    objects.hide_once(&format!("log/{:020}", 3));
    assert_eq!(open(objects.store()).await.head(), Lsn(5));
}

#[tokio::test(start_paused = true)]
async fn no_order_comes_from_a_clock() {
    let mut orders = Vec::new();
    for clock_skew_max in [Duration::ZERO, Duration::from_secs(600), Duration::from_secs(86_400 * 365)] {
        // Every listing tells other times of change, forwards and backwards.
        let objects = FaultyStore::new(3, Faults { clock_skew_max, ..Faults::default() });
        let (one, two) = (open(objects.store()).await, open(objects.store()).await);
        for n in 0..20 {
            let log = if n % 3 == 0 { &one } else { &two };
            log.append(text(&n.to_string())).await.unwrap();
            if n % 5 == 4 {
                log.checkpoint(Lsn(n), text(&n.to_string())).await.unwrap();
                log.clean_up(Lsn(n - 1)).await.unwrap();
            }
        }
        let reopened = open(objects.store()).await;
        let newest = reopened.newest_checkpoint().await.unwrap();
        orders.push((reopened.head(), newest.clone(), reopened.read_after(newest.unwrap().0).await.unwrap()));
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    assert_eq!(orders[0].1, Some((Lsn(19), text("19"))));
}
