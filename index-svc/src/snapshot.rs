//! [`Snapshot`]: the index at one position of its log. Immutable; a query holds one from start to end.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use pagoda_ann::Bitmap;
use pagoda_commit_log::Lsn;

use crate::{
    delta::Delta,
    error::IndexError,
    generation::{Generation, Loaded},
    ids::{ItemId, SpaceId},
    record::Write,
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
}

/// One embedding space: its current generation and what was written since.
#[derive(Clone, Debug)]
pub struct HeldSpace {
    loaded: Loaded,
    published: Lsn,
    /// Rows of the base that were neither deleted nor written anew.
    living: Arc<Bitmap>,
    delta: Delta,
}

impl Snapshot {
    /// A space that is held.
    pub fn space(&self, wanted: SpaceId) -> Result<&HeldSpace, IndexError> {
        let held = || self.spaces.iter().map(HeldSpace::space).collect();
        let found = self.spaces.iter().find(|space| space.space() == wanted);
        found.ok_or_else(|| IndexError::SpaceNotHeld { wanted, held: held() })
    }
}

impl HeldSpace {
    /// A generation just published, without the items that are deleted.
    pub(crate) fn new(loaded: Loaded, published: Lsn, tombstones: &HashSet<ItemId>) -> Self {
        let generation = &loaded.generation;
        let mut living = Bitmap::full(generation.items.len());
        tombstones.iter().filter_map(|id| generation.row_of(id)).for_each(|row| living.remove(row));
        let delta = Delta::empty(generation.manifest.embedding_dim);
        Self { loaded, published, living: Arc::new(living), delta }
    }

    /// Lays a write over the generation; one of another space is none of ours, a delete is everybody's. Never fails, because the
    /// log cannot be unwritten: what an honest writer would not have written is passed over.
    pub(crate) fn apply(&mut self, write: &Write) {
        match write {
            Write::Upsert { model, items } if model.space == self.space() => {
                items.iter().for_each(|(id, embedding)| self.upsert(id, embedding));
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

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.generation().manifest.model.space
    }

    /// The current generation.
    pub fn generation(&self) -> &Generation {
        &self.loaded.generation
    }

    /// The current generation and its manifest's digest.
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

    /// How many items of the base live.
    pub fn base_count(&self) -> usize {
        self.living.count()
    }

    /// The rows of the base that may be found.
    pub fn allowed(&self, exclude: &[ItemId]) -> Cow<'_, Bitmap> {
        let mut allowed = Cow::Borrowed(self.living.as_ref());
        for row in exclude.iter().filter_map(|id| self.generation().row_of(id)) {
            allowed.to_mut().remove(row);
        }
        allowed
    }

    fn upsert(&mut self, id: &ItemId, embedding: &[f32]) {
        match self.delta.upsert(id, embedding) {
            Ok(()) => self.mask(id),
            Err(error) => tracing::warn!(%id, space = %self.space(), %error, "passed over an upsert in the log"),
        }
    }

    fn mask(&mut self, id: &ItemId) {
        if let Some(row) = self.generation().row_of(id).filter(|row| self.living.contains(*row)) {
            Arc::make_mut(&mut self.living).remove(row);
        }
    }
}
