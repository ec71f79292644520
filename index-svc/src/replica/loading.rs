//! [`Loading`]: loads the generations that should be searched and are not, one at a time, in the background.

use std::collections::HashMap;

use tokio::task::JoinHandle;

use crate::{
    error::IndexError,
    generation::{Generations, Loaded},
    ids::GenerationId,
    snapshot::HeldSpace,
    state::{SpaceState, State},
};

/// After a failure a generation is tried again at the second look at the log, then the fourth, and so on up to this many.
const LOOKS_BETWEEN_TRIES_LIMIT: u32 = 256;

/// What is being loaded, and what could not be.
#[derive(Debug)]
pub(super) struct Loading {
    generations: Generations,
    under_way: Option<UnderWay>,
    failed: HashMap<GenerationId, Failure>,
}

#[derive(Debug)]
struct UnderWay {
    id: GenerationId,
    /// Whether something of its space is searched meanwhile.
    searched: bool,
    task: JoinHandle<Result<Loaded, IndexError>>,
}

#[derive(Debug)]
struct Failure {
    error: IndexError,
    looks_left: u32,
    looks: u32,
}

impl Loading {
    pub(super) fn new(generations: Generations) -> Self {
        Self { generations, under_way: None, failed: HashMap::new() }
    }

    pub(super) fn generations(&self) -> Generations {
        self.generations.clone()
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Why a generation that is current could not be loaded, if one could not.
    pub(super) fn failure(&self, state: &State) -> Option<(GenerationId, IndexError)> {
        let current = state.spaces().iter().map(|space| &space.current().generation);
        current.filter_map(|id| self.failed.get(id).map(|failure| (id.clone(), failure.error.clone()))).next()
    }

    /// Whether the last try to load a generation failed.
    pub(super) fn has_failed(&self, id: &GenerationId) -> bool {
        self.failed.contains_key(id)
    }

    /// A look at the log: brings the next try of what failed nearer.
    pub(super) fn tick(&mut self) {
        self.failed.values_mut().for_each(|failure| failure.looks_left = failure.looks_left.saturating_sub(1));
    }

    /// Starts loading something that is missing, unless something is being loaded already.
    pub(super) fn start(&mut self, state: &State, views: &[HeldSpace]) {
        self.failed.retain(|id, _| state.retains(id));
        if self.under_way.is_some() {
            return;
        }
        let searched = |space: &SpaceState| views.iter().any(|view| view.space() == space.space());
        let wanted = |space| self.wanted(space, views).map(|id| (id, searched(space)));
        let Some((id, searched)) = state.spaces().iter().find_map(wanted) else { return };
        let (generations, wanted) = (self.generations.clone(), id.clone());
        let task = tokio::spawn(async move { generations.load(&wanted).await });
        self.under_way = Some(UnderWay { id, searched, task });
    }

    /// The generation that has been loaded; none if it could not be. Pends while none is being loaded.
    pub(super) async fn finished(&mut self) -> Option<Loaded> {
        let Some(UnderWay { id, searched, task }) = &mut self.under_way else { return std::future::pending().await };
        let outcome = task.await.unwrap_or_else(|e| Err(IndexError::Internal(e.to_string())));
        let (id, searched) = (id.clone(), *searched);
        self.under_way = None;
        match outcome {
            Ok(loaded) => {
                self.failed.remove(&id);
                Some(loaded)
            }
            Err(error) => {
                self.note(id, error, searched);
                None
            }
        }
    }

    /// The current generation of a space, if it is not searched; where nothing of the space is, an older one if the current one cannot be loaded.
    fn wanted(&self, space: &SpaceState, views: &[HeldSpace]) -> Option<GenerationId> {
        let current = &space.current().generation;
        let searched = views.iter().find(|view| view.space() == space.space()).map(|view| &view.loaded().id);
        if searched == Some(current) {
            return None;
        }
        let candidates = if searched.is_some() { 1 } else { usize::MAX };
        let mut candidates = space.generations().iter().take(candidates).map(|retained| &retained.generation);
        candidates.find(|id| self.failed.get(id).is_none_or(|failure| failure.looks_left == 0)).cloned()
    }

    fn note(&mut self, id: GenerationId, error: IndexError, searched: bool) {
        let looks = self.failed.get(&id).map_or(1, |before| before.looks * 2).min(LOOKS_BETWEEN_TRIES_LIMIT);
        if looks == 1 && searched {
            tracing::error!(%error, generation = %id, "a generation cannot be loaded: the one before stays searched, and this one is tried again");
        } else if looks == 1 {
            tracing::error!(%error, generation = %id, "a generation cannot be loaded: nothing of its space is searched");
        } else {
            tracing::debug!(%error, generation = %id, "a generation still cannot be loaded");
        }
        self.failed.insert(id, Failure { error, looks_left: looks, looks });
    }
}
