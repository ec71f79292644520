//! [`Committer`]: the one task that writes to the log and applies it. Waiting writes become one commit (group commit), because an object store
//! takes milliseconds a put however much is in it.

use std::time::Duration;

use pagoda_commit_log::Lsn;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::{
    config,
    error::IndexError,
    generation::{Loaded, Manifest},
    ids::SpaceId,
    record::{Commit, Publication, Write},
    replica::Replica,
    wire,
};

/// The way to the committing task; the task ends when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Job>,
}

struct Job {
    work: Work,
    done: oneshot::Sender<Result<Lsn, IndexError>>,
}

enum Work {
    Write(Write),
    Publish(Loaded),
}

impl Committer {
    /// Starts the task.
    pub fn start(replica: Replica, settings: config::Write, poll: Duration) -> Self {
        let (queue, jobs) = mpsc::channel(settings.queue_capacity);
        tokio::spawn(run(replica, settings, poll, jobs));
        Self { queue }
    }

    /// Commits a write; returns once it is durable and visible.
    pub async fn write(&self, write: Write) -> Result<Lsn, IndexError> {
        self.submit(Work::Write(write)).await
    }

    /// Makes a generation current; returns once it is searchable.
    pub async fn publish(&self, loaded: Loaded) -> Result<Lsn, IndexError> {
        self.submit(Work::Publish(loaded)).await
    }

    async fn submit(&self, work: Work) -> Result<Lsn, IndexError> {
        let (done, outcome) = oneshot::channel();
        self.queue.try_send(Job { work, done }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => IndexError::Overloaded("too many writes are waiting"),
            mpsc::error::TrySendError::Closed(_) => IndexError::Internal("the committing task has ended".into()),
        })?;
        outcome.await.unwrap_or_else(|_| Err(IndexError::Internal("the committing task has ended".into())))
    }
}

async fn run(mut replica: Replica, settings: config::Write, poll: Duration, mut jobs: mpsc::Receiver<Job>) {
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        tokio::select! {
            received = jobs.recv_many(&mut waiting, settings.group_writes_max) => match received {
                0 => return,
                _ => commit(&mut replica, &settings, std::mem::take(&mut waiting)).await,
            },
            _ = ticks.tick() => follow(&mut replica).await,
        }
    }
}

async fn follow(replica: &mut Replica) {
    if let Err(error) = replica.follow().await {
        tracing::error!(%error, lsn = %replica.state().lsn(), "cannot follow the log, searching what is known");
    }
}

/// Commits jobs in their order: neighbouring writes together, each publication by itself.
async fn commit(replica: &mut Replica, settings: &config::Write, jobs: Vec<Job>) {
    let mut group = Vec::new();
    let mut group_bytes = 0;
    for Job { work, done } in jobs {
        match work {
            Work::Write(write) => {
                let bytes = write.byte_count();
                if group_bytes + bytes > settings.group_bytes_max {
                    commit_writes(replica, settings, std::mem::take(&mut group)).await;
                    group_bytes = 0;
                }
                group_bytes += bytes;
                group.push((write, done));
            }
            Work::Publish(loaded) => {
                commit_writes(replica, settings, std::mem::take(&mut group)).await;
                // A caller that has gone is told nothing.
                let _ = done.send(commit_publication(replica, loaded).await);
            }
        }
    }
    commit_writes(replica, settings, group).await;
}

type Waiting = (Write, oneshot::Sender<Result<Lsn, IndexError>>);

async fn commit_writes(replica: &mut Replica, settings: &config::Write, group: Vec<Waiting>) {
    let mut writes = Vec::new();
    let mut callers = Vec::new();
    let mut fresh = 0;
    // Whose caller has gone was not promised anything.
    for (write, done) in group.into_iter().filter(|(_, done)| !done.is_closed()) {
        match admit(replica, settings, &write, &mut fresh) {
            Ok(()) => {
                callers.push((space_of(&write), done));
                writes.push(write);
            }
            Err(refused) => drop(done.send(Err(refused))),
        }
    }
    if writes.is_empty() {
        return;
    }
    let outcome = replica.commit(Commit::Writes(writes), None).await;
    let snapshot = replica.current().load_full();
    for (space, done) in callers {
        // Another process may have published a third space in between; then the item is not searchable, and not acknowledged.
        let held = space.map_or(Ok(()), |space| snapshot.space(space).map(drop));
        let _ = done.send(outcome.clone().and_then(|lsn| held.map(|()| lsn)));
    }
}

async fn commit_publication(replica: &mut Replica, loaded: Loaded) -> Result<Lsn, IndexError> {
    replica.follow().await?;
    if let Some(newest) = replica.state().spaces().first()
        && newest.loaded().id == loaded.id
    {
        return Ok(newest.published());
    }
    let manifest = &loaded.generation.manifest;
    check_dimension(replica, manifest)?;
    let publication = Publication { generation: loaded.id.clone(), model: manifest.model, covers: manifest.covers_lsn };
    replica.commit(Commit::Publish(publication), Some(loaded)).await
}

/// A space has one dimension.
fn check_dimension(replica: &Replica, manifest: &Manifest) -> Result<(), IndexError> {
    let held = replica.state().spaces().iter().find(|held| held.space() == manifest.model.space);
    match held.map(|held| held.generation().manifest.embedding_dim) {
        Some(dim) if dim != manifest.embedding_dim => Err(IndexError::GateRefused {
            gate: "embedding_dim",
            expected: dim.to_string(),
            found: manifest.embedding_dim.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Refuses what would not be searchable: a space not held, a wrong dimension, more than the delta may hold.
fn admit(replica: &Replica, settings: &config::Write, write: &Write, fresh: &mut usize) -> Result<(), IndexError> {
    let Write::Upsert { model, items } = write else { return Ok(()) };
    let snapshot = replica.current().load_full();
    let held = snapshot.space(model.space)?;
    wire::check_dimensions(items, held.generation().manifest.embedding_dim)?;
    if held.delta().len() + *fresh + items.len() > settings.delta_items_max {
        return Err(IndexError::Overloaded("the delta is full (write.delta_items_max): a full refresh is due"));
    }
    *fresh += items.len();
    Ok(())
}

fn space_of(write: &Write) -> Option<SpaceId> {
    match write {
        Write::Upsert { model, .. } => Some(model.space),
        Write::Delete(_) => None,
    }
}
