//! [`Current`]: where queries find the newest snapshot, and wait for one.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use pagoda_commit_log::Lsn;
use tokio::sync::watch;

use crate::{error::IndexError, snapshot::Snapshot};

/// The newest snapshot. Clones show the same one.
#[derive(Clone, Debug)]
pub struct Current {
    snapshot: Arc<ArcSwap<Snapshot>>,
    lsn: watch::Sender<Lsn>,
}

impl Default for Current {
    fn default() -> Self {
        Self { snapshot: Arc::default(), lsn: watch::Sender::new(Lsn(0)) }
    }
}

impl Current {
    /// The newest snapshot, for a look.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The newest snapshot, to keep for a while.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Shows a newer snapshot; returns the one that it replaces, which searches under way may hold still.
    pub(crate) fn replace(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let lsn = snapshot.lsn;
        let replaced = self.snapshot.swap(Arc::new(snapshot));
        self.lsn.send_replace(lsn);
        replaced
    }

    /// Waits until a snapshot shows the writes up to a position, for so long at most.
    pub async fn reached(&self, lsn: Lsn, within: Duration) -> Result<(), IndexError> {
        let mut seen = self.lsn.subscribe();
        let waited = tokio::time::timeout(within, seen.wait_for(|reached| *reached >= lsn)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(IndexError::NotReached { wanted: lsn, reached: self.load().lsn }),
        }
    }

    /// Tells of each newer position.
    pub fn positions(&self) -> watch::Receiver<Lsn> {
        self.lsn.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_position_or_the_time() {
        let current = Current::default();
        let late = current.reached(Lsn(1), Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(late, IndexError::NotReached { wanted: Lsn(1), reached: Lsn(0) }), "{late}");
        let (waited, ()) = tokio::join!(current.reached(Lsn(1), Duration::from_secs(1)), async {
            tokio::task::yield_now().await;
            current.replace(Snapshot { lsn: Lsn(2), ..Snapshot::default() });
        });
        waited.unwrap();
    }
}
