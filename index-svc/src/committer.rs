//! [`Committer`]: the one task that writes to the log and applies it. Waiting writes become one commit (group commit), because an object store
//! takes milliseconds a put however much is in it.

mod admission;

use std::time::Duration;

use pagoda_commit_log::Lsn;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

pub use self::admission::{Publish, RollBack};
use crate::{
    config::Config,
    error::IndexError,
    figures,
    generation::Loaded,
    ids::{GenerationId, SpaceId},
    record::{Batch, Commit, Write},
    replica::Replica,
    state::{BatchEffect, Effect},
    troubles::Turn,
};

/// The way to the committing task; the task ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Job>,
}

/// A publication or rollback that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its position in the log.
    pub lsn: Lsn,
    /// The generation that is current by it.
    pub generation: GenerationId,
}

enum Job {
    Write(Batch, oneshot::Sender<Result<Lsn, IndexError>>),
    Revive(Batch, Lsn, oneshot::Sender<Result<Lsn, IndexError>>),
    Publish(Box<Publish>, oneshot::Sender<Result<Moved, IndexError>>),
    RollBack(RollBack, oneshot::Sender<Result<Moved, IndexError>>),
}

/// The committing task.
struct Task {
    replica: Replica,
    config: Config,
}

impl Committer {
    /// Starts the task.
    pub fn start(replica: Replica, config: &Config) -> Self {
        let (queue, jobs) = mpsc::channel(config.write.queue_capacity);
        let task = Task { replica, config: config.clone() };
        tokio::spawn(task.run(jobs));
        Self { queue }
    }

    /// Resolves when the task has ended although there is somebody to write: it panicked.
    pub(crate) async fn ended(&self) {
        self.queue.closed().await;
    }

    /// Commits a write; returns once it is durable and visible.
    pub async fn write(&self, batch: Batch) -> Result<Lsn, IndexError> {
        self.submit(|done| Job::Write(batch, done)).await
    }

    /// Commits of the items of an upsert those alone that are deleted, and were up to a position; 0: there are none.
    pub async fn revive(&self, batch: Batch, deleted_until: Lsn) -> Result<Lsn, IndexError> {
        self.submit(|done| Job::Revive(batch, deleted_until, done)).await
    }

    /// Makes a generation current; returns once it is searchable.
    pub async fn publish(&self, publish: Publish) -> Result<Moved, IndexError> {
        self.submit(|done| Job::Publish(Box::new(publish), done)).await
    }

    /// Makes an older generation current again; returns once it is searchable.
    pub async fn roll_back(&self, roll_back: RollBack) -> Result<Moved, IndexError> {
        self.submit(|done| Job::RollBack(roll_back, done)).await
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, IndexError>>) -> Job,
    ) -> Result<T, IndexError> {
        let (done, outcome) = oneshot::channel();
        self.queue.try_send(job(done)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => IndexError::Overloaded("too many writes are waiting"),
            mpsc::error::TrySendError::Closed(_) => IndexError::Internal("the committing task has ended".into()),
        })?;
        outcome.await.unwrap_or_else(|_| Err(IndexError::Internal("the committing task has ended".into())))
    }
}

impl Task {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut ticks = interval(Duration::from_millis(self.config.index.poll_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                received = jobs.recv_many(&mut waiting, self.config.write.group_writes_max) => match received {
                    0 => return,
                    _ => self.commit(std::mem::take(&mut waiting)).await,
                },
                _ = ticks.tick() => self.follow().await,
                loaded = self.replica.loading() => self.replica.take_in(loaded).await,
            }
        }
    }

    async fn follow(&mut self) {
        let followed = self.replica.follow().await;
        let (lsn, troubles) = (self.replica.state().lsn(), self.replica.troubles());
        // Said once, not at every look.
        match (&followed, troubles.note_following(followed.as_ref().err())) {
            (Err(error @ (IndexError::Store(_) | IndexError::StoreAway)), Turn::Began) => {
                tracing::warn!(%error, %lsn, "cannot follow the log: writes are refused, what is known is searched");
            }
            (Err(error), Turn::Began) => {
                tracing::error!(%error, %lsn, "cannot follow the log: writes are refused, what is known is searched");
            }
            (_, Turn::Ended) => tracing::info!(%lsn, "following the log again"),
            _ => {}
        }
        figures::troubles(&troubles.now());
    }

    /// Commits, and notes whether the store takes it.
    async fn append(&mut self, commit: Commit, loaded: Option<Loaded>) -> Result<(Lsn, Option<Effect>), IndexError> {
        let committed = self.replica.commit(commit, loaded).await;
        let refused = committed.as_ref().err().filter(|error| error.is_of_the_store());
        match (refused, self.replica.troubles().note_writing(refused)) {
            (Some(error), Turn::Began) => {
                tracing::warn!(%error, "the store refuses a write: search goes on, each further write is tried");
            }
            (_, Turn::Ended) => tracing::info!("the store takes writes again"),
            _ => {}
        }
        committed
    }

    /// Commits jobs in their order: neighbouring writes together, each publication by itself.
    async fn commit(&mut self, jobs: Vec<Job>) {
        let mut group = Vec::new();
        let mut group_bytes = 0;
        for job in jobs {
            match job {
                Job::Write(batch, done) => {
                    let bytes = batch.byte_count();
                    if group_bytes + bytes > self.config.write.group_bytes_max {
                        self.commit_writes(std::mem::take(&mut group)).await;
                        group_bytes = 0;
                    }
                    group_bytes += bytes;
                    group.push((batch, done));
                }
                Job::Revive(mut batch, deleted_until, done) => {
                    self.commit_writes(std::mem::take(&mut group)).await;
                    match self.keep_deleted(&mut batch, deleted_until).await {
                        Ok(true) => self.commit_writes(vec![(batch, done)]).await,
                        nothing => drop(done.send(nothing.map(|_| Lsn::default()))),
                    }
                }
                Job::Publish(publish, done) => {
                    self.commit_writes(std::mem::take(&mut group)).await;
                    let moved = self.publish(*publish).await;
                    self.answer_freed(moved, done);
                }
                Job::RollBack(roll_back, done) => {
                    self.commit_writes(std::mem::take(&mut group)).await;
                    let moved = self.roll_back(roll_back).await;
                    self.answer_freed(moved, done);
                }
            }
        }
        self.commit_writes(group).await;
    }

    /// Leaves of an upsert the items that are deleted now, and were up to a position. Whether there is something to commit; one that was committed before is
    /// told apart there.
    async fn keep_deleted(&mut self, batch: &mut Batch, deleted_until: Lsn) -> Result<bool, IndexError> {
        self.replica.follow().await?;
        let state = self.replica.state();
        let is_repeated = batch.request_id.as_ref().is_some_and(|id| state.position_of(id).is_some());
        let Write::Upsert { items, .. } = &mut batch.write else { return Ok(true) };
        items.retain(|item| state.tombstones().get(&item.id).is_some_and(|deleted| *deleted <= deleted_until));
        Ok(is_repeated || !items.is_empty())
    }

    /// Answers once the memory of what was replaced counts as free: a build or another publication may follow at once. Writes do not wait for that.
    fn answer_freed(&mut self, moved: Result<Moved, IndexError>, done: oneshot::Sender<Result<Moved, IndexError>>) {
        let freed = self.replica.freed();
        tokio::spawn(async move {
            freed.await;
            // A caller that has gone is told nothing.
            let _ = done.send(moved);
        });
    }

    async fn commit_writes(&mut self, group: Vec<(Batch, oneshot::Sender<Result<Lsn, IndexError>>)>) {
        let mut batches = Vec::new();
        let mut callers = Vec::new();
        let mut repeated = Vec::new();
        let mut fresh = 0;
        // Whose caller has gone was not promised anything.
        for (batch, done) in group.into_iter().filter(|(_, done)| !done.is_closed()) {
            if let Some(before) = batch.request_id.as_ref().and_then(|id| self.replica.state().position_of(id)) {
                repeated.push((before, done));
                continue;
            }
            match self.admit(&batch.write, &mut fresh) {
                Ok(()) => {
                    callers.push((space_of(&batch.write), done));
                    batches.push(batch);
                }
                Err(refused) => drop(done.send(Err(refused))),
            }
        }
        self.acknowledge_again(repeated).await;
        if batches.is_empty() {
            return;
        }
        let outcome = self.append(Commit::Writes(batches), None).await;
        for (number, (space, done)) in callers.into_iter().enumerate() {
            let _ = done.send(outcome.clone().and_then(|(lsn, effect)| self.acknowledge(space, lsn, number, effect)));
        }
    }

    /// Tells where writes are that were written before. Their first callers may have been told that the disk failed to keep them.
    async fn acknowledge_again(&self, repeated: Vec<(Lsn, oneshot::Sender<Result<Lsn, IndexError>>)>) {
        if repeated.is_empty() {
            return;
        }
        let settled = self.replica.settle_log().await;
        for (before, done) in repeated {
            let _ = done.send(settled.clone().map(|()| before));
        }
    }

    /// The position that a caller is told. Another process may have published a third space in between; then an item is not searchable, and not
    /// acknowledged.
    fn acknowledge(
        &self,
        space: Option<SpaceId>,
        lsn: Lsn,
        number: usize,
        effect: Option<Effect>,
    ) -> Result<Lsn, IndexError> {
        space.map_or(Ok(()), |space| self.check_held(space))?;
        match effect {
            Some(Effect::Writes(effects)) => match effects.get(number) {
                Some(BatchEffect::Repeated(before)) => Ok(*before),
                Some(BatchEffect::PassedOver) => Err(self.not_held(space)),
                _ => Ok(lsn),
            },
            _ => Ok(lsn),
        }
    }
}

fn space_of(write: &Write) -> Option<SpaceId> {
    match write {
        Write::Upsert { model, .. } => Some(model.space),
        Write::Delete(_) => None,
    }
}
