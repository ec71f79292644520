//! [`Builder`]: builds generations within its own share of the processor, and stores them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::UNIX_EPOCH,
};

use pagoda_ann::AnnError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::{
    background::in_the_background,
    build::{self, Header, Incoming},
    caller::Caller,
    config::Config,
    current::Current,
    error::IndexError,
    generation::{Generation, Generations, Lifetime, Manifest},
    ids::GenerationId,
    memory::Reservation,
};

/// Builds that run at once: each holds a whole catalog in memory.
const BUILDS_AT_ONCE: usize = 1;

/// Builds generations, one at a time. Clones share the place.
#[derive(Clone, Debug)]
pub struct Builder {
    config: Arc<Config>,
    current: Current,
    generations: Generations,
    places: Arc<Semaphore>,
}

/// What a build has until it has ended: its place, and memory.
#[derive(Debug)]
pub(crate) struct Held {
    _place: OwnedSemaphorePermit,
    _memory: Reservation,
}

impl Builder {
    /// A builder with a place of its own.
    pub fn new(config: Arc<Config>, current: Current, generations: Generations) -> Self {
        Self { config, current, generations, places: Arc::new(Semaphore::new(BUILDS_AT_ONCE)) }
    }

    /// Takes the place, if it is free.
    pub fn reserve(&self) -> Result<OwnedSemaphorePermit, IndexError> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| IndexError::Overloaded("another generation is being built"))
    }

    /// Begins a build in its place, if what it takes at its peak fits into memory beside what is there. Both are its own until it ends.
    pub fn begin(&self, place: OwnedSemaphorePermit, header: Header) -> Result<Incoming, IndexError> {
        let shard_count = self.config.build.shard_count;
        let memory =
            self.generations.reserve(build::peak_bytes(&header, shard_count)).map_err(|error| match error {
                IndexError::DoesNotFit { bytes, free, total } => IndexError::BuildDoesNotFit { bytes, free, total },
                other => other,
            })?;
        Ok(Incoming::new(header, shard_count).within(Held { _place: place, _memory: memory }))
    }

    /// Takes in items, beside the threads that search: to check and to lay out a few thousand takes milliseconds.
    pub(crate) async fn filled(
        &self,
        mut incoming: Incoming,
        fill: impl FnOnce(&mut Incoming) -> Result<(), IndexError> + Send + 'static,
    ) -> Result<Incoming, IndexError> {
        let fill = move || fill(&mut incoming).map(|()| incoming);
        in_the_background(self.config.build.nice, fill).await
    }

    /// Builds and measures what has come in, and stores it. Nothing is published. When nobody waits for it any more it ends as soon as it can, and
    /// holds its place and its memory until then: another build would not fit beside it.
    pub async fn build(&self, mut incoming: Incoming) -> Result<(GenerationId, Manifest), IndexError> {
        let (builder, held) = (self.clone(), incoming.take_held());
        let (_caller, gone) = Caller::new();
        let work = async move {
            let _held = held;
            let built = builder.finish_and_store(incoming, &gone).await;
            if gone.load(Ordering::Relaxed) {
                tracing::info!(outcome = ?built.as_ref().map(|(id, _)| id), "a build has ended that nobody waits for any more");
            }
            built
        };
        let work = tokio::spawn(work.in_current_span());
        work.await.unwrap_or_else(|e| Err(IndexError::Internal(e.to_string())))
    }

    async fn finish_and_store(
        &self,
        incoming: Incoming,
        gone: &Arc<AtomicBool>,
    ) -> Result<(GenerationId, Manifest), IndexError> {
        let (settings, flag) = (self.config.build.clone(), gone.clone());
        let mut generation = in_the_background(settings.nice, move || incoming.finish(&settings, &flag)).await?;
        generation.manifest.built_ms = UNIX_EPOCH.elapsed().ok().map(|since| since.as_millis() as u64);
        crate::failpoint::reached("generation_built");
        if gone.load(Ordering::Relaxed) {
            return Err(AnnError::Cancelled.into());
        }
        self.store(generation).await
    }

    async fn store(&self, generation: Generation) -> Result<(GenerationId, Manifest), IndexError> {
        let (covers, begun) = (generation.manifest.covers_lsn, self.current.load().lsn);
        let lifetime = Lifetime::of(covers, begun, self.config.generations.orphan_age_commits);
        let (id, manifest) = self.generations.save(generation, lifetime).await?;
        tracing::info!(generation = %id, report = ?manifest.report, failed_gates = ?manifest.failed_gates, "built");
        Ok((id, manifest))
    }
}
