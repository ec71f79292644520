//! What happened in a run.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::cluster::Cluster;

/// Counted while it goes on.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) acknowledged: Count,
    pub(super) lost_replies: Count,
    pub(super) given_up: Count,
    pub(super) read_back: Count,
    pub(super) kills: Count,
    pub(super) fail_points: Count,
    pub(super) starts: Count,
    pub(super) generations: Count,
    pub(super) rollbacks: Count,
    pub(super) verified: Count,
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

/// The counts at one moment, and what the processes' logs say.
#[derive(Debug)]
pub(super) struct Tally {
    acknowledged: u64,
    lost_replies: u64,
    given_up: u64,
    read_back: u64,
    kills: u64,
    fail_points: u64,
    starts: u64,
    generations: u64,
    rollbacks: u64,
    verified: u64,
    head: u64,
    checkpoints: usize,
    compactions: usize,
    /// What the logs complain of.
    complaints: Vec<String>,
}

impl Count {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    pub(super) fn tally(&self, cluster: &Cluster, head: u64) -> Tally {
        Tally {
            acknowledged: self.acknowledged.get(),
            lost_replies: self.lost_replies.get(),
            given_up: self.given_up.get(),
            read_back: self.read_back.get(),
            kills: self.kills.get(),
            fail_points: self.fail_points.get(),
            starts: self.starts.get(),
            generations: self.generations.get(),
            rollbacks: self.rollbacks.get(),
            verified: self.verified.get(),
            head,
            checkpoints: cluster.log_lines("wrote a checkpoint"),
            compactions: cluster.log_lines("compacted generation="),
            complaints: cluster.complaints(),
        }
    }
}

impl Tally {
    /// A run in which nothing happens shows nothing; one whose processes complain is not in order.
    pub(super) fn assert_eventful(&self) {
        let Self { complaints, .. } = self;
        assert!(complaints.is_empty(), "unexpected in the logs: {complaints:#?}");
        let events = [self.read_back, self.kills, self.generations, self.rollbacks];
        assert!(events.iter().all(|count| *count > 0), "{self:?}");
        assert!(self.checkpoints > 0 && self.compactions > 0, "{self:?}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes acknowledged in {} commits, {} calls without an answer ({} writes given up), {} kills and {} ends at fail points, \
             {} restarts, {} generations published, {} rollbacks, {} checkpoints, {} compactions, {} items verified and {} own writes read back, \
             {} complaints in logs, 0 violations",
            self.acknowledged,
            self.head,
            self.lost_replies,
            self.given_up,
            self.kills,
            self.fail_points,
            self.starts,
            self.generations,
            self.rollbacks,
            self.checkpoints,
            self.compactions,
            self.verified,
            self.read_back,
            self.complaints.len()
        )
    }
}
