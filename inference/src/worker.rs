//! The threads that run forward passes: each takes what waits, up to a batch, and answers it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use pagoda_model::{Entity, ModelVersion, Side, bundle::ModelBundle};
use tokio::sync::{mpsc, oneshot};

use crate::{Embedded, InferenceError};

/// One call's entities, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) model: Arc<ModelBundle>,
    pub(crate) entities: Vec<Entity>,
    pub(crate) reply: Reply,
}

type Reply = oneshot::Sender<Result<Embedded, InferenceError>>;

/// What the threads share.
#[derive(Clone)]
pub(crate) struct Worker {
    side: Side,
    batch_max: usize,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
}

impl Worker {
    pub(crate) fn new(side: Side, batch_max: usize, jobs: mpsc::Receiver<Job>) -> Self {
        Self { side, batch_max, jobs: Arc::new(Mutex::new(jobs)) }
    }

    /// Works until the last handle of the tower is gone.
    pub(crate) fn run(&self) {
        while let Some(mut batch) = self.next_batch() {
            // Whose caller has gone is not worked for.
            batch.retain(|job| !job.reply.is_closed());
            while let Some(first) = batch.first() {
                let model = first.model.clone();
                let (same, others) = batch.into_iter().partition(|job| Arc::ptr_eq(&job.model, &model));
                self.answer(&model, same);
                batch = others;
            }
        }
    }

    /// The next call and, without waiting, those behind it as far as they fit into one batch. `None`: there will be no more.
    fn next_batch(&self) -> Option<Vec<Job>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let first = jobs.blocking_recv()?;
        let mut entities = first.entities.len();
        let mut batch = vec![first];
        while entities < self.batch_max
            && let Ok(job) = jobs.try_recv()
        {
            entities += job.entities.len();
            batch.push(job);
        }
        Some(batch)
    }

    /// One forward pass for all; where that fails, one for each, since each call has to hear of its own faults alone.
    fn answer(&self, model: &ModelBundle, jobs: Vec<Job>) {
        if jobs.len() > 1 {
            let together: Vec<Entity> = jobs.iter().flat_map(|job| job.entities.iter().cloned()).collect();
            if let Ok(embedded) = embed(self.side, model, &together) {
                return share_out(embedded, jobs);
            }
        }
        for Job { entities, reply, .. } in jobs {
            send(reply, embed(self.side, model, &entities));
        }
    }
}

/// Gives each call its own part of a common forward pass.
fn share_out(embedded: Embedded, jobs: Vec<Job>) {
    let mut embeddings = embedded.embeddings.into_iter();
    for Job { entities, reply, .. } in jobs {
        let own = embeddings.by_ref().take(entities.len()).collect();
        send(reply, Ok(Embedded { version: embedded.version, embeddings: own }));
    }
}

/// The caller may have gone in the meantime, which is no failure.
fn send(reply: Reply, answer: Result<Embedded, InferenceError>) {
    let _ = reply.send(answer);
}

fn embed(side: Side, model: &ModelBundle, entities: &[Entity]) -> Result<Embedded, InferenceError> {
    let embeddings = caught(|| Ok(model.embed(side, entities)?))?;
    Ok(Embedded { version: model.version(), embeddings })
}

/// A panic is the failure of this pass, not the end of the thread.
fn caught<T>(pass: impl FnOnce() -> Result<T, InferenceError>) -> Result<T, InferenceError> {
    let panicked = |_| Err(InferenceError::Internal("a forward pass panicked; the log says where".into()));
    catch_unwind(AssertUnwindSafe(pass)).unwrap_or_else(panicked)
}

/// A model among those loaded; `None` asks for the newest.
pub(crate) fn choose(
    models: &[Arc<ModelBundle>],
    version: Option<ModelVersion>,
) -> Result<Arc<ModelBundle>, InferenceError> {
    match version {
        None => models.first().cloned().ok_or(InferenceError::NoModel),
        Some(version) => {
            let found = models.iter().find(|model| model.version() == version);
            found.cloned().ok_or(InferenceError::NotLoaded(version))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let answered: Result<(), _> = caught(|| panic!("one that a test wants"));
        assert!(matches!(answered, Err(InferenceError::Internal(why)) if why.contains("panicked")));
        assert_eq!(caught(|| Ok(1)).unwrap(), 1);
    }
}
