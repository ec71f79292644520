//! [`Publisher`]: makes a stored generation current, or an older one current again: loads it first, so that what cannot be searched is not published.

use tracing::Instrument;

use crate::{
    committer::{Committer, Moved, Publish, RollBack},
    config::{Config, Role},
    current::Current,
    error::IndexError,
    generation::{Generations, Loaded},
    ids::{GenerationId, SpaceId},
    record::Expected,
};

/// The way to a new current generation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    current: Current,
    committer: Committer,
    generations: Generations,
    searches: bool,
}

impl Publisher {
    /// Puts it together.
    pub fn new(config: &Config, current: Current, committer: Committer, generations: Generations) -> Self {
        Self { current, committer, generations, searches: config.index.has(Role::Search) }
    }

    /// Publishes a stored generation, if it passes the gates, or is forced by an operator, and what is expected is current.
    pub async fn publish(
        &self,
        id: GenerationId,
        expected: Expected,
        forced_by: Option<String>,
    ) -> Result<Moved, IndexError> {
        let manifest = self.generations.manifest(&id).await?;
        if forced_by.is_none() && !manifest.failed_gates.is_empty() && !self.is_current(&id) {
            // The count gate is not known yet: the committing task says all, without a load for nothing.
            return self
                .committer
                .publish(Publish { id, manifest, loaded: None, expected, compacted: false, forced_by })
                .await;
        }
        let loaded = self.load(&id).await?;
        self.committer.publish(Publish { id, manifest, loaded, expected, compacted: false, forced_by }).await
    }

    /// Publishes a generation that holds what the base, itself current still, and the writes since amount to.
    pub async fn publish_compacted(&self, id: GenerationId, base: GenerationId) -> Result<Moved, IndexError> {
        let manifest = self.generations.manifest(&id).await?;
        let loaded = self.load(&id).await?;
        let expected = Expected::Generation(base);
        self.committer.publish(Publish { id, manifest, loaded, expected, compacted: true, forced_by: None }).await
    }

    /// Goes back to a generation, or to the one that the current one replaced.
    pub async fn roll_back(
        &self,
        space: SpaceId,
        target: Option<GenerationId>,
        expected: Expected,
    ) -> Result<Moved, IndexError> {
        let target = target.map_or_else(|| self.previous(space), Ok)?;
        let retained = self.retained(space);
        if !retained.contains(&target) {
            let retained: Vec<_> = retained.iter().map(ToString::to_string).collect();
            let why = format!("generation `{target}` is not among those retained: [{}]", retained.join(", "));
            return Err(IndexError::NotPublishable(why));
        }
        let loaded = self.load(&target).await?;
        self.committer.roll_back(RollBack { space, target, loaded, expected }).await
    }

    fn previous(&self, space: SpaceId) -> Result<GenerationId, IndexError> {
        let snapshot = self.current.load();
        let held = || snapshot.retained.iter().map(|retained| retained.space).collect();
        let found = snapshot.retained.iter().find(|retained| retained.space == space);
        let found = found.ok_or_else(|| IndexError::SpaceNotHeld { wanted: space, held: held() })?;
        let none =
            || IndexError::NotPublishable("no generation is retained that was published before the current one".into());
        found.previous.clone().ok_or_else(none)
    }

    /// The generation in memory, where this process searches: the one that is searched, or loaded now.
    async fn load(&self, id: &GenerationId) -> Result<Option<Loaded>, IndexError> {
        if !self.searches {
            return Ok(None);
        }
        let searched =
            self.current.load().spaces.iter().find(|held| held.loaded().id == *id).map(|held| held.loaded().clone());
        if searched.is_some() {
            return Ok(searched);
        }
        let (generations, wanted) = (self.generations.clone(), id.clone());
        // To its end, also when nobody waits for it any more: until then it takes the memory that it reserved.
        let load = tokio::spawn(async move { generations.load(&wanted).await }.in_current_span());
        match load.await.unwrap_or_else(|e| Err(IndexError::Internal(e.to_string()))) {
            // Another has published it, and this process is loading it already.
            Err(IndexError::DoesNotFit { .. }) if self.is_current(id) => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    fn is_current(&self, id: &GenerationId) -> bool {
        self.current.load().retained.iter().any(|space| space.generations.first().is_some_and(|g| g.generation == *id))
    }

    /// The generations of a space that are retained, the current one first.
    fn retained(&self, space: SpaceId) -> Vec<GenerationId> {
        let snapshot = self.current.load();
        let of_space = snapshot.retained.iter().filter(|retained| retained.space == space);
        of_space.flat_map(|retained| &retained.generations).map(|published| published.generation.clone()).collect()
    }
}
