//! [`Turns`]: of several processes that could compact a generation, one does.
//!
//! Nothing here has to be right for what the index holds: the first to publish wins, and whoever comes later publishes nothing. It spares the others
//! minutes of work that would be thrown away. Who begins says so with a create-only object beside the generation. Who finds one that it had not met waits, not for
//! a time, since nobody knows how long a build takes elsewhere, but until the delta has grown by half of what made the compaction due; then it begins
//! itself, if it is the first to say so. So the death of who began costs that much patience, and a lost reply no more.

use std::collections::HashMap;

use crate::{error::IndexError, generation::Generations, ids::GenerationId};

/// Whose turn it is to compact which generation, as far as this process knows.
pub(super) struct Turns {
    generations: Generations,
    /// With so many fresh items nobody waits for anybody: writes would be refused soon.
    patience_ends_at: usize,
    met: HashMap<GenerationId, Met>,
}

/// What this process knows of the compaction of one generation.
struct Met {
    /// How often it was begun.
    attempts: usize,
    /// The fresh items beside it when the last of these was met.
    fresh: usize,
    /// Whether the last of these is this process's own.
    is_own: bool,
}

/// A generation that is due to be compacted.
pub(super) struct Due {
    pub(super) base: GenerationId,
    /// The fresh items beside it,
    pub(super) fresh: usize,
    /// and with how many it became due.
    pub(super) since: usize,
}

impl Turns {
    /// Of generations whose delta may have so many items.
    pub(super) fn new(generations: Generations, delta_items_max: usize) -> Self {
        Self { generations, patience_ends_at: delta_items_max - delta_items_max / 4, met: HashMap::new() }
    }

    /// The first of all generations that are due which this process is to compact now.
    pub(super) async fn first_of_ours(&mut self, due: Vec<Due>) -> Option<GenerationId> {
        self.met.retain(|base, _| due.iter().any(|due| due.base == *base));
        for due in due {
            match self.take(&due).await {
                Ok(true) => return Some(due.base),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, base = %due.base, "a compaction could not be begun and will be tried again");
                }
            }
        }
        None
    }

    async fn take(&mut self, Due { base, fresh, since }: &Due) -> Result<bool, IndexError> {
        let unmet = Met { attempts: 0, fresh: *fresh, is_own: false };
        let met = self.met.entry(base.clone()).or_insert(unmet);
        if met.is_own || *fresh >= self.patience_ends_at {
            return Ok(true);
        }
        if met.attempts > 0 && *fresh < met.fresh + since.div_ceil(2) {
            return Ok(false);
        }
        let attempts = self.generations.compactions_begun(base).await?;
        met.is_own = attempts == met.attempts && self.generations.begin_compaction(base, attempts).await?;
        if !met.is_own {
            tracing::info!(%base, fresh, "another process compacts this generation");
            (met.attempts, met.fresh) = (attempts.max(met.attempts + 1), *fresh);
        }
        Ok(met.is_own)
    }
}
