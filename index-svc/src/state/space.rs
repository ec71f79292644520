//! [`SpaceState`]: one embedding space in the fold: which generations it retains, and what was written since.

use std::{collections::HashMap, sync::Arc};

use pagoda_commit_log::Lsn;

use super::Void;
use crate::{
    ids::{GenerationId, ItemId, ModelVersion, SpaceId},
    item::Item,
    record::{Expected, Publication},
};

/// So many generations that were compacted one from the other are known to a refresh that began before.
const ANCESTORS_LIMIT: usize = 32;

/// One embedding space.
#[derive(Clone, Debug, PartialEq)]
pub struct SpaceState {
    pub(super) space: SpaceId,
    /// The values of an embedding; 0 while no publication has said so.
    pub(super) embedding_dim: usize,
    /// The current one first, then what was current before, the latest first. Never empty but while it is made.
    pub(super) generations: Vec<Published>,
    /// Writes up to here are in every retained generation, and forgotten.
    pub(super) floor: Lsn,
    pub(super) history: HashMap<ItemId, LastWrite>,
    /// How many of these are items that the current generation does not contain.
    pub(super) fresh_count: usize,
}

/// A generation that was published and is retained.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The generation.
    pub generation: GenerationId,
    /// The model whose embeddings it holds.
    pub model: ModelVersion,
    /// Writes up to here are contained in it.
    pub covers: Lsn,
    /// Writes after here are known one by one as long as it is retained. Of a compacted generation: what its base covers, so that a
    /// refresh that began before the compaction can still be published.
    pub known_from: Lsn,
    /// The position of its publication.
    pub published: Lsn,
    /// The position since which it is, or last was, the current one.
    pub current_since: Lsn,
    /// The operator who forced its publication.
    pub forced_by: Option<String>,
    /// The generations that it was compacted from, the latest last.
    pub compacted_from: Vec<GenerationId>,
}

/// The last write of an item in a space.
#[derive(Clone, Debug, PartialEq)]
pub struct LastWrite {
    /// Its position.
    pub lsn: Lsn,
    /// What was written; none: it was deleted.
    pub item: Option<Arc<Item>>,
}

impl SpaceState {
    /// A space about to get its first generation, which covers so much. What was deleted after that is deleted here, too.
    pub(super) fn new(space: SpaceId, covers: Lsn, tombstones: &HashMap<ItemId, Lsn>) -> Self {
        let deleted = tombstones.iter().filter(|(_, lsn)| **lsn > covers);
        let history = deleted.map(|(id, lsn)| (id.clone(), LastWrite { lsn: *lsn, item: None })).collect();
        Self { space, embedding_dim: 0, generations: Vec::new(), floor: covers, history, fresh_count: 0 }
    }

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The values of an embedding, as far as a publication has said so.
    pub fn embedding_dim(&self) -> Option<usize> {
        (self.embedding_dim > 0).then_some(self.embedding_dim)
    }

    /// The current generation.
    pub fn current(&self) -> &Published {
        self.generations.first().expect("a space is held from its first publication on")
    }

    /// The current generation, then those that were current before it, the latest first.
    pub fn generations(&self) -> &[Published] {
        &self.generations
    }

    /// A generation, if it is retained.
    pub fn retained(&self, generation: &GenerationId) -> Option<&Published> {
        self.generations.iter().find(|retained| retained.generation == *generation)
    }

    /// What the current generation replaced: the latest of those published before it.
    pub fn previous(&self) -> Option<&Published> {
        let before = self.generations.iter().filter(|retained| retained.published < self.current().published);
        before.max_by_key(|retained| retained.published)
    }

    /// The last write of each item after [`SpaceState::floor`].
    pub fn history(&self) -> &HashMap<ItemId, LastWrite> {
        &self.history
    }

    /// The items whose last write is an upsert that the current generation does not contain: as many as its delta has in all shards.
    pub fn fresh_count(&self) -> usize {
        self.fresh_count
    }

    /// How many of the generations before the current one, the latest first, can be gone back to with no more than so many writes to lay over any of them.
    pub(crate) fn kept_within(&self, writes_max: usize) -> usize {
        let since = |lsn| self.history.values().filter(|write| write.lsn > lsn).count();
        let before = self.generations.iter().skip(1);
        before.take_while(|retained| since(retained.known_from) <= writes_max).count()
    }

    /// Every write after this position is known.
    pub fn floor(&self) -> Lsn {
        self.floor
    }

    pub(super) fn upsert(&mut self, lsn: Lsn, items: &[Item]) {
        for item in items {
            self.write(&item.id, LastWrite { lsn, item: Some(Arc::new(item.clone())) });
        }
    }

    pub(super) fn delete(&mut self, lsn: Lsn, ids: &[ItemId]) {
        ids.iter().for_each(|id| self.write(id, LastWrite { lsn, item: None }));
    }

    fn write(&mut self, id: &ItemId, write: LastWrite) {
        let covers = self.current().covers;
        self.fresh_count += usize::from(write.is_fresh(covers));
        let before = self.history.insert(id.clone(), write);
        self.fresh_count -= usize::from(before.is_some_and(|before| before.is_fresh(covers)));
    }

    /// A compacted generation takes the place of the one that it was made from: to go back there would change nothing. Nor does anything change where the
    /// generation is the current one: what was published before it stays so.
    pub(super) fn publish(&mut self, lsn: Lsn, publication: &Publication) {
        if self.generations.first().is_some_and(|current| current.generation == publication.generation) {
            return;
        }
        let compacted_from = self.ancestors_of(publication);
        let known_from = self.known_from(publication);
        let replaced = |retained: &Published| {
            retained.generation == publication.generation || compacted_from.last() == Some(&retained.generation)
        };
        self.generations.retain(|retained| !replaced(retained));
        self.generations.insert(
            0,
            Published {
                generation: publication.generation.clone(),
                model: publication.model,
                covers: publication.covers,
                known_from,
                published: lsn,
                current_since: lsn,
                forced_by: publication.forced_by.clone(),
                compacted_from,
            },
        );
        self.generations.truncate(1 + publication.retained_count);
        if publication.embedding_dim > 0 {
            self.embedding_dim = publication.embedding_dim;
        }
        self.forget();
        self.count_fresh();
    }

    pub(super) fn roll_back(&mut self, lsn: Lsn, generation: &GenerationId) -> Result<(), Void> {
        let found = self.generations.iter().position(|retained| retained.generation == *generation);
        let mut target = self.generations.remove(found.ok_or(Void::NotRetained)?);
        target.current_since = lsn;
        self.generations.insert(0, target);
        self.count_fresh();
        Ok(())
    }

    pub(super) fn count_fresh(&mut self) {
        let covers = self.current().covers;
        self.fresh_count = self.history.values().filter(|write| write.is_fresh(covers)).count();
    }

    fn ancestors_of(&self, publication: &Publication) -> Vec<GenerationId> {
        match &publication.expected {
            Expected::Generation(base) if publication.compacted => {
                let mut ancestors = self.retained(base).map(|base| base.compacted_from.clone()).unwrap_or_default();
                ancestors.push(base.clone());
                ancestors.drain(..ancestors.len().saturating_sub(ANCESTORS_LIMIT));
                ancestors
            }
            _ => self.retained(&publication.generation).map(|again| again.compacted_from.clone()).unwrap_or_default(),
        }
    }

    fn known_from(&self, publication: &Publication) -> Lsn {
        let base = match &publication.expected {
            Expected::Generation(base) if publication.compacted => self.retained(base).map(|base| base.covers),
            _ => None,
        };
        base.map_or(publication.covers, |covers| covers.min(publication.covers))
    }

    /// Forgets the writes that every retained generation contains.
    fn forget(&mut self) {
        let floor = self.generations.iter().map(|retained| retained.known_from).min();
        self.floor = self.floor.max(floor.unwrap_or_default());
        self.history.retain(|_, write| write.lsn > self.floor);
    }
}

impl LastWrite {
    /// Whether it is an item that a generation which covers so much does not contain.
    fn is_fresh(&self, covers: Lsn) -> bool {
        self.item.is_some() && self.lsn > covers
    }
}

impl Expected {
    /// Whether the current generation of a space is as expected. A refresh may expect one that was compacted since: its catalog is
    /// newer than both. A compaction may not.
    pub(super) fn is_met_by(&self, current: Option<&Published>, compacted: bool) -> bool {
        match (self, current) {
            (Self::Any, _) => true,
            (Self::Nothing, current) => current.is_none(),
            (Self::Generation(_), None) => false,
            (Self::Generation(expected), Some(current)) => {
                current.generation == *expected || (!compacted && current.compacted_from.contains(expected))
            }
        }
    }
}
