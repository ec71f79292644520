//! [`Searcher`]: runs searches off the async threads, a bounded number at once, and none longer than its caller waits.

use std::sync::Arc;

use pagoda_ann::Stop;
use pagoda_server::Deadline;
use tokio::sync::Semaphore;

use super::{Answer, Query, live_recall::LiveRecall, scope, search_bound};
use crate::{caller::Caller, config, current::Current, error::IndexError, generation::blocking};

/// Runs searches of the current snapshot.
#[derive(Clone, Debug)]
pub struct Searcher {
    current: Current,
    permits: Arc<Semaphore>,
    live_recall: Option<LiveRecall>,
}

impl Searcher {
    /// A searcher of the current snapshot.
    pub fn new(current: Current, settings: &config::Search) -> Self {
        let permits = Arc::new(Semaphore::new(config::or_cores(settings.threads)));
        let (share, core_share) = (settings.live_recall_share, settings.live_recall_core_share);
        let is_checked = share > 0.0 && core_share > 0.0;
        let live_recall = is_checked.then(|| LiveRecall::start(current.clone(), share, core_share));
        Self { current, permits, live_recall }
    }

    /// Waits for a free thread and searches the snapshot that is current then. Stops at the deadline. A caller that is gone frees its place, or
    /// its thread within a fraction of a millisecond, or once Faiss has walked a graph.
    pub async fn search(&self, query: Query, deadline: Deadline) -> Result<Answer, IndexError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|e| IndexError::Internal(e.to_string()))?;
        let snapshot = self.current.load_full();
        let (_caller, gone) = Caller::new();
        let live_recall = self.live_recall.clone();
        let held = snapshot.space(query.space)?;
        let predicate = scope::bind(held, &query)?;
        let is_short = query.is_short(held, &predicate);
        let work = move || {
            let _permit = permit;
            let stop = Stop { deadline: Some(deadline.0), cancelled: Some(&gone) };
            let answer = search_bound(&snapshot, &query, &predicate, stop)?;
            if let Some(live_recall) = live_recall {
                live_recall.consider(&snapshot, query, &answer);
            }
            Ok(answer)
        };
        if is_short { work() } else { blocking(work).await }
    }

    /// How many searches could begin now.
    pub fn free_threads(&self) -> usize {
        self.permits.available_permits()
    }
}
