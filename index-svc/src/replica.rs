//! [`Replica`]: follows the log of one index, applies it to the state, and shows each new snapshot.
//!
//! The state moves with the log alone. What is searched follows it: writes at once, a generation when it is loaded, which happens in
//! the background; until then, or for good if it cannot be loaded, the one before is searched with all writes since.

mod freeing;
mod loading;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use pagoda_commit_log::{Log, LogError, LogOptions, Lsn, Store};

use self::{freeing::Freeing, loading::Loading};
use crate::{
    background::giving_way,
    checkpointer::Checkpointer,
    config::{self, Config, Role},
    current::Current,
    error::IndexError,
    failpoint,
    generation::{Cache, Generations, Loaded, LocalFiles, blocking},
    ids::SpaceId,
    local_state::LocalState,
    memory::Memory,
    record::Commit,
    snapshot::{HeldSpace, RetainedSpace, Snapshot, living_count},
    state::{BatchEffect, Effect, SpaceState, State},
    troubles::Troubles,
};

/// For so long calls to the store are tried again: less than callers wait, since writes queue behind them.
const RETRY_BUDGET: Duration = Duration::from_secs(5);
/// New writes wait while those since a generation are laid over it: after so long for each of them, that waits for searches no longer.
const PATIENCE_PER_WRITE: Duration = Duration::from_micros(10);

/// The follower of one index's log.
#[derive(Debug)]
pub struct Replica {
    store: Store,
    log_prefix: String,
    /// None as long as the store has not been reached.
    log: Option<Log>,
    writes: bool,
    searches: bool,
    state: Arc<State>,
    views: Vec<HeldSpace>,
    retained: Arc<[RetainedSpace]>,
    floors: Arc<BTreeMap<SpaceId, Lsn>>,
    loading: Loading,
    freeing: Freeing,
    checkpointer: Checkpointer,
    current: Current,
    troubles: Troubles,
}

impl Replica {
    /// Takes the newest checkpoint, follows the log from there and loads the generations that are current at its end. With the store away, what
    /// the local cache has of all this.
    pub async fn open(store: Store, config: &Config) -> Result<Self, IndexError> {
        let name = &config.index.name;
        let cache = open_cache(&config.cache, name)?;
        let local = cache.as_ref().map(|cache| LocalState::new(&cache.state_path(), store.url(), name));
        let memory = Memory::of(&config.memory);
        let files = LocalFiles { cache, map: config.memory.map_files };
        let generations = Generations::new(store.clone(), name, files, memory, &config.index.shards);
        let writes = config.index.has(Role::Write);
        let mut replica = Self {
            store,
            log_prefix: format!("index/{name}/log"),
            log: None,
            writes,
            searches: config.index.has(Role::Search),
            state: Arc::default(),
            views: Vec::new(),
            retained: Arc::new([]),
            floors: Arc::default(),
            loading: Loading::new(generations),
            freeing: Freeing::default(),
            checkpointer: Checkpointer::new(config.checkpoint.clone(), writes, local.clone()),
            current: Current::default(),
            troubles: Troubles::default(),
        };
        match replica.follow().await {
            Err(error @ IndexError::Store(_)) => {
                let state = local.as_ref().and_then(LocalState::read).ok_or(error.clone())?;
                tracing::warn!(%error, lsn = %state.lsn(), "the store is away: starting with what is on the local disk");
                replica.replace(state).await?;
            }
            followed => {
                followed?;
                refuse_older(local.as_ref(), replica.state.lsn())?;
            }
        }
        replica.settle().await?;
        replica.checkpointer.keep_locally(&replica.state).await;
        Ok(replica)
    }

    /// Where the newest snapshot is found, now and later.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// What this process cannot do for the moment.
    pub fn troubles(&self) -> Troubles {
        self.troubles.clone()
    }

    /// The generations of this index.
    pub fn generations(&self) -> Generations {
        self.loading.generations()
    }

    /// The fold so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is searched.
    pub(crate) fn views(&self) -> &[HeldSpace] {
        &self.views
    }

    /// Applies what others, or this process, have committed since.
    pub async fn follow(&mut self) -> Result<(), IndexError> {
        let commits = self.commits_since().await?;
        self.loading.tick();
        for (lsn, commit, bytes) in commits {
            self.advance(lsn, &commit, bytes);
        }
        self.reconcile(None).await
    }

    /// Commits durably, and returns once the commit is visible, with what it came to (as far as that is known). `loaded` is the
    /// generation that becomes current by it, if one does.
    pub async fn commit(
        &mut self,
        commit: Commit,
        loaded: Option<Loaded>,
    ) -> Result<(Lsn, Option<Effect>), IndexError> {
        let log = self.log.clone().ok_or_else(away)?;
        let payload = commit.encode();
        let bytes = payload.len() as u64;
        failpoint::reached(at(&commit, ["before_writes", "before_publication"]));
        let lsn = log.append(payload).await?;
        failpoint::reached(at(&commit, ["writes_appended", "publication_appended"]));
        let mut effect = None;
        if lsn == self.state.lsn().next() {
            effect = Some(self.advance(lsn, &commit, bytes));
        } else {
            for (at, commit, bytes) in self.commits_since().await? {
                let came_to = self.advance(at, &commit, bytes);
                effect = if at == lsn { Some(came_to) } else { effect };
            }
        }
        self.reconcile(loaded).await?;
        Ok((lsn, effect))
    }

    /// Makes what is applied durable, as [`Log::settle`] says.
    pub(crate) async fn settle_log(&self) -> Result<(), IndexError> {
        Ok(self.log.as_ref().ok_or_else(away)?.settle().await?)
    }

    /// Waits for the generation that is being loaded; none if it cannot be. Pends while nothing is. Nothing is lost when this is dropped.
    pub async fn loading(&mut self) -> Option<Loaded> {
        self.loading.finished().await
    }

    /// Waits until the memory of what was replaced last is given back, or a search takes long with it.
    pub(crate) fn freed(&mut self) -> impl Future<Output = ()> + Send + use<> {
        self.freeing.finished()
    }

    /// Searches a generation that was loaded, and starts loading what else is missing.
    pub async fn take_in(&mut self, loaded: Option<Loaded>) {
        if let Err(error) = self.reconcile(loaded).await {
            tracing::error!(%error, "a generation was loaded and cannot be searched");
        }
    }

    /// The commits after the state's position; where these are cleaned up, the state is first replaced by a newer checkpoint.
    async fn commits_since(&mut self) -> Result<Vec<(Lsn, Commit, u64)>, IndexError> {
        let log = self.attached().await?;
        let payloads = match log.read_after(self.state.lsn()).await {
            Err(LogError::Cleaned { .. }) => {
                self.jump(&log).await?;
                log.read_after(self.state.lsn()).await?
            }
            read => read?,
        };
        payloads.into_iter().map(|(lsn, payload)| decode(lsn, payload)).collect()
    }

    /// The log, opened if it is not yet; before anything is ever written, the store shows that it honours create-only puts.
    async fn attached(&mut self) -> Result<Log, IndexError> {
        if let Some(log) = &self.log {
            return Ok(log.clone());
        }
        if self.writes {
            self.store.probe_create_only().await?;
        }
        let options = LogOptions { retry_budget: RETRY_BUDGET, ..LogOptions::default() };
        let log = Log::open_with(self.store.clone(), &self.log_prefix, options).await?;
        if log.head() < self.state.lsn() {
            let why =
                format!("it ends at position {}, the local disk holds the state at {}", log.head(), self.state.lsn());
            return Err(IndexError::Damaged { what: "the commit log".into(), why });
        }
        if self.state.lsn() == Lsn(0) && log.head() > Lsn(0) {
            self.jump(&log).await?;
        }
        self.log = Some(log.clone());
        Ok(log)
    }

    /// Replaces the state by that of the newest checkpoint, if it is a newer one.
    async fn jump(&mut self, log: &Log) -> Result<(), IndexError> {
        let Some((lsn, payload)) = log.newest_checkpoint().await?.filter(|(lsn, _)| *lsn > self.state.lsn()) else {
            return Ok(());
        };
        let damaged = |why: String| IndexError::Damaged { what: format!("checkpoint {lsn} of the log"), why };
        let state = blocking(move || Ok(State::decode(payload))).await?.map_err(|e| damaged(e.to_string()))?;
        if state.lsn() != lsn {
            return Err(damaged(format!("it is of position {}", state.lsn())));
        }
        self.checkpointer.seen(lsn);
        self.replace(state).await
    }

    /// Takes a newer state from elsewhere. What is searched is laid over anew, where all is known that was written since it was built; everything
    /// else is loaded again.
    async fn replace(&mut self, state: State) -> Result<(), IndexError> {
        self.state = Arc::new(state);
        self.note_retained();
        for view in std::mem::take(&mut self.views) {
            let covers = view.generation().manifest.covers_lsn;
            if self.state.space(view.space()).is_some_and(|space| space.floor() <= covers) {
                self.install(view.loaded().clone()).await?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, lsn: Lsn, commit: &Commit, bytes: u64) -> Effect {
        let effect = Arc::make_mut(&mut self.state).apply(lsn, commit);
        match (commit, &effect) {
            (Commit::Writes(batches), Effect::Writes(effects)) => {
                for (batch, effect) in batches.iter().zip(effects) {
                    let BatchEffect::Applied(revived) = effect else { continue };
                    for view in &mut self.views {
                        view.apply(&batch.write);
                        view.revive(revived);
                    }
                }
            }
            _ => self.note_retained(),
        }
        self.checkpointer.applied(&self.state, bytes);
        effect
    }

    /// Brings what is searched in line with the state, as far as that is possible at once, and starts loading what is missing.
    async fn reconcile(&mut self, at_hand: Option<Loaded>) -> Result<(), IndexError> {
        if self.searches {
            let state = self.state.clone();
            self.views.retain(|view| state.space(view.space()).is_some());
            if let Some(loaded) = at_hand
                && self.is_wanted(&loaded)
            {
                self.install(loaded).await?;
            }
            self.loading.start(&state, &self.views);
        }
        if let Some(log) = &self.log {
            self.checkpointer.start(log);
        }
        self.show();
        if self.searches {
            let failure = self.loading.failure(&self.state);
            let why = failure.map(|(id, error)| format!("generation {id}: {error}"));
            self.troubles.note_loading(why, self.views.is_empty());
        }
        Ok(())
    }

    /// Loads everything that is current, and waits for it.
    async fn settle(&mut self) -> Result<(), IndexError> {
        self.reconcile(None).await?;
        while self.loading.is_under_way() {
            let loaded = self.loading().await;
            self.take_in(loaded).await;
        }
        match self.loading.failure(&self.state) {
            Some((_, error)) if self.searches && self.views.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a generation is to be searched: the current one, or a retained one where nothing of its space is searched.
    fn is_wanted(&self, loaded: &Loaded) -> bool {
        let id = loaded.generation.manifest.model.space;
        let searched = self.views.iter().any(|view| view.space() == id);
        self.state.space(id).is_some_and(|space| {
            space.current().generation == loaded.id || (!searched && space.retained(&loaded.id).is_some())
        })
    }

    /// How many items would be searched, were a generation current now.
    pub(crate) async fn living_count(&mut self, loaded: &Loaded) -> Result<usize, IndexError> {
        let (state, generation) = (self.state.clone(), loaded.generation.clone());
        let patience = self.patience(generation.manifest.model.space);
        giving_way(patience, move || Ok(living_count(&generation, &state))).await
    }

    /// For how long what is done with the writes of a space leaves searches the processor.
    fn patience(&self, space: SpaceId) -> Duration {
        let writes = self.state.space(space).map_or(0, |space| space.history().len());
        PATIENCE_PER_WRITE.saturating_mul(u32::try_from(writes).unwrap_or(u32::MAX))
    }

    async fn install(&mut self, loaded: Loaded) -> Result<(), IndexError> {
        let (state, space) = (self.state.clone(), loaded.generation.manifest.model.space);
        let patience = self.patience(space);
        let lay = move || Ok(state.space(space).map(|at| HeldSpace::new(loaded.clone(), at, state.tombstones())));
        let Some(view) = giving_way(patience, lay).await? else { return Ok(()) };
        tracing::info!(lsn = %self.state.lsn(), generation = %view.loaded().id, model = %view.generation().manifest.model, "searching");
        self.views.retain(|other| other.space() != space);
        self.views.push(view);
        Ok(())
    }

    /// Shows the state as a snapshot, unless a space that was searched, and is held still, is missing for the moment: its generation is being loaded. One
    /// that cannot be loaded holds up the writes of others no longer.
    fn show(&mut self) {
        let place = |view: &HeldSpace| self.state.spaces().iter().position(|space| space.space() == view.space());
        let is_searched = |space: &SpaceState| self.views.iter().any(|view| view.space() == space.space());
        let is_awaited =
            |space: &SpaceState| !is_searched(space) && !self.loading.has_failed(&space.current().generation);
        let shown = self.current.load();
        if shown.spaces.iter().any(|shown| self.state.space(shown.space()).is_some_and(is_awaited)) {
            return;
        }
        drop(shown);
        let mut spaces = self.views.clone();
        spaces.sort_by_key(place);
        let head = self.log.as_ref().map_or(Lsn(0), Log::head);
        let snapshot = Snapshot {
            lsn: self.state.lsn(),
            spaces,
            tombstone_count: self.state.tombstones().len(),
            retained: self.retained.clone(),
            floors: self.floors.clone(),
        };
        self.loading.generations().note_use(snapshot.spaces.iter().map(|held| &held.loaded().id));
        crate::figures::show(&snapshot, head, self.checkpointer.newest());
        let replaced = self.current.replace(snapshot);
        crate::figures::forget(&replaced, &self.views);
        self.freeing.start(replaced, &self.views);
    }

    fn note_retained(&mut self) {
        self.retained = self.state.spaces().iter().map(RetainedSpace::of).collect();
        self.floors = Arc::new(self.state.floors());
    }
}

/// Refuses a store whose log ends before what this process has seen of it: it is another, say an empty folder where a volume is not mounted yet, and
/// what is written there would be lost.
fn refuse_older(local: Option<&LocalState>, found: Lsn) -> Result<(), IndexError> {
    match local.and_then(LocalState::read).map(|state| state.lsn()) {
        Some(seen) if seen > found => {
            let why = format!(
                "it ends at position {found}, and the local cache has seen {seen}: is the right store there? If so, remove the cache directory"
            );
            Err(IndexError::Damaged { what: "the commit log".into(), why })
        }
        _ => Ok(()),
    }
}

fn open_cache(settings: &config::Cache, index_name: &str) -> Result<Option<Cache>, IndexError> {
    if settings.directory.is_empty() {
        return Ok(None);
    }
    let directory = Path::new(&settings.directory).join(index_name);
    let opened = Cache::open(&directory, settings.bytes_max);
    opened.map(Some).map_err(|e| IndexError::Internal(format!("cache.directory `{}`: {e}", directory.display())))
}

fn decode(lsn: Lsn, payload: Bytes) -> Result<(Lsn, Commit, u64), IndexError> {
    let bytes = payload.len() as u64;
    match Commit::decode(payload) {
        Ok(commit) => Ok((lsn, commit, bytes)),
        Err(e) => Err(IndexError::Damaged { what: format!("commit {lsn} of the log"), why: e.to_string() }),
    }
}

/// The name for writes, or the one for everything else.
fn at(commit: &Commit, [writes, publication]: [&'static str; 2]) -> &'static str {
    if matches!(commit, Commit::Writes(_)) { writes } else { publication }
}

fn away() -> IndexError {
    IndexError::StoreAway
}
