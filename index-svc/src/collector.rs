//! Collects the generations that no space retains and nobody can publish any more: never published, never finished, or replaced.
//!
//! Sound without a lock and without a clock. A generation cannot be published past `publishable_until_lsn`, nor once its space no longer knows the writes
//! after the position that it covers: the fold voids both, and what it no longer knows it never knows again. So whose state is at such a position and does
//! not retain it may collect it: because of its age from `collectable_from_lsn` on, which is late enough for one that is being loaded.

use std::{collections::BTreeMap, sync::Arc};

use pagoda_commit_log::Lsn;

use crate::{
    config::Config,
    current::Current,
    error::IndexError,
    generation::{Generations, Lifetime},
    ids::{GenerationId, SpaceId},
    snapshot::{RetainedSpace, Snapshot},
};

/// So often within the age of an orphan it is looked for some.
const LOOKS_IN_AN_AGE: u64 = 4;

/// What decides, at one position of the log.
struct Moment {
    lsn: Lsn,
    retained: Arc<[RetainedSpace]>,
    floors: Arc<BTreeMap<SpaceId, Lsn>>,
}

/// Collects now and then, and whenever generations were replaced for good, for as long as it is let.
pub async fn run(config: Arc<Config>, current: Current, generations: Generations) {
    let every = (config.generations.orphan_age_commits / LOOKS_IN_AN_AGE).max(1);
    let mut positions = current.positions();
    let (mut next, mut floors) = (0, Arc::default());
    loop {
        // Not the snapshot itself: what it holds could not be freed meanwhile.
        let moment = Moment::of(&current.load());
        if moment.lsn.0 >= next || moment.floors != floors {
            (next, floors) = (moment.lsn.0 + every, moment.floors.clone());
            if let Err(error) = collect(&moment, &generations).await {
                tracing::warn!(%error, "orphaned generations were not collected, they will be later");
            }
        }
        if positions.changed().await.is_err() {
            return;
        }
    }
}

impl Moment {
    fn of(snapshot: &Snapshot) -> Self {
        Self { lsn: snapshot.lsn, retained: snapshot.retained.clone(), floors: snapshot.floors.clone() }
    }

    /// Whether nobody can publish a generation any more, or go back to it.
    fn is_past(&self, id: &GenerationId, lifetime: &Lifetime) -> bool {
        let is_retained = self.retained.iter().flat_map(|space| &space.generations).any(|g| g.generation == *id);
        let floor = id.space().and_then(|space| self.floors.get(&space)).copied().unwrap_or_default();
        let covers_too_little = lifetime.covers_lsn.is_some_and(|covers| covers < floor);
        !is_retained && (covers_too_little || self.lsn >= lifetime.collectable_from_lsn)
    }
}

/// Deletes what may be deleted.
async fn collect(moment: &Moment, generations: &Generations) -> Result<(), IndexError> {
    for (id, (lifetime, paths)) in generations.stored().await? {
        if moment.is_past(&id, &lifetime) {
            generations.delete(&id, paths).await?;
            tracing::info!(generation = %id, ?lifetime, lsn = %moment.lsn, "collected a generation that nobody can publish");
        }
    }
    Ok(())
}
