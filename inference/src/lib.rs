//! Serves a tower: takes entities from many callers, embeds what waits together in one forward pass, swaps models while it serves.
//!
//! A forward pass runs on threads of its own, never on the async ones. Knows nothing of gRPC, of the store, or of where models come from.

mod error;
mod worker;

use std::sync::Arc;

use arc_swap::ArcSwap;
use pagoda_model::{Embedding, Entity, ModelVersion, Side, bundle::ModelBundle};
use tokio::sync::{mpsc, oneshot};

pub use crate::error::InferenceError;
use crate::worker::{Job, Worker};

/// What a tower may use.
#[derive(Clone, Copy, Debug)]
pub struct TowerLimits {
    /// How many calls may wait; further ones are refused.
    pub queue_capacity: usize,
    /// How many entities share one forward pass at most, unless a single call brings more.
    pub batch_max: usize,
    /// How many threads run forward passes.
    pub threads: usize,
}

/// Embeddings and the model that made them.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The model.
    pub version: ModelVersion,
    /// One embedding an entity, in the order given.
    pub embeddings: Vec<Embedding>,
}

/// The models that are loaded, newest first: an immutable value, replaced as a whole.
pub(crate) type Models = ArcSwap<Vec<Arc<ModelBundle>>>;

/// One side's tower. Cheap to clone; its threads end with its last clone.
#[derive(Clone, Debug)]
pub struct Tower {
    models: Arc<Models>,
    queue: mpsc::Sender<Job>,
}

impl Tower {
    /// Starts the threads of a side's tower, without a model yet.
    pub fn start(side: Side, limits: TowerLimits) -> std::io::Result<Self> {
        let models = Arc::new(Models::default());
        let (queue, jobs) = mpsc::channel(limits.queue_capacity.max(1));
        let worker = Worker::new(side, limits.batch_max, jobs);
        for n in 0..limits.threads.max(1) {
            let worker = worker.clone();
            std::thread::Builder::new().name(format!("tower-{n}")).spawn(move || worker.run())?;
        }
        Ok(Self { models, queue })
    }

    /// Replaces the models, newest first. Calls under way end on the model that they began with.
    pub fn install(&self, models: Vec<Arc<ModelBundle>>) {
        self.models.store(Arc::new(models));
    }

    /// The models that are loaded, newest first.
    pub fn loaded(&self) -> Vec<ModelVersion> {
        self.models.load().iter().map(|model| model.version()).collect()
    }

    /// A loaded model; `None` asks for the newest.
    pub fn model(&self, version: Option<ModelVersion>) -> Result<Arc<ModelBundle>, InferenceError> {
        worker::choose(&self.models.load(), version)
    }

    /// Embeds entities with a loaded model; `None` asks for the newest. A caller who drops the future is not worked for.
    pub async fn embed(
        &self,
        version: Option<ModelVersion>,
        entities: Vec<Entity>,
    ) -> Result<Embedded, InferenceError> {
        let (reply, embedded) = oneshot::channel();
        let job = Job { model: self.model(version)?, entities, reply };
        self.queue.try_send(job).map_err(|_| InferenceError::Overloaded)?;
        embedded.await.map_err(|_| InferenceError::Internal("the tower's thread ended early".into()))?
    }
}
