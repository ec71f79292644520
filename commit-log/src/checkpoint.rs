//! Checkpoints: the state after a position, `{prefix}-checkpoints/{lsn:020}`, so that nobody need read the log from its start.

use bytes::Bytes;
use futures::future::join_all;

use crate::{
    clean_up::WINDOW,
    error::LogError,
    frame::{self, Frame, FrameError, FrameKind},
    log::{Log, Lsn},
    store_error::StoreError,
};

impl Log {
    /// Keeps the state after a position. To be called with a pure function of the commits up to it: when a checkpoint of the position is
    /// there already, it holds the same, and is left; a damaged one is replaced.
    ///
    /// [`LogError::NotCommitted`] when the position is past the log's end.
    pub async fn checkpoint(&self, lsn: Lsn, payload: Bytes) -> Result<(), LogError> {
        if lsn > self.head() || lsn == Lsn(0) {
            self.require_committed(lsn).await?;
        }
        // A checkpoint that outlives its commits would lead to a gap: they may be seen and yet not be durable.
        self.settle().await?;
        let path = self.checkpoint_path(lsn);
        let object = frame::encode(&Frame::Checkpoint { lsn, payload });
        match self.store.put_create(&path, object.clone()).await {
            Ok(()) => return Ok(()),
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) if error.may_pass() && !self.store.is_directory() => {}
            Err(error) => return Err(error.into()),
        }
        match self.read_checkpoint(lsn).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(LogError::Damaged { .. }) => {
                // Whoever writes here writes the same, so to overwrite harms nobody.
                Ok(self.retried(|| self.store.put(&path, object.clone())).await?)
            }
            Err(error) => Err(error),
        }
    }

    /// The newest checkpoint that can be used: its position and what it holds; `None` when the log is to be read from its start.
    ///
    /// A damaged one is passed over as long as an older one, or the log from its start, still leads on; else it is the error, by name.
    pub async fn newest_checkpoint(&self) -> Result<Option<(Lsn, Bytes)>, LogError> {
        let mut before = None;
        loop {
            let checkpoints = self.checkpoints().await?;
            match self.newest_usable(&checkpoints).await {
                // Another may have written checkpoints and cleaned up between the listing and the reading.
                Err(_) if before.as_ref() != Some(&checkpoints) => before = Some(checkpoints),
                done => return done,
            }
        }
    }

    /// The positions of all checkpoints, ascending.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<Lsn>, LogError> {
        let folder = format!("{}-checkpoints", self.prefix);
        let listed = self.retried(|| self.store.list(&folder)).await?;
        self.positions(&listed)
    }

    /// A checkpoint, read back whole, if it is there.
    pub(crate) async fn read_checkpoint(&self, lsn: Lsn) -> Result<Option<Bytes>, LogError> {
        let path = self.checkpoint_path(lsn);
        let damaged = |source| LogError::Damaged { path: path.clone(), source };
        match self.read_frame(&path).await? {
            None => Ok(None),
            Some(Frame::Checkpoint { lsn: found, payload }) if found == lsn => Ok(Some(payload)),
            Some(Frame::Checkpoint { .. }) => Err(damaged(FrameError::Invalid { why: "it is of another position" })),
            Some(other) => Err(damaged(FrameError::Misplaced { expected: FrameKind::Checkpoint, found: other.kind() })),
        }
    }

    pub(crate) fn checkpoint_path(&self, lsn: Lsn) -> String {
        format!("{}-checkpoints/{:020}", self.prefix, lsn.0)
    }

    async fn newest_usable(&self, checkpoints: &[Lsn]) -> Result<Option<(Lsn, Bytes)>, LogError> {
        let mut damage = None;
        for lsn in checkpoints.iter().rev() {
            match self.read_checkpoint(*lsn).await {
                Ok(Some(payload)) => {
                    return self.leads_on(*lsn, damage).await.map(|()| Some((*lsn, payload)));
                }
                // Gone since the listing: newer ones are there.
                Ok(None) => return Err(StoreError::NotFound { path: self.checkpoint_path(*lsn) }.into()),
                Err(error @ LogError::Damaged { .. }) => {
                    tracing::warn!(error = %chain(&error), "passing over a damaged checkpoint");
                    damage = damage.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        self.leads_on(Lsn(0), damage).await.map(|()| None)
    }

    /// Refuses a start after which commits were cleaned up, which only a newer checkpoint could have allowed.
    async fn leads_on(&self, start: Lsn, damage: Option<LogError>) -> Result<(), LogError> {
        if start > Lsn(0) && damage.is_none() {
            return Ok(());
        }
        let slots = (start.0 + 1..=start.0 + WINDOW).map(Lsn);
        for slot in join_all(slots.map(|lsn| self.read(lsn))).await {
            if let Ok(Some(Frame::Stub { cleaned_to, .. })) = slot {
                return Err(damage.unwrap_or(LogError::NoCheckpoint { prefix: self.prefix.to_string(), cleaned_to }));
            }
        }
        Ok(())
    }

    async fn require_committed(&self, lsn: Lsn) -> Result<(), LogError> {
        let path = self.path(lsn);
        if lsn > Lsn(0) && self.retried(|| self.store.exists(&path)).await? {
            return Ok(());
        }
        Err(LogError::NotCommitted { prefix: self.prefix.to_string(), lsn })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
