//! [`State`]: the fold over the log. Pure: who replays the same commits holds the same state.

use std::collections::HashSet;

use pagoda_commit_log::Lsn;

use crate::{
    generation::Loaded,
    ids::ItemId,
    record::{Commit, Write},
    snapshot::{HeldSpace, Snapshot},
};

/// The current and the previous space: during a rollout users are served from either.
pub(crate) const SPACES_HELD: usize = 2;

/// What the commits so far amount to.
#[derive(Debug, Default)]
pub struct State {
    lsn: Lsn,
    /// Ids whose last write is a delete.
    tombstones: HashSet<ItemId>,
    spaces: Vec<HeldSpace>,
}

impl State {
    /// The last commit applied.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Applies writes.
    pub fn write(&mut self, lsn: Lsn, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Upsert { items, .. } => self.revive(items),
                Write::Delete(ids) => self.tombstones.extend(ids.iter().cloned()),
            }
            for space in &mut self.spaces {
                space.apply(write);
            }
        }
        self.lsn = lsn;
    }

    /// Makes a generation current. `since` are the commits after the position that the generation covers, up to this one: they are
    /// laid over it. What is deleted stays deleted, even if the generation holds it.
    pub fn publish(&mut self, lsn: Lsn, loaded: Loaded, since: &[(Lsn, Commit)]) {
        let covers = loaded.generation.manifest.covers_lsn;
        let mut published = HeldSpace::new(loaded, lsn, &self.tombstones);
        for (_, commit) in since.iter().filter(|(at, _)| covers < *at && *at < lsn) {
            if let Commit::Writes(writes) = commit {
                writes.iter().for_each(|write| published.apply(write));
            }
        }
        self.spaces.retain(|space| space.space() != published.space());
        self.spaces.insert(0, published);
        self.spaces.truncate(SPACES_HELD);
        self.lsn = lsn;
    }

    /// Passes over a commit that leaves nothing.
    pub fn skip(&mut self, lsn: Lsn) {
        self.lsn = lsn;
    }

    /// The state as queries see it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { lsn: self.lsn, spaces: self.spaces.clone(), tombstone_count: self.tombstones.len() }
    }

    fn revive(&mut self, items: &[(ItemId, Vec<f32>)]) {
        for (id, _) in items {
            self.tombstones.remove(id);
        }
    }

    pub(crate) fn spaces(&self) -> &[HeldSpace] {
        &self.spaces
    }
}
