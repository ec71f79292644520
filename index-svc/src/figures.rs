//! The metrics of the lifecycle: where the index is in its log and how much it holds.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use pagoda_commit_log::Lsn;

use crate::{
    generation::Footprint,
    snapshot::{HeldSpace, Snapshot},
    troubles::Known,
};

const UNREACHABLE: &str = "index_log_unreachable_seconds";
const WRITE_FAILING: &str = "index_write_failing_seconds";
const LOAD_FAILING: &str = "index_load_failing_seconds";
const COMPACTION_SECONDS: &str = "index_compaction_seconds";
const COMPACTIONS: &str = "index_compactions_total";
const ANONYMOUS: &str = "index_base_anonymous_bytes";
const MAPPED: &str = "index_base_mapped_bytes";
const BASE_ITEMS: &str = "index_base_items";
const DELTA_ITEMS: &str = "index_delta_items";
/// What is told of each space by itself.
const OF_SPACE: [&str; 4] = [ANONYMOUS, MAPPED, BASE_ITEMS, DELTA_ITEMS];

/// Says what each of these is, and shows as zero what may not happen for long.
pub(crate) fn describe() {
    describe_gauge!("index_lsn", Unit::Count, "Position in the commit log up to which writes are visible.");
    describe_gauge!("index_lag_commits", Unit::Count, "Commits known to be in the log that are not visible yet.");
    describe_gauge!("index_checkpoint_age_commits", Unit::Count, "Commits since the newest checkpoint known.");
    describe_gauge!("index_tombstones", Unit::Count, "Deleted ids that are remembered.");
    describe_gauge!("index_generations", Unit::Count, "Generations that are current or can be rolled back to.");
    describe_gauge!(BASE_ITEMS, Unit::Count, "Living items of the generation that is searched.");
    describe_gauge!(DELTA_ITEMS, Unit::Count, "Living items written since that generation was built.");
    describe_gauge!(ANONYMOUS, Unit::Bytes, "Memory of the generation that is searched.");
    describe_gauge!(MAPPED, Unit::Bytes, "Files of the generation that are mapped, not read.");
    describe_gauge!(UNREACHABLE, Unit::Seconds, "For how long the log cannot be followed; 0: it is.");
    describe_gauge!(
        WRITE_FAILING,
        Unit::Seconds,
        "For how long writes are refused, by the store or for want of room in the delta; 0: the last one was taken."
    );
    describe_gauge!(LOAD_FAILING, Unit::Seconds, "For how long a current generation cannot be loaded; 0: all are.");
    describe_histogram!(COMPACTION_SECONDS, Unit::Seconds, "What a compaction took, published or not.");
    describe_counter!(COMPACTIONS, Unit::Count, "Compactions that ended.");
    troubles(&Known::default());
    let _shown = histogram!(COMPACTION_SECONDS);
    ["published", "failed"].iter().for_each(|outcome| counter!(COMPACTIONS, "outcome" => *outcome).increment(0));
}

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
        gauge!(ANONYMOUS, "space" => space.clone()).set(anonymous_bytes as f64);
        gauge!(MAPPED, "space" => space.clone()).set(mapped_bytes as f64);
        gauge!(BASE_ITEMS, "space" => space.clone()).set(held.base_count() as f64);
        gauge!(DELTA_ITEMS, "space" => space).set(held.delta().len() as f64);
    }
}

/// Sets to zero what was told of spaces that are searched no longer.
pub(crate) fn forget(replaced: &Snapshot, searched: &[HeldSpace]) {
    for held in &replaced.spaces {
        if searched.iter().any(|still| still.space() == held.space()) {
            continue;
        }
        let space = held.space().to_string();
        OF_SPACE.iter().for_each(|name| gauge!(*name, "space" => space.clone()).set(0.0));
    }
}

/// For how long what does not work for the moment has not; zero for what does.
pub(crate) fn troubles(known: &Known) {
    let (following, loading) = (known.following.as_ref(), known.loading.as_ref());
    for (name, trouble) in [(UNREACHABLE, following), (WRITE_FAILING, known.refuses_writes()), (LOAD_FAILING, loading)]
    {
        gauge!(name).set(trouble.map_or(0.0, |trouble| trouble.lasted().as_secs_f64()));
    }
}

/// A compaction that ended.
pub(crate) fn compaction(took: Duration, outcome: &'static str) {
    histogram!(COMPACTION_SECONDS).record(took.as_secs_f64());
    counter!(COMPACTIONS, "outcome" => outcome).increment(1);
}
