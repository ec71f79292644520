//! [`Listing`]: what an operator chooses from: the generations that are current or retained and, if asked for, the others in the store.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use crate::{
    config::Config,
    current::Current,
    error::IndexError,
    gates,
    generation::{Generations, Manifest},
    ids::GenerationId,
    snapshot::Snapshot,
    state::Published,
};

/// Manifests that are read at once.
const READS_AT_ONCE: usize = 16;
/// With the store away, what is retained is listed without its manifest after so long.
const READ_TIME: Duration = Duration::from_secs(1);
/// The most generations listed that no space retains.
const UNPUBLISHED_LIMIT: usize = 1000;

/// Lists generations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Listing {
    config: Arc<Config>,
    current: Current,
    generations: Generations,
}

/// A generation that a space retains.
#[derive(Clone, Debug)]
pub struct Retained {
    /// What the log says of it.
    pub published: Published,
    /// Whether it is the current one of its space.
    pub is_current: bool,
    /// Whether this process searches it.
    pub is_served: bool,
    /// What it is; none: that cannot be read at the moment.
    pub manifest: Option<Manifest>,
}

/// A generation in the store that no space retains.
#[derive(Clone, Debug)]
pub struct Unpublished {
    /// Its id.
    pub id: GenerationId,
    /// What it is; its failed gates include the number of its items beside what is current now.
    pub manifest: Manifest,
    /// Whether it is too old to be published.
    pub is_expired: bool,
}

impl Listing {
    /// Puts it together.
    pub fn new(config: Arc<Config>, current: Current, generations: Generations) -> Self {
        Self { config, current, generations }
    }

    /// The generations of each space that are current or retained, the most recently published space first.
    pub async fn retained(&self) -> Vec<Retained> {
        // Not the snapshot itself: what it holds could not be freed meanwhile.
        let mut retained = retained_of(&self.current.load());
        for one in retained.iter_mut().filter(|one| one.manifest.is_none()) {
            one.manifest = self.manifest_in_time(&one.published.generation).await;
        }
        retained
    }

    /// The others in the store that were finished, what was stored last first.
    pub async fn unpublished(&self) -> Result<Vec<Unpublished>, IndexError> {
        let snapshot = self.current.load_full();
        let is_retained = |id: &GenerationId| {
            snapshot.retained.iter().flat_map(|space| &space.generations).any(|published| published.generation == *id)
        };
        let mut ids = self.generations.finished().await?;
        ids.retain(|id| !is_retained(id));
        let read = stream::iter(ids).map(|id| self.clone().unpublished_one(snapshot.clone(), id));
        let found: Vec<Option<Unpublished>> = read.buffered(READS_AT_ONCE).try_collect().await?;
        let mut found: Vec<Unpublished> = found.into_iter().flatten().collect();
        // Within one position of the log the clock has to do: it is for people.
        let stored =
            |Unpublished { manifest, .. }: &Unpublished| (manifest.lifetime.map(|l| l.begun_lsn), manifest.built_ms);
        found.sort_by_key(|one| Reverse(stored(one)));
        found.truncate(UNPUBLISHED_LIMIT);
        Ok(found)
    }

    async fn manifest_in_time(&self, id: &GenerationId) -> Option<Manifest> {
        timeout(READ_TIME, self.generations.manifest(id)).await.ok()?.ok()
    }

    /// None where it was collected meanwhile, or is damaged, and so cannot be published.
    async fn unpublished_one(
        self,
        snapshot: Arc<Snapshot>,
        id: GenerationId,
    ) -> Result<Option<Unpublished>, IndexError> {
        let mut manifest = match self.generations.manifest(&id).await {
            Err(IndexError::GenerationNotFound(_)) => return Ok(None),
            Err(error @ IndexError::Damaged { .. }) => {
                tracing::warn!(generation = %id, %error, "a generation in the store is not listed");
                return Ok(None);
            }
            read => read?,
        };
        let ratio_min = self.config.build.item_count_ratio_min;
        let (built, current) =
            (manifest.report.item_count, gates::current_count(manifest.model.space, &snapshot.spaces));
        manifest.failed_gates.extend(gates::too_few(built, built, current, ratio_min));
        let is_expired = snapshot.is_expired(&manifest);
        Ok(Some(Unpublished { id, manifest, is_expired }))
    }
}

/// With the manifests of those that are searched.
fn retained_of(snapshot: &Snapshot) -> Vec<Retained> {
    let mut retained = Vec::new();
    for space in snapshot.retained.iter() {
        for (n, published) in space.generations.iter().enumerate() {
            let served = snapshot.spaces.iter().find(|held| held.loaded().id == published.generation);
            let manifest = served.map(|held| held.generation().manifest.clone());
            let (is_current, is_served) = (n == 0, served.is_some());
            retained.push(Retained { published: published.clone(), is_current, is_served, manifest });
        }
    }
    retained
}
