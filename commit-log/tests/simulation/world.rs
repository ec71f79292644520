//! One seed's world: who lives in it, and what must hold when it ends.

use std::{
    collections::BTreeSet,
    ops::AddAssign,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use pagoda_commit_log::{
    Log, LogError, LogOptions, Lsn, Store, StoreError,
    faulty::{Faults, FaultyStore, Gate},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::{sleep, timeout};

use crate::fold::{Fold, Follower};

const WRITERS: u64 = 3;
const APPENDS: u64 = 6;
const PREFIX: &str = "index/main/log";
/// The bytes before the payload in a log object.
const HEADER_BYTES: usize = 40;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    /// Appends that ended in an error; they may be in the log.
    pub(crate) given_up: u64,
    /// Appends whose writer was killed under way.
    pub(crate) killed: u64,
    pub(crate) cleaned: u64,
    pub(crate) restarts_from_a_checkpoint: u64,
    pub(crate) calls: u64,
}

#[derive(Clone)]
pub(crate) struct World {
    seed: u64,
    faults: Faults,
    objects: FaultyStore,
    journal: Arc<Mutex<Journal>>,
}

/// What the world's inhabitants know to be true.
#[derive(Default)]
struct Journal {
    submitted: BTreeSet<String>,
    acknowledged: Vec<(Lsn, String)>,
    /// Positions at which somebody was, and the digest of what they held there.
    seen: Vec<(Lsn, u64)>,
    tally: Tally,
    /// Tells logs of one world apart; each needs a seed of its own.
    logs: u64,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let objects = FaultyStore::new(seed, faults.clone());
        Self { seed, faults, objects, journal: Arc::default() }
    }

    /// From the first append to the check of all promises.
    pub(crate) async fn live(self) -> Tally {
        let mut lives = Vec::new();
        for n in 0..WRITERS {
            lives.push(tokio::spawn(self.clone().writer(n, self.objects.store())));
        }
        let (store, gate) = self.objects.gated();
        lives.push(tokio::spawn(self.clone().writer(WRITERS, store)));
        lives.push(tokio::spawn(self.clone().stop_and_resume(gate)));
        let others = [
            tokio::spawn(self.clone().cleaner(10)),
            tokio::spawn(self.clone().cleaner(11)),
            tokio::spawn(self.clone().follower(20)),
            tokio::spawn(self.clone().follower(21)),
        ];
        for life in lives {
            life.await.unwrap();
        }
        for other in others {
            other.abort();
            if let Err(error) = other.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.objects.set_faults(Faults { clock_skew_max: self.faults.clock_skew_max, ..Faults::default() });
        // What is still under way may land until then.
        sleep(Duration::from_secs(2 * 3600)).await;
        self.check().await
    }

    async fn writer(self, n: u64, store: Store) {
        let mut rolls = self.rolls(n);
        let mut log = None;
        for append in 0..APPENDS {
            sleep(Duration::from_millis(rolls.random_range(0..20_000))).await;
            let payload = format!("{n}.{append}:{}", "x".repeat(rolls.random_range(0..50)));
            self.journal(|journal| journal.submitted.insert(payload.clone()));
            let open = match log.take() {
                Some(open) => open,
                None => self.open(store.clone()).await,
            };
            let killed_after = if rolls.random_bool(0.1) { rolls.random_range(0..3_000) } else { 1 << 40 };
            let done = timeout(Duration::from_millis(killed_after), open.append(Bytes::from(payload.clone()))).await;
            self.journal(|journal| match &done {
                Ok(Ok(lsn)) => journal.acknowledged.push((*lsn, payload)),
                Ok(Err(error)) if passes(error) => journal.tally.given_up += 1,
                Ok(Err(error)) => panic!("{error:?}"),
                Err(_) => journal.tally.killed += 1,
            });
            // A killed writer starts anew.
            log = done.is_ok().then_some(open);
        }
    }

    /// Stops the last writer for hours at a time, wherever it is.
    async fn stop_and_resume(self, gate: Gate) {
        let mut rolls = self.rolls(99);
        for _ in 0..3 {
            sleep(Duration::from_millis(rolls.random_range(0..30_000))).await;
            gate.close();
            sleep(Duration::from_secs(rolls.random_range(0..1_000))).await;
            gate.open();
        }
    }

    async fn cleaner(self, n: u64) {
        let mut rolls = self.rolls(n);
        loop {
            let mut follower = Follower::new(self.open(self.objects.store()).await);
            let killed_after = Duration::from_millis(rolls.random_range(1_000..600_000));
            let _ = timeout(killed_after, self.clean_up_often(&mut follower, &mut rolls)).await;
        }
    }

    async fn clean_up_often(&self, follower: &mut Follower, rolls: &mut SmallRng) {
        let (mut before, mut pace) = (Lsn(0), Pace::default());
        loop {
            pace.rest(rolls, follower.fold.lsn()).await;
            if !self.follow(follower).await || follower.fold.lsn() == before {
                continue;
            }
            let lsn = follower.fold.lsn();
            let kept = follower.log.checkpoint(lsn, follower.fold.encode()).await;
            // Sometimes up to the newest checkpoint, sometimes up to the one before.
            let up_to = if rolls.random() { lsn } else { before };
            match kept {
                Ok(()) => before = lsn,
                Err(LogError::NotCommitted { lsn: Lsn(0), .. }) => continue,
                Err(error) => assert!(passes(&error), "{error:?}"),
            }
            match follower.log.clean_up(up_to).await {
                Ok(done) => self.journal(|journal| journal.tally.cleaned += done.stubs),
                Err(error) => assert!(passes(&error), "{error:?}"),
            }
        }
    }

    async fn follower(self, n: u64) {
        let (mut rolls, mut pace) = (self.rolls(n), Pace::default());
        loop {
            let mut follower = Follower::new(self.open(self.objects.store()).await);
            for _ in 0..rolls.random_range(1..10) {
                self.follow(&mut follower).await;
                pace.rest(&mut rolls, follower.fold.lsn()).await;
            }
        }
    }

    /// Follows, and notes what it sees; says whether it got to the end.
    async fn follow(&self, follower: &mut Follower) -> bool {
        let restarts = follower.restarts;
        let followed = follower.follow().await;
        self.journal(|journal| {
            journal.tally.restarts_from_a_checkpoint += follower.restarts - restarts;
            journal.seen.push((follower.fold.lsn(), follower.fold.digest()));
        });
        match followed {
            Ok(()) => true,
            Err(error) if passes(&error) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn open(&self, store: Store) -> Log {
        loop {
            let log = self.journal(|journal| {
                journal.logs += 1;
                journal.logs
            });
            let options = LogOptions { seed: Some(log), ..LogOptions::default() };
            match Log::open_with(store.clone(), PREFIX, options).await {
                Ok(log) => return log,
                Err(error) => assert!(passes(&error), "{error:?}"),
            }
        }
    }

    async fn check(self) -> Tally {
        let mut reader = Follower::new(Log::open(self.objects.honest(), PREFIX).await.unwrap());
        reader.follow().await.unwrap();
        let history = reader.fold;
        assert_eq!(reader.log.head(), history.lsn());
        self.check_history(&history);
        let journal = std::mem::take(&mut *self.journal.lock().unwrap());
        for (lsn, payload) in &journal.acknowledged {
            assert_eq!(history.payloads().get(lsn.0 as usize - 1), Some(payload), "acknowledged at {lsn}, lost");
        }
        for payload in history.payloads() {
            assert!(journal.submitted.contains(payload), "nobody wrote {payload:?}");
        }
        let once: BTreeSet<_> = history.payloads().iter().collect();
        assert_eq!(once.len(), history.payloads().len(), "an append was committed twice");
        for (lsn, digest) in journal.seen {
            assert_eq!(digest, history.digest_at(lsn), "what was seen at {lsn} is not what is there");
        }
        let acknowledged = journal.acknowledged.len() as u64;
        Tally { acknowledged, calls: self.objects.calls(), ..journal.tally }
    }

    /// What landed first in each slot is the history, for good.
    fn check_history(&self, history: &Fold) {
        let created = self.objects.created();
        for (payload, lsn) in history.payloads().iter().zip(1..) {
            let object = &created[&format!("{PREFIX}/{lsn:020}")];
            assert_eq!(payload.as_bytes(), &object[HEADER_BYTES..], "slot {lsn} was used again");
        }
    }

    fn journal<T>(&self, note: impl FnOnce(&mut Journal) -> T) -> T {
        note(&mut self.journal.lock().unwrap())
    }

    fn rolls(&self, n: u64) -> SmallRng {
        SmallRng::seed_from_u64(self.seed.wrapping_mul(1000) + n)
    }
}

/// Rests longer while nothing is new, so that the hours in which the world waits for one who is stopped cost little.
#[derive(Default)]
struct Pace {
    at: Lsn,
    idle: u32,
}

impl Pace {
    async fn rest(&mut self, rolls: &mut SmallRng, at: Lsn) {
        self.idle = if at == self.at { (self.idle + 1).min(10) } else { 0 };
        self.at = at;
        sleep(Duration::from_millis(rolls.random_range(0..10_000)) * 2_u32.pow(self.idle)).await;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.given_up += other.given_up;
        self.killed += other.killed;
        self.cleaned += other.cleaned;
        self.restarts_from_a_checkpoint += other.restarts_from_a_checkpoint;
        self.calls += other.calls;
    }
}

/// Whether an error is the store's, and not the log's.
fn passes(error: &LogError) -> bool {
    match error {
        LogError::Store(StoreError::Unavailable { .. }) | LogError::Contended { .. } => true,
        // A checkpoint that could not be written covers nothing.
        LogError::NotCovered { .. } => true,
        _ => false,
    }
}
