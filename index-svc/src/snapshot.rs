//! [`Snapshot`]: the index at one position of its log. Immutable; a query holds one from start to end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pagoda_ann::{AnnError, Bitmap};
use pagoda_commit_log::Lsn;

use crate::{
    delta::Delta,
    error::IndexError,
    generation::{Generation, Loaded, Manifest, Shard},
    ids::{GenerationId, ItemId, SpaceId},
    item::Item,
    record::Write,
    state::{Published, SpaceState, State},
};

/// The index at one position of its log.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The position.
    pub lsn: Lsn,
    /// The spaces held, the most recently published first.
    pub spaces: Vec<HeldSpace>,
    /// How many deleted ids are remembered.
    pub tombstone_count: usize,
    /// The generations that are current or can be rolled back to, the most recently published space first; also of spaces that this
    /// process does not search.
    pub retained: Arc<[RetainedSpace]>,
    /// The position that a generation of each space has to cover to be published; of spaces that were never held: 0.
    pub floors: Arc<BTreeMap<SpaceId, Lsn>>,
}

/// The generations of one space that are current or can be rolled back to.
#[derive(Clone, Debug, PartialEq)]
pub struct RetainedSpace {
    /// The space.
    pub space: SpaceId,
    /// The values of an embedding, if a publication has said so.
    pub embedding_dim: Option<usize>,
    /// The current one first, then those that were current before, the latest first. Never empty.
    pub generations: Vec<Published>,
    /// The one that a rollback goes back to by default.
    pub previous: Option<GenerationId>,
}

/// One embedding space as it is searched: a generation and what was written since, in the shards that this process serves.
///
/// A row of the generation lives unless its item was written in this space, or deleted, after the position that the generation
/// covers, or is deleted now. The delta holds the items whose last write is an upsert after that position.
#[derive(Clone, Debug)]
pub struct HeldSpace {
    loaded: Loaded,
    published: Lsn,
    shards: Vec<HeldShard>,
    delta: Delta,
}

/// A shard of the base, and which of its rows live.
#[derive(Clone, Debug)]
pub struct HeldShard {
    shard: Arc<Shard>,
    living: Arc<Bitmap>,
}

impl Snapshot {
    /// A space that is held.
    pub fn space(&self, wanted: SpaceId) -> Result<&HeldSpace, IndexError> {
        let held = || self.spaces.iter().map(HeldSpace::space).collect();
        let found = self.spaces.iter().find(|space| space.space() == wanted);
        found.ok_or_else(|| IndexError::SpaceNotHeld { wanted, held: held() })
    }

    /// Those of some ids of which no space holds an item; none where not all there is is held here.
    pub(crate) fn not_held<'a>(&'a self, ids: &'a [ItemId]) -> impl Iterator<Item = &'a ItemId> {
        let is_whole = !self.spaces.is_empty() && self.spaces.iter().all(|space| space.generation().is_whole());
        ids.iter().filter(move |id| is_whole && !self.spaces.iter().any(|space| space.holds(id)))
    }

    /// Whether a generation that no space retains can be published no more: the fold would void it.
    pub fn is_expired(&self, manifest: &Manifest) -> bool {
        let floor = self.floors.get(&manifest.model.space).copied().unwrap_or_default();
        let until = manifest.lifetime.map(|lifetime| lifetime.publishable_until_lsn);
        manifest.covers_lsn < floor || until.is_some_and(|until| until <= self.lsn)
    }
}

impl RetainedSpace {
    pub(crate) fn of(space: &SpaceState) -> Self {
        Self {
            space: space.space(),
            embedding_dim: space.embedding_dim(),
            generations: space.generations().to_vec(),
            previous: space.previous().map(|previous| previous.generation.clone()),
        }
    }
}

impl HeldSpace {
    /// A generation under what was written since, as the fold has it. The fold must know every write after the position it covers.
    pub(crate) fn new(loaded: Loaded, state: &SpaceState, tombstones: &HashMap<ItemId, Lsn>) -> Self {
        let generation = loaded.generation.clone();
        let covers = generation.manifest.covers_lsn;
        let published = state.retained(&loaded.id).map_or_else(|| state.current().published, |known| known.published);
        let since = || state.history().iter().filter(|(_, write)| write.lsn > covers);
        let fresh = since().filter_map(|(_, write)| write.item.as_deref()).filter(|item| generation.serves(&item.id));
        let (delta, left_out) = Delta::of(generation.manifest.embedding_dim, &generation.manifest.attributes, fresh);
        for (id, error) in &left_out {
            passed_over(id, state.space(), error);
        }
        let left_out: HashSet<_> = left_out.into_iter().map(|(id, _)| id).collect();
        let shards = generation.shards.iter().map(HeldShard::new).collect();
        let mut held = Self { loaded, published, shards, delta };
        tombstones.keys().for_each(|id| held.mask(id));
        since().filter(|(id, _)| !left_out.contains(id)).for_each(|(id, _)| held.mask(id));
        held
    }

    /// Lays a write over the generation; one of another space is none of ours, a delete is everybody's. Never fails, because the
    /// log cannot be unwritten: what an honest writer would not have written is passed over.
    pub(crate) fn apply(&mut self, write: &Write) {
        match write {
            Write::Upsert { model, items } if model.space == self.space() => {
                items.iter().for_each(|item| self.upsert(item));
            }
            Write::Upsert { .. } => {}
            Write::Delete(ids) => {
                for id in ids {
                    self.mask(id);
                    self.delta.remove(id);
                }
            }
        }
    }

    /// These were deleted, at these positions, and came back in some space: where the delete is older than the catalog that the generation
    /// was made of, that is what it holds again.
    pub(crate) fn revive(&mut self, revived: &[(ItemId, Lsn)]) {
        let covers = self.generation().manifest.covers_lsn;
        for (id, _) in revived.iter().filter(|(id, deleted)| *deleted <= covers && !self.delta.contains(id)) {
            if let Some((shard, row)) = self.loaded.generation.row_of(id) {
                Arc::make_mut(&mut self.shards[shard].living).insert(row);
            }
        }
    }

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.generation().manifest.model.space
    }

    /// The generation that is searched.
    pub fn generation(&self) -> &Generation {
        &self.loaded.generation
    }

    /// The generation and its id.
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The log position of the publication.
    pub fn published(&self) -> Lsn {
        self.published
    }

    /// The fresh items.
    pub fn delta(&self) -> &Delta {
        &self.delta
    }

    /// The base, shard by shard.
    pub fn shards(&self) -> &[HeldShard] {
        &self.shards
    }

    /// Whether an item can be found.
    fn holds(&self, id: &ItemId) -> bool {
        self.living_row(id).is_some() || self.delta.contains(id)
    }

    /// Where an item lives in the base: the place among the shards, and the row there.
    fn living_row(&self, id: &ItemId) -> Option<(usize, u32)> {
        self.generation().row_of(id).filter(|(shard, row)| self.shards[*shard].living.contains(*row))
    }

    /// How many items can be found.
    pub fn item_count(&self) -> usize {
        self.base_count() + self.delta.len()
    }

    /// How many items of the base live.
    pub fn base_count(&self) -> usize {
        self.shards.iter().map(|held| held.living.count()).sum()
    }

    fn upsert(&mut self, item: &Item) {
        if !self.generation().serves(&item.id) {
            return;
        }
        match self.delta.upsert(item) {
            Ok(()) => self.mask(&item.id),
            Err(error) => passed_over(&item.id, self.space(), &error),
        }
    }

    fn mask(&mut self, id: &ItemId) {
        if let Some((shard, row)) = self.living_row(id) {
            Arc::make_mut(&mut self.shards[shard].living).remove(row);
        }
    }
}

/// How many items [`HeldSpace::new`] could find, were the generation current now: its rows without those that were deleted or overwritten, and the
/// fresh items beside them.
pub(crate) fn living_count(generation: &Generation, state: &State) -> usize {
    let Manifest { model, covers_lsn, .. } = &generation.manifest;
    let tombstones = state.tombstones();
    let has_row = |id: &&ItemId| generation.row_of(id).is_some();
    let history = state.space(model.space).into_iter().flat_map(|space| space.history());
    let (mut masked, mut fresh) = (tombstones.keys().filter(has_row).count(), 0);
    for (id, write) in history.filter(|(_, write)| write.lsn > *covers_lsn) {
        masked += usize::from(!tombstones.contains_key(id) && has_row(&id));
        fresh += usize::from(write.item.is_some() && generation.serves(id));
    }
    let rows: usize = generation.shards.iter().map(|shard| shard.items.len()).sum();
    rows - masked + fresh
}

fn passed_over(id: &ItemId, space: SpaceId, error: &AnnError) {
    tracing::warn!(%id, %space, %error, "passed over an upsert in the log");
}

impl HeldShard {
    fn new(shard: &Arc<Shard>) -> Self {
        Self { shard: shard.clone(), living: Arc::new(Bitmap::full(shard.items.len())) }
    }

    /// The shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The rows that live.
    pub fn living(&self) -> &Bitmap {
        &self.living
    }
}
