//! Clean-up: commits that a checkpoint covers become stubs. Slots are never deleted and never used again, so that a writer that was
//! paused for hours still finds its slot taken, and cannot commit into the past.

use futures::future::try_join_all;

use crate::{
    error::LogError,
    frame::{self, Frame},
    log::{Log, Lsn},
    store_error::StoreError,
};

/// How many whole checkpoints are kept: the newest, and one in case it gets damaged.
const CHECKPOINTS_KEPT: usize = 2;
/// How many slots a clean-up replaces at once. It goes upwards, and ends one window before it begins the next, so that no stub lies
/// more than a window behind the first slot that is none, however many clean-ups run and are killed.
pub(crate) const WINDOW: u64 = 32;

/// What a clean-up did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanUp {
    /// Commits replaced by stubs.
    pub stubs: u64,
    /// Old checkpoints deleted.
    pub checkpoints_deleted: usize,
}

impl Log {
    /// Replaces the commits up to and including `before` by stubs, and deletes all checkpoints but the newest two. Where there are two, none past the
    /// older one is replaced: it leads on when the newest gets damaged.
    ///
    /// [`LogError::NotCovered`] unless a checkpoint of `before` or later reads back whole. Any number of processes may clean up at once; one that was killed
    /// is taken up by the next.
    pub async fn clean_up(&self, before: Lsn) -> Result<CleanUp, LogError> {
        let whole = self.whole_checkpoints().await?;
        let newest = whole.first().copied();
        if newest.is_none_or(|newest| newest < before) {
            return Err(LogError::NotCovered { prefix: self.prefix.to_string(), before, newest });
        }
        let before = whole.get(1).map_or(before, |older| before.min(*older));
        let mut next = self.first_to_clean(before).await?;
        let mut stubs = 0;
        while next <= before {
            let last = before.min(Lsn(next.0 + WINDOW - 1));
            let made = try_join_all((next.0..=last.0).map(|lsn| self.stub(Lsn(lsn), before))).await?;
            stubs += made.into_iter().map(u64::from).sum::<u64>();
            next = last.next();
        }
        self.saw_cleaned(before);
        Ok(CleanUp { stubs, checkpoints_deleted: self.delete_checkpoints(&whole).await? })
    }

    /// The newest checkpoints that read back whole, newest first, as many as are kept.
    async fn whole_checkpoints(&self) -> Result<Vec<Lsn>, LogError> {
        let mut whole = Vec::new();
        for lsn in self.checkpoints().await?.into_iter().rev() {
            match self.read_checkpoint(lsn).await {
                Ok(Some(_)) => whole.push(lsn),
                Ok(None) | Err(LogError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            if whole.len() == CHECKPOINTS_KEPT {
                break;
            }
        }
        Ok(whole)
    }

    /// The first slot that may not be a stub yet, by bisection; a window before the border, where a killed clean-up may have left holes.
    async fn first_to_clean(&self, before: Lsn) -> Result<Lsn, LogError> {
        let (mut stub, mut commit) = (self.cleaned_to().0, before.0 + 1);
        let known = stub;
        while stub + 1 < commit {
            let middle = stub + (commit - stub) / 2;
            match self.read(Lsn(middle)).await {
                Ok(Some(Frame::Stub { .. })) => stub = middle,
                // A damaged one is covered, too.
                Ok(_) | Err(LogError::Damaged { .. }) => commit = middle,
                Err(error) => return Err(error),
            }
        }
        Ok(Lsn(commit.saturating_sub(WINDOW).max(known + 1)))
    }

    /// Makes a slot a stub that keeps the put id of its commit; says whether it was none before.
    async fn stub(&self, lsn: Lsn, cleaned_to: Lsn) -> Result<bool, LogError> {
        let path = self.path(lsn);
        let start = match self.retried(|| self.store.get_range(&path, 0..frame::STUB_BYTES)).await {
            Ok(start) => start,
            Err(error @ StoreError::NotFound { .. }) => return Err(error.into()),
            // Stores differ in what they say of a range in an object without a byte.
            Err(_) => self.retried(|| self.store.get(&path)).await?,
        };
        if let Ok(Frame::Stub { .. }) = frame::decode(&start) {
            return Ok(false);
        }
        let stub = frame::encode(&Frame::Stub { put_id: frame::put_id(&start), cleaned_to });
        self.retried(|| self.store.put(&path, stub.clone())).await?;
        Ok(true)
    }

    async fn delete_checkpoints(&self, whole: &[Lsn]) -> Result<usize, LogError> {
        let [.., oldest_kept] = whole else { return Ok(0) };
        if whole.len() < CHECKPOINTS_KEPT {
            return Ok(0);
        }
        let mut deleted = 0;
        for lsn in self.checkpoints().await?.into_iter().take_while(|lsn| lsn < oldest_kept) {
            let path = self.checkpoint_path(lsn);
            self.retried(|| self.store.delete(&path)).await?;
            deleted += 1;
        }
        Ok(deleted)
    }
}
