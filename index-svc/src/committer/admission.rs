//! What is checked before something is committed, against the newest state.

use pagoda_commit_log::Lsn;

use super::{Moved, Task};
use crate::{
    config::Role,
    error::IndexError,
    gates,
    generation::{GateFailure, Loaded, Manifest},
    ids::{GenerationId, SpaceId},
    record::{Commit, Expected, Publication, Rollback, Write},
    snapshot::HeldSpace,
    state::{Effect, SpaceState},
    troubles::Turn,
    wire,
};

const FULL: IndexError =
    IndexError::Overloaded("the delta is full (write.delta_items_max): a compaction or a full refresh is due");

/// A generation that is to become current.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Its id.
    pub id: GenerationId,
    /// Its manifest.
    pub manifest: Manifest,
    /// The generation, where this process searches.
    pub loaded: Option<Loaded>,
    /// What has to be current.
    pub expected: Expected,
    /// Whether it is the expected generation with the writes since.
    pub compacted: bool,
    /// The operator who publishes it although gates refuse it.
    pub forced_by: Option<String>,
}

/// A generation that is to become current again.
#[derive(Clone, Debug)]
pub struct RollBack {
    /// The space.
    pub space: SpaceId,
    /// The generation.
    pub target: GenerationId,
    /// The generation, where this process searches.
    pub loaded: Option<Loaded>,
    /// What has to be current.
    pub expected: Expected,
}

impl Task {
    /// Refuses what would not be searchable: a space not held, a wrong dimension, more than the delta may hold.
    pub(super) fn admit(&self, write: &Write, fresh: &mut usize) -> Result<(), IndexError> {
        let Write::Upsert { model, items } = write else { return Ok(()) };
        self.check_held(model.space)?;
        let held = self.view(model.space);
        let in_state = self.replica.state().space(model.space);
        let dim = held.map(|held| held.generation().manifest.embedding_dim);
        if let Some(dim) = dim.or_else(|| in_state.and_then(SpaceState::embedding_dim)) {
            wire::check_dimensions(items, dim)?;
        }
        if let Some(held) = held {
            wire::check_declared(items, &held.generation().manifest.attributes)?;
        }
        let in_delta = held.map(|held| held.delta().len()).or(in_state.map(SpaceState::fresh_count));
        let wanted = in_delta.unwrap_or(0) + *fresh + items.len();
        let has_room = if wanted > self.config.write.delta_items_max { Err(FULL) } else { Ok(()) };
        // Said once, not of every upsert.
        match (&has_room, self.replica.troubles().note_room(has_room.as_ref().err())) {
            (Err(error), Turn::Began) => tracing::warn!(%error, "upserts are refused, deletes are not"),
            (_, Turn::Ended) => tracing::info!("upserts are taken again"),
            _ => {}
        }
        has_room?;
        *fresh += items.len();
        Ok(())
    }

    pub(super) async fn publish(&mut self, publish: Publish) -> Result<Moved, IndexError> {
        self.replica.follow().await?;
        let manifest = &publish.manifest;
        let space = manifest.model.space;
        if let Some(lsn) = self.published_already(&publish) {
            self.replica.settle_log().await?;
            // It may have come about elsewhere, and this process not have loaded it yet.
            self.replica.take_in(publish.loaded).await;
            return Ok(Moved { lsn, generation: publish.id });
        }
        self.check_dimension(manifest)?;
        // The current one of a space passed the gates before, or was forced: now its space is to be the one published last.
        let current = self.replica.state().space(space).map(SpaceState::current);
        if current.is_none_or(|current| current.generation != publish.id) {
            self.check_gates(&publish).await?;
        }
        let mut publication = Publication {
            generation: publish.id.clone(),
            model: manifest.model,
            covers: manifest.covers_lsn,
            embedding_dim: manifest.embedding_dim,
            expected: publish.expected,
            publishable_until: manifest.lifetime.map(|lifetime| lifetime.publishable_until_lsn),
            retained_count: self.config.generations.retained_max,
            compacted: publish.compacted,
            forced_by: publish.forced_by,
        };
        if publish.compacted {
            let writes_max = self.config.write.delta_items_max;
            let kept = self.replica.state().space(space).map_or(0, |held| held.kept_within(writes_max));
            publication.retained_count = publication.retained_count.min(kept);
        }
        // What cannot hold need not stand in the log.
        self.replica.state().check(self.replica.state().lsn().next(), &publication)?;
        let (lsn, effect) = self.append(Commit::Publish(publication), publish.loaded).await?;
        crate::failpoint::reached("published");
        self.moved(effect, space, publish.id, lsn)
    }

    pub(super) async fn roll_back(&mut self, roll_back: RollBack) -> Result<Moved, IndexError> {
        self.replica.follow().await?;
        let RollBack { space, target, loaded, expected } = roll_back;
        let held = self.replica.state().space(space).ok_or_else(|| self.not_held(Some(space)))?;
        if held.current().generation == target {
            let lsn = held.current().current_since;
            self.replica.settle_log().await?;
            self.replica.take_in(loaded).await;
            return Ok(Moved { lsn, generation: target });
        }
        let rollback = Rollback { space, generation: target.clone(), expected };
        let (lsn, effect) = self.append(Commit::Rollback(rollback), loaded).await?;
        tracing::warn!(%lsn, generation = %target, "rolled back");
        self.moved(effect, space, target, lsn)
    }

    pub(super) fn check_held(&self, space: SpaceId) -> Result<(), IndexError> {
        if self.held().contains(&space) { Ok(()) } else { Err(self.not_held(Some(space))) }
    }

    /// The spaces held, the most recently published first: of a process that searches, those that it has loaded.
    fn held(&self) -> Vec<SpaceId> {
        let spaces = self.replica.state().spaces().iter().map(SpaceState::space);
        let searches = self.config.index.has(Role::Search);
        spaces.filter(|space| !searches || self.view(*space).is_some()).collect()
    }

    pub(super) fn not_held(&self, space: Option<SpaceId>) -> IndexError {
        let held = self.held();
        match space {
            Some(wanted) => IndexError::SpaceNotHeld { wanted, held },
            None => IndexError::Internal("a write without a space was passed over".into()),
        }
    }

    /// Whether a publication or rollback holds. What it came to is not known where a checkpoint has overtaken it; then the state says.
    fn moved(
        &self,
        effect: Option<Effect>,
        space: SpaceId,
        generation: GenerationId,
        lsn: Lsn,
    ) -> Result<Moved, IndexError> {
        let moved = Moved { lsn, generation };
        match effect {
            Some(Effect::Moved(outcome)) => outcome.map(|()| moved).map_err(IndexError::from),
            _ => {
                let current = self.replica.state().space(space).map(SpaceState::current);
                match current.filter(|current| current.generation != moved.generation) {
                    Some(other) => {
                        Err(IndexError::Superseded { current: Some((other.generation.clone(), other.current_since)) })
                    }
                    None => Ok(moved),
                }
            }
        }
    }

    /// The position at which a generation was published that is current: a second publication changes nothing.
    fn published_already(&self, publish: &Publish) -> Option<Lsn> {
        let state = self.replica.state();
        let current = state.space(publish.manifest.model.space)?.current();
        let is_newest = state.spaces().first()?.current().generation == publish.id;
        let settled = is_newest || publish.expected != Expected::Any;
        (current.generation == publish.id && settled).then_some(current.published)
    }

    /// A space has one dimension.
    fn check_dimension(&self, manifest: &Manifest) -> Result<(), IndexError> {
        let space = manifest.model.space;
        let held = self.view(space).map(|held| held.generation().manifest.embedding_dim);
        let dim = held.or_else(|| self.replica.state().space(space).and_then(SpaceState::embedding_dim));
        match dim.filter(|dim| *dim != manifest.embedding_dim) {
            Some(dim) => {
                let failure = gates::failure("embedding_dim", dim, manifest.embedding_dim);
                Err(IndexError::GateRefused(vec![failure]))
            }
            None => Ok(()),
        }
    }

    /// All gates at once, so that a refusal names each that failed.
    async fn check_gates(&mut self, publish: &Publish) -> Result<(), IndexError> {
        let manifest = &publish.manifest;
        let mut failed = manifest.failed_gates.clone();
        match self.failed_by_count(publish).await {
            // The manifest of what is current, say, is damaged: that is why another is forced.
            Err(error) if publish.forced_by.is_some() => tracing::warn!(%error, "the number of items is not compared"),
            by_count => failed.extend(by_count?),
        }
        match &publish.forced_by {
            _ if failed.is_empty() => Ok(()),
            Some(operator) => {
                tracing::warn!(operator, generation = %publish.id, gates = ?failed, "an operator forces a generation past the gates");
                Ok(())
            }
            None => Err(IndexError::GateRefused(failed)),
        }
    }

    /// Both counts are of this position: what was written since the catalog was read stays, whichever is current. A process that does not search, and one
    /// that need not load what other gates refuse, goes by the counts that were built.
    async fn failed_by_count(&mut self, publish: &Publish) -> Result<Option<GateFailure>, IndexError> {
        if publish.compacted {
            return Ok(None);
        }
        let (space, built) = (publish.manifest.model.space, publish.manifest.report.item_count);
        let items = match &publish.loaded {
            Some(loaded) => self.replica.living_count(loaded).await?,
            None => built,
        };
        let current = match self.config.index.has(Role::Search) {
            true => gates::current_count(space, &self.replica.current().load().spaces),
            false => self.built_count_of_current(space).await?,
        };
        Ok(gates::too_few(items, built, current, self.config.build.item_count_ratio_min))
    }

    async fn built_count_of_current(&mut self, space: SpaceId) -> Result<usize, IndexError> {
        let (state, generations) = (self.replica.state(), self.replica.generations());
        let current = state.space(space).or(state.spaces().first()).map(|held| held.current().generation.clone());
        match current {
            Some(id) => generations.manifest(&id).await.map(|manifest| manifest.report.item_count),
            None => Ok(0),
        }
    }

    fn view(&self, space: SpaceId) -> Option<&HeldSpace> {
        self.replica.views().iter().find(|view| view.space() == space)
    }
}
