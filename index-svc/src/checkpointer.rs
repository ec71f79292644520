//! [`Checkpointer`]: writes the state down now and then, and cleans the log up behind it. In the background, one at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use pagoda_commit_log::{Log, Lsn};
use tokio::task::JoinHandle;

use crate::{config, error::IndexError, generation::blocking, local_state::LocalState, state::State};

/// When to write checkpoints, and the one under way.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    settings: config::Checkpoint,
    /// Whether they go to the store as well.
    writes: bool,
    local: Option<LocalState>,
    /// The position of the newest one that is known to be whole.
    newest: Arc<AtomicU64>,
    bytes_since: u64,
    due: Option<Arc<State>>,
    under_way: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn new(settings: config::Checkpoint, writes: bool, local: Option<LocalState>) -> Self {
        Self { settings, writes, local, newest: Arc::default(), bytes_since: 0, due: None, under_way: None }
    }

    /// The position of the newest one known.
    pub(crate) fn newest(&self) -> Lsn {
        Lsn(self.newest.load(Ordering::Relaxed))
    }

    /// Another wrote one, which this process has read.
    pub(crate) fn seen(&mut self, lsn: Lsn) {
        self.newest.fetch_max(lsn.0, Ordering::Relaxed);
    }

    /// Notes a commit of so many bytes that led to this state. The positions at which checkpoints are due are the same for everybody, as
    /// long as commits are small, so that processes do not each write their own.
    pub(crate) fn applied(&mut self, state: &Arc<State>, bytes: u64) {
        self.bytes_since += bytes;
        if state.lsn().0.is_multiple_of(self.settings.commits) || self.bytes_since >= self.settings.bytes {
            self.due = Some(state.clone());
            self.bytes_since = 0;
        }
    }

    /// Keeps a copy of the state on the local disk, if there is a place for it.
    pub(crate) async fn keep_locally(&self, state: &Arc<State>) {
        if let Some(local) = &self.local {
            let state = state.clone();
            if let Ok(bytes) = blocking(move || Ok(state.encode())).await {
                local.write(bytes).await;
            }
        }
    }

    /// Starts what is due, unless the last one is still under way.
    pub(crate) fn start(&mut self, log: &Log) {
        let busy = self.under_way.as_ref().is_some_and(|task| !task.is_finished());
        if busy {
            return;
        }
        let Some(state) = self.due.take().filter(|state| state.lsn() > self.newest()) else { return };
        let lsn = state.lsn();
        // The second newest one stays usable, should the newest get damaged.
        let before = self.newest().min(Lsn(lsn.0.saturating_sub(self.settings.commits_kept)));
        let (log, local, newest) = (self.writes.then(|| log.clone()), self.local.clone(), self.newest.clone());
        self.under_way = Some(tokio::spawn(async move {
            if let Err(error) = write(log.as_ref(), local, state).await {
                tracing::warn!(%error, %lsn, "no checkpoint was written, the next one will do");
                return;
            }
            newest.fetch_max(lsn.0, Ordering::Relaxed);
            if let Some(log) = log.filter(|_| before > Lsn(0)) {
                match log.clean_up(before).await {
                    Ok(cleaned) => tracing::debug!(?cleaned, %before, "cleaned the log up"),
                    Err(error) => tracing::warn!(%error, %before, "the log was not cleaned up, it will be later"),
                }
            }
        }));
    }
}

async fn write(log: Option<&Log>, local: Option<LocalState>, state: Arc<State>) -> Result<(), IndexError> {
    let lsn = state.lsn();
    let bytes = blocking(move || Ok(state.encode())).await?;
    if let Some(local) = local {
        local.write(bytes.clone()).await;
    }
    let Some(log) = log else { return Ok(()) };
    let size = bytes.len();
    log.checkpoint(lsn, bytes).await?;
    tracing::info!(%lsn, bytes = size, "wrote a checkpoint");
    Ok(())
}
