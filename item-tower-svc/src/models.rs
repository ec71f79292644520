//! The registered models: the newest few are kept loaded, another one is loaded when it is asked for.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use pagoda_inference::Tower;
use pagoda_model::{ModelVersion, bundle::ModelBundle};
use pagoda_registry::{Entry, Kind, Registry, RegistryError};
use tokio::sync::Mutex;

use crate::error::ItemTowerError;

/// The models of a registry, as far as they are loaded into a tower. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Models {
    registry: Registry,
    tower: Tower,
    loaded_max: usize,
    loading: Arc<Mutex<Loading>>,
}

/// What one look at the registry remembers for the next.
#[derive(Debug, Default)]
struct Loading {
    /// Why an entry's bundle is refused, by the entry's version; it does not change.
    refused: BTreeMap<u64, String>,
    /// A model that is kept beside the newest ones, since the index holds its embeddings.
    pinned: Option<Arc<ModelBundle>>,
}

impl Models {
    /// The models of a registry; nothing is loaded yet.
    pub fn new(registry: Registry, tower: Tower, loaded_max: usize) -> Self {
        Self { registry, tower, loaded_max, loading: Arc::default() }
    }

    /// The newest model that is loaded.
    pub fn newest_loaded(&self) -> Result<Arc<ModelBundle>, ItemTowerError> {
        Ok(self.tower.model(None)?)
    }

    /// The model that users are answered with: user-tower-svc, too, takes the newest loaded one whose space the index holds. Of the models of the
    /// index's generations, the one published last first; none, where it holds none.
    pub fn in_use(&self, held: &[ModelVersion]) -> Option<ModelVersion> {
        in_use(&self.tower.loaded(), held)
    }

    /// The newest model of the registry as it is now, loaded if it is not yet. Never an older one in its place.
    pub async fn newest_registered(&self) -> Result<Arc<ModelBundle>, ItemTowerError> {
        let mut loading = self.loading.lock().await;
        let newest = self.look(&mut loading).await?.ok_or(ItemTowerError::ModelNotReady)?;
        match loading.refused.get(&newest.version) {
            Some(why) => Err(ItemTowerError::ModelRefused { label: newest.label, why: why.clone() }),
            None => self.newest_loaded(),
        }
    }

    /// A certain model, loaded and kept if it is not yet.
    pub async fn of_version(&self, version: ModelVersion) -> Result<Arc<ModelBundle>, ItemTowerError> {
        if let Ok(model) = self.tower.model(Some(version)) {
            return Ok(model);
        }
        let mut loading = self.loading.lock().await;
        let label = version.to_string();
        let registered = self.registry.list(Kind::Model).await?;
        let entry = registered.into_iter().find(|entry| entry.label == label);
        let entry = entry.ok_or(ItemTowerError::ModelNotRegistered(version))?;
        let model = self.load(&entry).await?;
        loading.pinned = Some(model.clone());
        self.look(&mut loading).await?;
        Ok(model)
    }

    /// Looks at the registry again and again.
    pub async fn follow(&self, every: Duration) -> Infallible {
        let mut reachable = true;
        loop {
            let looked = self.look(&mut *self.loading.lock().await).await;
            match (&looked, reachable) {
                (Err(error), true) => tracing::warn!(%error, "cannot look for new models"),
                (Ok(_), false) => tracing::info!("looking for new models again"),
                _ => {}
            }
            reachable = looked.is_ok();
            tokio::time::sleep(every).await;
        }
    }

    /// Loads what is new among the newest models and installs them; returns the newest entry, usable or not.
    async fn look(&self, loading: &mut Loading) -> Result<Option<Entry>, ItemTowerError> {
        let entries = self.registry.list(Kind::Model).await?;
        let mut models: Vec<Arc<ModelBundle>> = Vec::new();
        for entry in &entries {
            if models.len() == self.loaded_max {
                break;
            }
            if let Some(model) = self.load_or_note(entry, loading).await?
                && models.iter().all(|m| m.version() != model.version())
            {
                models.push(model);
            }
        }
        if let Some(pinned) = &loading.pinned
            && models.iter().all(|m| m.version() != pinned.version())
        {
            models.push(pinned.clone());
        }
        self.install(models);
        Ok(entries.into_iter().next())
    }

    fn install(&self, models: Vec<Arc<ModelBundle>>) {
        let versions: Vec<ModelVersion> = models.iter().map(|m| m.version()).collect();
        if versions != self.tower.loaded() {
            tracing::info!(models = ?versions.iter().map(ToString::to_string).collect::<Vec<_>>(), "models loaded");
            self.tower.install(models);
        }
    }

    async fn load_or_note(
        &self,
        entry: &Entry,
        loading: &mut Loading,
    ) -> Result<Option<Arc<ModelBundle>>, ItemTowerError> {
        if loading.refused.contains_key(&entry.version) {
            return Ok(None);
        }
        if let Some(loaded) = self.loaded(&entry.label) {
            return Ok(Some(loaded));
        }
        match self.load(entry).await {
            Ok(model) => Ok(Some(model)),
            Err(ItemTowerError::ModelRefused { label, why }) => {
                tracing::error!(model = label, why, "a registered model is refused");
                loading.refused.insert(entry.version, why);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn loaded(&self, label: &str) -> Option<Arc<ModelBundle>> {
        let version = self.tower.loaded().into_iter().find(|v| v.to_string() == label)?;
        self.tower.model(Some(version)).ok()
    }

    async fn load(&self, entry: &Entry) -> Result<Arc<ModelBundle>, ItemTowerError> {
        let refused = |why| ItemTowerError::ModelRefused { label: entry.label.clone(), why };
        let files = match self.registry.fetch(entry).await {
            Err(error @ RegistryError::Corrupt { .. }) => return Err(refused(error.to_string())),
            fetched => fetched?,
        };
        let label = entry.label.clone();
        let loaded = tokio::task::spawn_blocking(move || read_bundle(files, &label)).await;
        let loaded = loaded.map_err(|e| ItemTowerError::Internal(format!("loading model {}: {e}", entry.label)))?;
        loaded.map(Arc::new).map_err(refused)
    }
}

fn in_use(loaded: &[ModelVersion], held: &[ModelVersion]) -> Option<ModelVersion> {
    let of_space = |model: &ModelVersion| held.iter().find(|held| held.space == model.space);
    loaded.iter().find_map(of_space).or(held.first()).copied()
}

fn read_bundle(files: BTreeMap<String, Bytes>, label: &str) -> Result<ModelBundle, String> {
    let files = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
    let bundle = ModelBundle::from_files(&files).map_err(|e| e.to_string())?;
    match bundle.version().to_string() {
        version if version == label => Ok(bundle),
        other => Err(format!("its bundle is of model {other}")),
    }
}

#[cfg(test)]
mod tests {
    use pagoda_model::SpaceId;

    use super::*;

    const OLD: ModelVersion = ModelVersion { space: SpaceId(1), revision: 0 };
    const APPENDED: ModelVersion = ModelVersion { space: SpaceId(1), revision: 1 };
    const NEW: ModelVersion = ModelVersion { space: SpaceId(2), revision: 0 };

    #[test]
    fn in_use_is_the_newest_loaded_model_that_the_index_can_answer() {
        assert_eq!(in_use(&[NEW, OLD], &[OLD]), Some(OLD), "a rollout: the index is not there yet");
        assert_eq!(in_use(&[NEW, OLD], &[OLD, NEW]), Some(NEW), "the order of publications does not matter");
        assert_eq!(in_use(&[OLD, NEW], &[NEW, OLD]), Some(OLD), "the older one is registered again");
        assert_eq!(in_use(&[APPENDED], &[OLD]), Some(OLD), "as the generation has it");
        assert_eq!(in_use(&[], &[NEW, OLD]), Some(NEW), "nothing is loaded");
        assert_eq!(in_use(&[NEW], &[]), None);
    }
}
