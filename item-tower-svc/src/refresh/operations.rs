//! [`Refreshes`]: the refreshes of this process, started, watched, listed and cancelled; one runs at a time.

use std::{
    collections::VecDeque,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, Stream, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Record, Recorded, Refresh, Wish,
    progress::Progress,
    refresher::{Plan, Refresher},
};
use crate::error::ItemTowerError;

/// How many are remembered.
const REMEMBERED: usize = 100;
/// How long somebody who asks for the refreshes waits for what the store knows of others.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The refreshes of this process. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Refreshes {
    refresher: Refresher,
    /// Taken while a refresh is planned or runs; closed once the process stops.
    turn: Arc<Semaphore>,
    /// Newest first.
    operations: Arc<Mutex<VecDeque<Operation>>>,
    /// What begins or runs.
    tasks: TaskTracker,
}

#[derive(Clone, Debug)]
struct Operation {
    refresh: watch::Receiver<Refresh>,
    cancel: CancellationToken,
}

impl Refreshes {
    /// None yet.
    pub fn new(refresher: Refresher) -> Self {
        Self { refresher, turn: Arc::new(Semaphore::new(1)), operations: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Plans a refresh and, unless something speaks against it, starts it. Once that is on record, it starts whether the caller waits for it or not.
    pub async fn start(&self, wish: Wish) -> Result<Refresh, ItemTowerError> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|refused| self.not_now(refused))?;
        let plan = self.refresher.plan(wish).await?;
        let begun = self.tasks.spawn(self.clone().begin(plan, turn)).await;
        begun.unwrap_or_else(|panicked| Err(ItemTowerError::Internal(format!("starting the refresh: {panicked}"))))
    }

    async fn begin(self, plan: Plan, turn: OwnedSemaphorePermit) -> Result<Refresh, ItemTowerError> {
        let id = self.refresher.journal.start(plan.mode, plan.baseline()).await?;
        let baseline = plan.baseline();
        let refresh = Refresh::begin(id, plan.mode, baseline.catalog_version, baseline.model);
        tracing::info!(%id, mode = ?plan.mode, catalog = baseline.catalog_version, model = %baseline.model, "refresh started");
        let (progress, receiver) = Progress::new(refresh.clone());
        let operation = Operation { refresh: receiver, cancel: CancellationToken::new() };
        self.remember(operation.clone());
        // Who closed while it was planned has not seen it.
        if self.turn.is_closed() {
            operation.cancel.cancel();
        }
        self.tasks.spawn(supervise(self.refresher.clone(), plan, progress, operation.cancel, turn));
        Ok(refresh)
    }

    /// A refresh as it stands.
    pub fn get(&self, id: &str) -> Result<Refresh, ItemTowerError> {
        Ok(self.find(id)?.refresh.borrow().clone())
    }

    /// A refresh as it stands, then each time it has changed, until it has ended.
    pub fn watch(&self, id: &str) -> Result<impl Stream<Item = Refresh> + Send + use<>, ItemTowerError> {
        let mut refresh = self.find(id)?.refresh;
        refresh.mark_changed();
        Ok(stream::unfold(Some(refresh), |refresh| async {
            let mut refresh = refresh?;
            refresh.changed().await.ok()?;
            let step = refresh.borrow_and_update().clone();
            let next = (!step.state.is_end()).then_some(refresh);
            Some((step, next))
        }))
    }

    /// All that are remembered, newest first.
    pub fn list(&self) -> Vec<Refresh> {
        self.operations().iter().map(|operation| operation.refresh.borrow().clone()).collect()
    }

    /// The refresh that another process began later than any of these, as its records tell it; None also where the store does not answer.
    pub async fn newest_elsewhere(&self) -> Option<Recorded> {
        let history = timeout(JOURNAL_TIMEOUT, self.refresher.journal.history()).await.ok()?.ok()?;
        let own = self.operations().front().map(|operation| operation.refresh.borrow().id);
        history.newest().filter(|newest| own.is_none_or(|own| own.0 < newest.id.0)).cloned()
    }

    /// Asks a refresh to stop. Without effect once it publishes or has ended.
    pub fn cancel(&self, id: &str) -> Result<Refresh, ItemTowerError> {
        let operation = self.find(id)?;
        operation.cancel.cancel();
        let refresh = operation.refresh.borrow().clone();
        Ok(refresh)
    }

    /// Cancels the refresh that runs, if one does, and starts no more.
    pub fn close(&self) {
        self.turn.close();
        self.operations().iter().for_each(|operation| operation.cancel.cancel());
    }

    /// Follows what becomes of refreshes in other processes; never returns.
    pub async fn follow(&self, every: Duration) -> Infallible {
        self.refresher.journal.follow(every).await
    }

    /// Resolves when no refresh begins or runs.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn not_now(&self, refused: TryAcquireError) -> ItemTowerError {
        if refused == TryAcquireError::Closed {
            return ItemTowerError::Stopping;
        }
        let newest = self.operations().front().map(|operation| operation.refresh.borrow().clone());
        ItemTowerError::RefreshRunning(newest.filter(|refresh| !refresh.state.is_end()).map(|refresh| refresh.id))
    }

    fn find(&self, id: &str) -> Result<Operation, ItemTowerError> {
        let operations = self.operations();
        let found = operations.iter().find(|operation| operation.refresh.borrow().id.to_string() == id);
        found.cloned().ok_or_else(|| ItemTowerError::RefreshNotFound(id.chars().take(64).collect()))
    }

    fn remember(&self, operation: Operation) {
        let mut operations = self.operations();
        operations.push_front(operation);
        operations.truncate(REMEMBERED);
    }

    fn operations(&self) -> MutexGuard<'_, VecDeque<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does the work, records its end, and only then shows it.
async fn supervise(
    refresher: Refresher,
    plan: Plan,
    progress: Progress,
    cancel: CancellationToken,
    turn: OwnedSemaphorePermit,
) {
    let work = AssertUnwindSafe(refresher.run(&plan, &progress, &cancel)).catch_unwind().await;
    let outcome = work.unwrap_or_else(|_| Err(ItemTowerError::Internal("the refresh panicked".into())));
    let ended = progress.now();
    let Refresh { id, lsn, .. } = ended;
    let generation_id = ended.generation_id.as_ref().or(plan.lineage().last()).map(String::as_str);
    if let Err(error) = refresher.journal.append(&Record::of_end(&ended, &outcome, generation_id)).await {
        tracing::warn!(%id, %error, "the end of a refresh was not recorded, so the next incremental one embeds everything");
    }
    match &outcome {
        Ok(()) => tracing::info!(%id, %lsn, "refresh succeeded"),
        Err(ItemTowerError::Cancelled) => tracing::info!(%id, "refresh cancelled"),
        Err(error) => tracing::error!(%id, %error, "refresh failed"),
    }
    // Who sees the end may start the next one at once.
    drop(turn);
    progress.end(&outcome);
}
