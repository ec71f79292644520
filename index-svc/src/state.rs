//! [`State`]: the fold over the log. Pure: who applies the same commits holds the same state, whatever it serves and however it is configured.
//!
//! A space keeps of each item its last write after the oldest position that one of its retained generations covers. What is searched with
//! any of them follows from that alone (see [`HeldSpace`](crate::snapshot::HeldSpace)), so that publishing and rolling back never read the log again.

mod checkpoint;
mod space;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use pagoda_commit_log::Lsn;

pub use self::space::{LastWrite, Published, SpaceState};
use crate::{
    ids::{GenerationId, ItemId, SpaceId},
    record::{Batch, Commit, Publication, Rollback, Write},
    request_id::{Applied, RequestId},
};

/// The current and the previous space: during a rollout users are served from either.
pub(crate) const SPACES_HELD: usize = 2;

/// What the commits so far amount to.
#[derive(Clone, Debug, Default)]
pub struct State {
    lsn: Lsn,
    /// Ids whose last write is a delete, and its position.
    tombstones: HashMap<ItemId, Lsn>,
    applied: Applied,
    /// The most recently published first.
    spaces: Vec<SpaceState>,
    /// Spaces that are no longer held, and since when: what was written to them is forgotten.
    dropped: BTreeMap<SpaceId, Lsn>,
}

/// What a commit came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// What each of its batches came to.
    Writes(Vec<BatchEffect>),
    /// Whether its publication or rollback holds.
    Moved(Result<(), Void>),
}

/// What a batch came to.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchEffect {
    /// It holds. These were deleted, at these positions, and are no more.
    Applied(Vec<(ItemId, Lsn)>),
    /// It had been applied before, at this position.
    Repeated(Lsn),
    /// Its space is not held.
    PassedOver,
}

/// Why a publication or a rollback changes nothing at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Void {
    /// The current generation of the space is not the expected one: this one is, since this position.
    AnotherIsCurrent(Option<(GenerationId, Lsn)>),
    /// Writes after the position that the generation covers are no longer known one by one: they are up to this one.
    CoversTooLittle(Lsn),
    /// The generation is not retained.
    NotRetained,
    /// The generation could be published up to this position only.
    TooOld(Lsn),
}

impl State {
    /// The last commit applied.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The spaces held, the most recently published first.
    pub fn spaces(&self) -> &[SpaceState] {
        &self.spaces
    }

    /// A space, if it is held.
    pub fn space(&self, space: SpaceId) -> Option<&SpaceState> {
        self.spaces.iter().find(|held| held.space() == space)
    }

    /// The deleted ids and where each was deleted.
    pub fn tombstones(&self) -> &HashMap<ItemId, Lsn> {
        &self.tombstones
    }

    /// Where a batch of this name was committed.
    pub fn position_of(&self, request: &RequestId) -> Option<Lsn> {
        self.applied.position_of(request)
    }

    /// Whether some space retains a generation.
    pub fn retains(&self, generation: &GenerationId) -> bool {
        self.spaces.iter().any(|space| space.retained(generation).is_some())
    }

    /// The position that a generation of a space has to cover to be published; of spaces never held: 0.
    pub fn floor_of(&self, space: SpaceId) -> Lsn {
        let held = self.space(space).map(SpaceState::floor);
        held.or_else(|| self.dropped.get(&space).copied()).unwrap_or_default()
    }

    /// That position of each space that is, or was, held.
    pub fn floors(&self) -> BTreeMap<SpaceId, Lsn> {
        let held = self.spaces.iter().map(SpaceState::space);
        held.chain(self.dropped.keys().copied()).map(|space| (space, self.floor_of(space))).collect()
    }

    /// Applies the commit of the next position.
    pub fn apply(&mut self, lsn: Lsn, commit: &Commit) -> Effect {
        self.lsn = lsn;
        match commit {
            Commit::Writes(batches) => Effect::Writes(batches.iter().map(|batch| self.write(lsn, batch)).collect()),
            Commit::Publish(publication) => Effect::Moved(self.publish(lsn, publication)),
            Commit::Rollback(rollback) => Effect::Moved(self.roll_back(rollback)),
        }
    }

    fn write(&mut self, lsn: Lsn, batch: &Batch) -> BatchEffect {
        if let Some(before) = batch.request_id.as_ref().and_then(|id| self.applied.position_of(id)) {
            return BatchEffect::Repeated(before);
        }
        let mut revived = Vec::new();
        match &batch.write {
            Write::Upsert { model, items } => {
                let Some(space) = self.spaces.iter_mut().find(|held| held.space() == model.space) else {
                    return BatchEffect::PassedOver;
                };
                space.upsert(lsn, items);
                revived.extend(items.iter().filter_map(|item| self.tombstones.remove_entry(&item.id)));
            }
            Write::Delete(ids) => {
                self.tombstones.extend(ids.iter().map(|id| (id.clone(), lsn)));
                self.spaces.iter_mut().for_each(|space| space.delete(lsn, ids));
            }
        }
        batch.request_id.iter().for_each(|id| self.applied.remember(id.clone(), lsn));
        BatchEffect::Applied(revived)
    }

    fn publish(&mut self, lsn: Lsn, publication: &Publication) -> Result<(), Void> {
        self.check(lsn, publication)?;
        let id = publication.model.space;
        let held = self.spaces.iter().position(|held| held.space() == id);
        // A compaction, which may be of an older space, changes nothing in which space was published last.
        let place = if publication.compacted { held.unwrap_or(0) } else { 0 };
        let mut space =
            held.map_or_else(|| SpaceState::new(id, publication.covers, &self.tombstones), |n| self.spaces.remove(n));
        space.publish(lsn, publication);
        self.dropped.remove(&id);
        self.spaces.insert(place, space);
        for dropped in self.spaces.drain(SPACES_HELD.min(self.spaces.len())..) {
            self.dropped.insert(dropped.space(), lsn);
        }
        Ok(())
    }

    /// Whether a publication would hold at a position.
    pub fn check(&self, lsn: Lsn, publication: &Publication) -> Result<(), Void> {
        let id = publication.model.space;
        let space = self.space(id);
        let current = space.map(SpaceState::current);
        if !publication.expected.is_met_by(current, publication.compacted) {
            return Err(Void::AnotherIsCurrent(current.map(|g| (g.generation.clone(), g.current_since))));
        }
        let floor = self.floor_of(id);
        if publication.covers < floor {
            return Err(Void::CoversTooLittle(floor));
        }
        let retained = space.is_some_and(|space| space.retained(&publication.generation).is_some());
        match publication.publishable_until {
            Some(until) if until < lsn && !retained => Err(Void::TooOld(until)),
            _ => Ok(()),
        }
    }

    fn roll_back(&mut self, rollback: &Rollback) -> Result<(), Void> {
        let lsn = self.lsn;
        let space = self.spaces.iter_mut().find(|held| held.space() == rollback.space).ok_or(Void::NotRetained)?;
        let current = space.current();
        if !rollback.expected.is_met_by(Some(current), false) {
            return Err(Void::AnotherIsCurrent(Some((current.generation.clone(), current.current_since))));
        }
        space.roll_back(lsn, &rollback.generation)
    }
}
