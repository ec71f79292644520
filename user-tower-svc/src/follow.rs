//! Keeps models, users and the index's spaces up to date, beside the calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pagoda_dataset::{Limits, read_entities};
use pagoda_model::{Entity, Schema, SpaceId, bundle::ModelBundle};
use pagoda_registry::{Entry, Kind, Registry, RegistryError};
use pagoda_server::Readiness;
use tokio::time::{MissedTickBehavior, interval};

use crate::{error::named, recall::Entrance, users::UserSnapshot};

/// How often readiness is looked at: it follows models and spaces, which change rarely.
const READINESS_INTERVAL: Duration = Duration::from_millis(50);

/// Follows the registry; never returns.
pub(crate) async fn registry(mut follower: RegistryFollower, poll: Duration) {
    let mut trouble = Trouble::default();
    let mut ticks = ticks(poll);
    let entrance = follower.entrance.clone();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // What it holds is wanted at once: until then nobody may be answered.
            () = entrance.held.seen() => {}
        }
        let outcome = follower.step().await.map_err(|error| error.to_string());
        entrance.registry_trouble.store(outcome.as_ref().err().cloned().map(Arc::new));
        trouble.note(outcome);
    }
}

/// Follows the spaces that the index holds; never returns.
pub(crate) async fn index(entrance: Arc<Entrance>, poll: Duration) {
    let mut ticks = ticks(poll);
    let mut last = None;
    loop {
        ticks.tick().await;
        match entrance.index.spaces().await {
            Ok(spaces) => {
                if last.as_ref() != Some(&spaces) {
                    tracing::info!(spaces = named(&spaces), "the index holds");
                }
                entrance.held.set(spaces.clone());
                last = Some(spaces);
            }
            Err(error) => {
                if last.take().is_some() {
                    tracing::warn!(%error, "the index cannot be asked for its spaces");
                }
                entrance.held.note_silence(&error.to_string());
            }
        }
    }
}

/// Keeps the health service in step with whether a model is active; never returns.
pub(crate) async fn readiness(entrance: Arc<Entrance>, readiness: Readiness) {
    let mut ticks = ticks(READINESS_INTERVAL);
    let mut last = None;
    loop {
        ticks.tick().await;
        let active = entrance.active().map_err(|error| error.to_string());
        readiness.set_ready(active.is_ok());
        if last.as_ref() != Some(&active) {
            match &active {
                Ok(model) => tracing::info!(%model, "ready"),
                Err(reason) => tracing::info!(reason, "not ready"),
            }
            last = Some(active);
        }
    }
}

/// Loads what is newest in the registry.
pub(crate) struct RegistryFollower {
    registry: Registry,
    entrance: Arc<Entrance>,
    models_max: usize,
    /// Those in use, newest first.
    models: Vec<(Entry, Arc<ModelBundle>)>,
    /// By kind and version: said once, not tried again.
    refused: BTreeSet<(Kind, u64)>,
}

impl RegistryFollower {
    pub(crate) fn new(registry: Registry, entrance: Arc<Entrance>, models_max: usize) -> Self {
        Self { registry, entrance, models_max, models: Vec::new(), refused: BTreeSet::new() }
    }

    /// Looks once. A broken artefact is refused, said and passed over: what serves goes on serving. Users' features come first: a process with a model and
    /// without them is ready, and answers known users as strangers.
    pub(crate) async fn step(&mut self) -> Result<(), RegistryError> {
        let users = self.follow_users().await;
        self.follow_models().await?;
        users
    }

    /// Holds the newest models and, beside them, the newest of each space that the index holds: however many are registered before the next refresh, users
    /// are answered by the one before.
    async fn follow_models(&mut self) -> Result<(), RegistryError> {
        let held = self.entrance.held.spaces();
        let mut models: Vec<(Entry, Arc<ModelBundle>)> = Vec::new();
        for entry in self.registry.list(Kind::Model).await? {
            // A model that was registered again is one model, as it was registered last.
            if models.iter().any(|(newer, _)| newer.label == entry.label) {
                continue;
            }
            let is_newest = models.len() < self.models_max;
            let has_newer = |space: &SpaceId| models.iter().any(|(_, model)| model.version().space == *space);
            let is_held = space_of(&entry).is_some_and(|space| held.contains(&space) && !has_newer(&space));
            if (is_newest || is_held)
                && let Some(model) = self.model(&entry).await?
            {
                models.push((entry, model));
            }
        }
        if !models.iter().map(|(entry, _)| entry.version).eq(self.models.iter().map(|(entry, _)| entry.version)) {
            self.entrance.tower.install(models.iter().map(|(_, model)| model.clone()).collect());
            self.models = models;
        }
        Ok(())
    }

    /// An entry's model; None where it was refused.
    async fn model(&mut self, entry: &Entry) -> Result<Option<Arc<ModelBundle>>, RegistryError> {
        if let Some((_, model)) = self.models.iter().find(|(held, _)| held.version == entry.version) {
            return Ok(Some(model.clone()));
        }
        let loaded = self.load(entry, |files| ModelBundle::from_files(&files).map_err(|e| e.to_string())).await?;
        Ok(loaded.map(Arc::new))
    }

    async fn follow_users(&mut self) -> Result<(), RegistryError> {
        let Some(entry) = self.registry.latest(Kind::UserFeatures).await? else { return Ok(()) };
        if entry.version == self.entrance.users.load().version() {
            return Ok(());
        }
        let version = entry.version;
        let read = move |files| Ok(Arc::new(UserSnapshot::new(version, read_users(files)?)));
        if let Some(users) = self.load(&entry, read).await? {
            let replaced = self.entrance.users.swap(users);
            // To free the features of millions of users takes as long as to read them.
            drop(tokio::task::spawn_blocking(move || drop(replaced)));
        }
        Ok(())
    }

    /// Fetches an artefact and reads it away from the async threads. None where it is, or was before, refused.
    async fn load<T: Send + 'static>(
        &mut self,
        entry: &Entry,
        read: impl FnOnce(Files) -> Result<T, String> + Send + 'static,
    ) -> Result<Option<T>, RegistryError> {
        let key = (entry.kind, entry.version);
        if self.refused.contains(&key) {
            return Ok(None);
        }
        let fetched = match self.registry.fetch(entry).await {
            Err(error @ RegistryError::Corrupt { .. }) => Err(error.to_string()),
            fetched => Ok(fetched?),
        };
        let read = match fetched {
            Ok(files) => read_blocking(move || read(bytes_of(files))).await,
            Err(error) => Err(error),
        };
        let (kind, version, label) = (entry.kind.name(), entry.version, &entry.label);
        match read {
            Ok(value) => {
                tracing::info!(kind, version, label, "loaded");
                Ok(Some(value))
            }
            Err(error) => {
                tracing::error!(kind, version, label, error, "refused");
                self.refused.insert(key);
                Ok(None)
            }
        }
    }
}

/// The embedding space of a registered model, as its label has it: `space/revision`.
fn space_of(entry: &Entry) -> Option<SpaceId> {
    entry.label.split_once('/')?.0.parse().ok()
}

type Files = BTreeMap<String, Vec<u8>>;

fn bytes_of(files: BTreeMap<String, impl AsRef<[u8]>>) -> Files {
    files.into_iter().map(|(name, bytes)| (name, bytes.as_ref().to_vec())).collect()
}

async fn read_blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|panicked| Err(format!("reading it ended early: {panicked}")))
}

fn read_users(mut files: Files) -> Result<Vec<Entity>, String> {
    let mut take = |name: &str| files.remove(name).ok_or_else(|| format!("file `{name}` is missing"));
    let (schema, users) = (take("schema.toml")?, take("users.parquet")?);
    let schema = String::from_utf8(schema).map_err(|error| format!("schema.toml: {error}"))?;
    let schema = Schema::from_toml(&schema).map_err(|error| format!("schema.toml: {error}"))?;
    let table = read_entities("users.parquet", users.into(), &schema.user, &Limits::default());
    Ok(table.map_err(|error| error.to_string())?.entities)
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Says that something goes wrong when it begins and when it changes, not at every turn.
#[derive(Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn note(&mut self, outcome: Result<(), String>) {
        let error = outcome.err();
        match &error {
            Some(error) if self.0.as_ref() != Some(error) => {
                tracing::warn!(error, "the registry cannot be followed, what is loaded goes on answering");
            }
            None if self.0.is_some() => tracing::info!("following the registry again"),
            _ => {}
        }
        self.0 = error;
    }
}
