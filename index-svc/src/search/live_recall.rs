//! [`LiveRecall`]: a share of live queries is searched exactly as well, off the serving path, so that what is lost is a metric.
//!
//! A check scans everything, so that its cost grows with the catalog: after each one the checking thread rests, for so long that it takes no
//! more than its share of a core. What comes meanwhile is dropped, which does not depend on the queries. It has the processor time that searches leave,
//! and drops a check for which they leave too little.
//!
//! For each such query, with k' the number of items that the exact search finds:
//! - **approximation loss**: the share of the k' that the approximate search misses with neither filter nor exclusions nor groups;
//! - **filter loss**: the share that it misses with them, less the approximation loss. Below 0 where a filter is so narrow that the search is exact:
//!   then it is a **gain**, counted by itself, because the sum of a histogram must not fall;
//! - **staleness loss**: the share of what an exact search of the newest snapshot finds that an exact search of the query's snapshot did not. The
//!   newest is the one that is current when the query is checked, moments later: what is counted is how fast the index moves under its readers.
//!
//! As metrics: `index_live_recall_checked_total` and `index_live_recall_dropped_total`, counters of queries, and `index_live_recall_loss`, a
//! histogram by `kind` (`approximation`, `filter`, `filter_gain`, `staleness`), whose sum over its count is the mean.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use pagoda_ann::Stop;

use super::{Answer, Query, Ranking, search};
use crate::{background::idle_thread, current::Current, error::IndexError, filter::Filter, snapshot::Snapshot};

const CHECKED: &str = "index_live_recall_checked_total";
const DROPPED: &str = "index_live_recall_dropped_total";
const LOSS: &str = "index_live_recall_loss";
const KINDS: [&str; 4] = ["approximation", "filter", "filter_gain", "staleness"];

/// A check that takes longer is dropped, and the snapshots that it holds are let go.
const CHECK_TIME: Duration = Duration::from_secs(5);
/// Queries that wait to be checked; further ones are dropped and counted.
const QUEUE_CAPACITY: usize = 16;

/// Takes its share of the queries that were answered. Clones share one queue; the checking thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct LiveRecall {
    queue: SyncSender<Sample>,
    every: u64,
    seen: Arc<AtomicU64>,
}

/// What was lost of one query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// To approximation alone, 0 to 1.
    pub approximation: f64,
    /// To filter, exclusions and groups beyond that, -1 to 1.
    pub filter: f64,
    /// To the snapshot having been replaced, 0 to 1.
    pub staleness: f64,
}

struct Sample {
    query: Query,
    snapshot: Arc<Snapshot>,
    answered: Ranking,
}

impl LiveRecall {
    /// Starts the checking thread. `share` is of the queries, `core_share` of a core's time; both are above 0 and at most 1.
    pub fn start(current: Current, share: f64, core_share: f64) -> Self {
        let (queue, samples) = sync_channel(QUEUE_CAPACITY);
        let checking = move || check_all(&samples, &current, core_share);
        if let Err(error) = idle_thread("live-recall", checking) {
            tracing::error!(%error, "no thread for live recall: it is not measured");
        }
        Self { queue, every: (1.0 / share).round().max(1.0) as u64, seen: Arc::default() }
    }

    /// Hands a query on to be checked, if it is its turn. Never waits. Searches that are exact by request lose nothing.
    pub(super) fn consider(&self, snapshot: &Arc<Snapshot>, query: Query, answer: &Answer) {
        let turn = self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every);
        let [answered] = answer.rankings.as_slice() else { return };
        if !turn || query.exact {
            return;
        }
        let sample = Sample { query, snapshot: snapshot.clone(), answered: answered.clone() };
        if self.queue.try_send(sample).is_err() {
            count_dropped();
        }
    }
}

fn check_all(samples: &Receiver<Sample>, current: &Current, core_share: f64) {
    while let Ok(sample) = samples.recv() {
        let began = Instant::now();
        let stop = Stop { deadline: Some(began + CHECK_TIME), cancelled: None };
        match sample.losses(&current.load_full(), stop) {
            Ok(losses) => losses.record(),
            Err(IndexError::DeadlineExceeded) => count_dropped(),
            // Its space may have gone with the newest snapshot; such a query tells nothing.
            Err(error) => tracing::debug!(%error, "a live query was not checked"),
        }
        drop(sample);
        let seconds = began.elapsed().as_secs_f64() * (1.0 / core_share - 1.0);
        rest(samples, Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
}

/// Passes over what comes for so long.
fn rest(samples: &Receiver<Sample>, time: Duration) {
    let began = Instant::now();
    while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        match samples.recv_timeout(left) {
            Ok(_) => count_dropped(),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn count_dropped() {
    counter!(DROPPED).increment(1);
}

/// Says what each of these metrics is, and shows them before there are any queries.
pub(crate) fn describe() {
    describe_counter!(CHECKED, Unit::Count, "Live queries that were searched exactly as well.");
    describe_counter!(
        DROPPED,
        Unit::Count,
        "Live queries that were drawn to be checked and were not, for want of time."
    );
    describe_histogram!(
        LOSS,
        Unit::Count,
        "Share of the exact items that a live query missed, by what it was lost to."
    );
    counter!(CHECKED).increment(0);
    counter!(DROPPED).increment(0);
    KINDS.iter().for_each(|kind| drop(histogram!(LOSS, "kind" => *kind)));
}

impl Sample {
    fn losses(&self, newest: &Arc<Snapshot>, stop: Stop<'_>) -> Result<Losses, IndexError> {
        let plain = Query { filter: Filter::default(), exclude: Vec::new(), group_by: None, ..self.query.clone() };
        let is_plain =
            self.query.filter.all.is_empty() && self.query.exclude.is_empty() && self.query.group_by.is_none();
        let exact = ranking(&self.snapshot, &exactly(&self.query), stop)?;
        let missed = share_missed(&self.answered, &exact);
        let approximation = if is_plain {
            missed
        } else {
            share_missed(&ranking(&self.snapshot, &plain, stop)?, &ranking(&self.snapshot, &exactly(&plain), stop)?)
        };
        let staleness = if newest.lsn == self.snapshot.lsn {
            0.0
        } else {
            share_missed(&exact, &ranking(newest, &exactly(&self.query), stop)?)
        };
        Ok(Losses { approximation, filter: missed - approximation, staleness })
    }
}

impl Losses {
    fn record(self) {
        counter!(CHECKED).increment(1);
        let shares = [self.approximation, self.filter.max(0.0), (-self.filter).max(0.0), self.staleness];
        for (kind, share) in KINDS.into_iter().zip(shares) {
            histogram!(LOSS, "kind" => kind).record(share);
        }
    }
}

fn exactly(query: &Query) -> Query {
    Query { exact: true, ..query.clone() }
}

fn ranking(snapshot: &Arc<Snapshot>, query: &Query, stop: Stop<'_>) -> Result<Ranking, IndexError> {
    Ok(search(snapshot, query, stop)?.rankings.pop().unwrap_or_default())
}

/// The share of the expected items that were not found.
fn share_missed(found: &Ranking, expected: &Ranking) -> f64 {
    let ids: HashSet<&str> = found.items.iter().map(|item| item.id.as_str()).collect();
    let missed = expected.items.iter().filter(|item| !ids.contains(item.id.as_str())).count();
    missed as f64 / expected.items.len().max(1) as f64
}
