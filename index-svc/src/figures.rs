//! The metrics of the lifecycle: where the index is in its log and how much it holds.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use pagoda_commit_log::Lsn;

use crate::{generation::Footprint, snapshot::Snapshot};

/// What a new snapshot holds; `head` is the last position known to be taken, `checkpoint` that of the newest checkpoint known.
pub(crate) fn show(snapshot: &Snapshot, head: Lsn, checkpoint: Lsn) {
    let lsn = snapshot.lsn.0;
    gauge!("index_lsn").set(lsn as f64);
    gauge!("index_lag_commits").set(head.0.saturating_sub(lsn) as f64);
    gauge!("index_checkpoint_age_commits").set(lsn.saturating_sub(checkpoint.0) as f64);
    gauge!("index_tombstones").set(snapshot.tombstone_count as f64);
    gauge!("index_generations")
        .set(snapshot.retained.iter().map(|space| space.generations.len()).sum::<usize>() as f64);
    for held in &snapshot.spaces {
        let space = held.space().to_string();
        let Footprint { anonymous_bytes, mapped_bytes } = held.loaded().footprint;
        gauge!("index_base_anonymous_bytes", "space" => space.clone()).set(anonymous_bytes as f64);
        gauge!("index_base_mapped_bytes", "space" => space.clone()).set(mapped_bytes as f64);
        gauge!("index_base_items", "space" => space.clone()).set(held.base_count() as f64);
        gauge!("index_delta_items", "space" => space).set(held.delta().len() as f64);
    }
}

/// For how long the log could not be looked at; zero when the last look succeeded.
pub(crate) fn unreachable(since: Duration) {
    gauge!("index_log_unreachable_seconds").set(since.as_secs_f64());
}

/// A compaction that ended.
pub(crate) fn compaction(took: Duration, outcome: &'static str) {
    histogram!("index_compaction_seconds").record(took.as_secs_f64());
    counter!("index_compactions_total", "outcome" => outcome).increment(1);
}
