//! Collects the generations that no space retains and nobody can publish any more: never published, never finished, or replaced long ago.
//!
//! Sound without a lock and without a clock: a generation cannot be published past `publishable_until_lsn` (the fold voids it), and is collected
//! only from `collectable_from_lsn` on, by a process whose state at such a position does not retain it.

use std::sync::Arc;

use pagoda_commit_log::Lsn;

use crate::{
    config::Config,
    current::Current,
    error::IndexError,
    generation::Generations,
    snapshot::{RetainedSpace, Snapshot},
};

/// So often within the age of an orphan it is looked for some.
const LOOKS_IN_AN_AGE: u64 = 4;

/// Collects now and then, for as long as it is let.
pub async fn run(config: Arc<Config>, current: Current, generations: Generations) {
    let every = (config.generations.orphan_age_commits / LOOKS_IN_AN_AGE).max(1);
    let mut positions = current.positions();
    let mut next = 0;
    loop {
        // Not the snapshot itself: what it holds could not be freed meanwhile.
        let (lsn, retained) = at(&current.load());
        if lsn.0 >= next {
            next = lsn.0 + every;
            if let Err(error) = collect(lsn, &retained, &generations).await {
                tracing::warn!(%error, "orphaned generations were not collected, they will be later");
            }
        }
        if positions.changed().await.is_err() {
            return;
        }
    }
}

fn at(snapshot: &Snapshot) -> (Lsn, Arc<[RetainedSpace]>) {
    (snapshot.lsn, snapshot.retained.clone())
}

/// Deletes what may be deleted at a position where these are retained.
async fn collect(lsn: Lsn, retained: &[RetainedSpace], generations: &Generations) -> Result<(), IndexError> {
    for (id, (lifetime, paths)) in generations.stored().await? {
        let is_retained = retained.iter().flat_map(|space| &space.generations).any(|g| g.generation == id);
        if is_retained || lsn < lifetime.collectable_from_lsn {
            continue;
        }
        generations.delete(&id, paths).await?;
        tracing::info!(generation = %id, ?lifetime, %lsn, "collected a generation that nobody can publish");
    }
    Ok(())
}
