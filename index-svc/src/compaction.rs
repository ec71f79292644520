//! Compaction: once a space has many fresh items, what is current and what was written since become a new generation.
//!
//! It changes no answer but by approximation: its base is the snapshot at one position, which it covers. Should another generation have become current
//! meanwhile, it is not published. Of several processes, one builds: [`Turns`].

mod tries;
mod turns;

use std::{sync::Arc, time::Instant};

use pagoda_commit_log::Lsn;
use tokio::sync::OwnedSemaphorePermit;

use self::{
    tries::Tries,
    turns::{Due, Turns},
};
use crate::{
    build::{Header, Incoming},
    builder::Builder,
    committer::Moved,
    config::Config,
    current::Current,
    error::IndexError,
    figures,
    generation::Generations,
    ids::GenerationId,
    item::Item,
    publisher::Publisher,
    snapshot::{HeldSpace, Snapshot},
};

/// Items that are handed on at once.
const BATCH_ITEMS: usize = 4096;

/// Compacts whatever needs it, for as long as it is let.
pub async fn run(
    config: Arc<Config>,
    current: Current,
    generations: Generations,
    builder: Builder,
    publisher: Publisher,
) {
    let turns = Turns::new(generations, config.write.delta_items_max);
    let mut positions = current.positions();
    let mut compactor = Compactor { config, current, builder, publisher, turns, tries: Tries::default() };
    while positions.changed().await.is_ok() {
        compactor.look().await;
    }
}

struct Compactor {
    config: Arc<Config>,
    current: Current,
    builder: Builder,
    publisher: Publisher,
    turns: Turns,
    tries: Tries,
}

impl Compactor {
    /// Compacts one generation, if one is due.
    async fn look(&mut self) {
        let mut due = due(&self.current.load(), &self.config);
        self.tries.retain(|base| due.iter().any(|due| due.base == *base));
        due.retain(|due| self.tries.may_try(&due.base));
        let Some(base) = self.turns.first_of_ours(due).await else { return };
        let Ok(place) = self.builder.reserve() else { return };
        let began = Instant::now();
        let outcome = match self.tries.built(&base) {
            Some(built) => {
                drop(place);
                self.publisher.publish_compacted(built, base.clone()).await
            }
            None => self.compact(&base, place).await,
        };
        figures::compaction(began.elapsed(), if outcome.is_ok() { "published" } else { "failed" });
        match outcome {
            Ok(Moved { lsn, generation }) => tracing::info!(%generation, %base, %lsn, "compacted"),
            Err(error @ IndexError::Superseded { .. }) => tracing::info!(%error, %base, "a compaction came too late"),
            Err(error) => self.note_failure(&error, &base),
        }
    }

    /// Said once of a generation, however often it is tried.
    fn note_failure(&mut self, error: &IndexError, base: &GenerationId) {
        match (self.tries.note_failure(base, error), error) {
            (false, _) => tracing::debug!(%error, %base, "a compaction failed again"),
            (true, IndexError::GateRefused(_)) => {
                tracing::warn!(%error, %base, "a compaction is not published; the next generation will be compacted again");
            }
            (true, IndexError::BuildDoesNotFit { .. } | IndexError::DoesNotFit { .. }) => {
                tracing::warn!(%error, %base, "a compaction is put off until there is memory for it");
            }
            (true, _) => {
                tracing::warn!(%error, %base, "a compaction failed and will be tried again, less and less often")
            }
        }
    }

    /// Builds and publishes what a space amounts to at a position. The space is let go once its items are copied.
    async fn compact(&mut self, base: &GenerationId, place: OwnedSemaphorePermit) -> Result<Moved, IndexError> {
        let superseded = || IndexError::Superseded { current: None };
        let (held, covers) = held(&self.current.load(), base).ok_or_else(superseded)?;
        let incoming = self.builder.begin(place, header(&held, covers))?;
        let fill = move |incoming: &mut Incoming| {
            let mut items = living(&held).peekable();
            while items.peek().is_some() {
                incoming.push(items.by_ref().take(BATCH_ITEMS).collect())?;
            }
            Ok(())
        };
        let incoming = self.builder.filled(incoming, fill).await?;
        let (built, _) = self.builder.build(incoming).await?;
        self.tries.note_built(base, built.clone());
        crate::failpoint::reached("compaction_built");
        self.publisher.publish_compacted(built, base.clone()).await
    }
}

/// The spaces that need it.
fn due(snapshot: &Snapshot, config: &Config) -> Vec<Due> {
    let settings = &config.compaction;
    let due = |held: &HeldSpace| {
        let (base, fresh) = (held.loaded().id.clone(), held.delta().len());
        let share = (held.base_count() as f64 * settings.delta_share).ceil() as usize;
        // However large the generation: a delta that is full takes no writes.
        let since = settings.delta_items.max(share).min(config.write.delta_items_max.div_ceil(2));
        // A process that serves some shards alone has not all there is.
        let is_due = settings.delta_items > 0 && fresh >= since && held.generation().is_whole();
        is_due.then_some(Due { base, fresh, since })
    };
    snapshot.spaces.iter().filter_map(due).collect()
}

/// The space of a generation that is searched, and its position.
fn held(snapshot: &Snapshot, base: &GenerationId) -> Option<(HeldSpace, Lsn)> {
    let held = snapshot.spaces.iter().find(|held| held.loaded().id == *base)?;
    Some((held.clone(), snapshot.lsn))
}

fn header(held: &HeldSpace, covers: Lsn) -> Header {
    let generation = held.generation();
    let manifest = &generation.manifest;
    Header {
        model: manifest.model,
        embedding_dim: manifest.embedding_dim,
        item_count: held.item_count() as u64,
        covers,
        sample_queries: generation.sample_queries.clone(),
        kind: None,
        nlist: 0,
        hnsw_m: 0,
        attributes: manifest.attributes.clone(),
    }
}

fn living(held: &HeldSpace) -> impl Iterator<Item = Item> {
    let base = held.shards().iter().flat_map(|held| {
        let shard = held.shard();
        held.living().iter().map(move |row| Item {
            id: shard.items.get(row).to_id(),
            embedding: shard.vectors.row(row).to_vec(),
            attributes: shard.attributes.columns().row(row),
        })
    });
    let delta = held.delta().iter().map(|(id, embedding, attributes)| Item {
        id: id.clone(),
        embedding: embedding.to_vec(),
        attributes: attributes.clone(),
    });
    base.chain(delta)
}
