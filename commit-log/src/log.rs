//! [`Log`]: numbered, create-only objects `{prefix}/{lsn:020}`; the first writer of a slot has committed it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    error::LogError,
    frame::{self, Frame, FrameError, PutId},
    options::{LogOptions, Retries},
    store::{Listed, Store},
    store_error::StoreError,
};

/// After so many slots of others in a row a writer looks for the head instead of trying them one by one.
const CONFLICTS_BEFORE_LISTING: u32 = 16;

/// A position in a log, from 1; 0 is before the first commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

/// An append-only log. Clones share what they know of the head; other processes may append to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) store: Store,
    /// The same, for what writers and followers wait for.
    hurried: Store,
    pub(crate) prefix: Arc<str>,
    pub(crate) options: Arc<LogOptions>,
    known: Arc<Known>,
}

/// What a process has seen of a log; the truth may be further.
#[derive(Debug, Default)]
struct Known {
    /// The highest position seen taken.
    head: AtomicU64,
    /// The highest position up to which all slots are known to be stubs.
    cleaned_to: AtomicU64,
    /// Put ids handed out under a seed.
    puts: AtomicU64,
    /// Set once the commit that was the head at the first append has been found whole.
    head_is_whole: OnceCell<()>,
}

enum Slot {
    Ours,
    Others,
    Cleaned {
        to: Lsn,
    },
    /// Called taken, yet empty: another's put is under way, or has failed.
    Empty,
}

impl Lsn {
    /// The next position.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Log {
    /// Opens the log under `prefix` (made by its first append) and finds its head; refuses one with missing commits.
    ///
    /// What the newest checkpoint covers is not listed.
    pub async fn open(store: Store, prefix: &str) -> Result<Self, LogError> {
        Self::open_with(store, prefix, LogOptions::default()).await
    }

    /// As [`Log::open`], with options of the caller's.
    pub async fn open_with(store: Store, prefix: &str, options: LogOptions) -> Result<Self, LogError> {
        let hurried = store.hurried(options.retry_budget);
        let log = Self { store, hurried, prefix: prefix.into(), options: Arc::new(options), known: Arc::default() };
        let covered = log.checkpoints().await?.last().copied().unwrap_or_default();
        log.seen(log.find_head(covered).await?);
        Ok(log)
    }

    /// The highest position that this process has seen taken.
    pub fn head(&self) -> Lsn {
        Lsn(self.known.head.load(Ordering::Acquire))
    }

    /// Commits a payload in the next free slot, and returns its position once it is durable. It is committed once at most, even when
    /// replies were lost; after an error it may be found in the log later.
    ///
    /// Others may have committed in between: what lies between the caller's last position and this one is to be read
    /// with [`Log::read_after`] before this payload is applied.
    pub async fn append(&self, payload: Bytes) -> Result<Lsn, LogError> {
        self.known.head_is_whole.get_or_try_init(|| self.require_whole_head()).await?;
        let put_id = self.new_put_id();
        let object = frame::encode(&Frame::Commit { put_id, payload });
        let (mut lsn, mut conflicts) = (self.head().next(), 0);
        let mut retries = self.retries();
        loop {
            let began = Instant::now();
            match self.take(lsn, put_id, &object).await {
                Ok(Slot::Ours) => {
                    self.seen(lsn);
                    return Ok(lsn);
                }
                Ok(Slot::Others) => {
                    (conflicts, retries) = (conflicts + 1, self.retries());
                    lsn = self.after_conflict(lsn, conflicts).await?;
                }
                Ok(Slot::Cleaned { to }) => {
                    self.seen(to);
                    lsn = lsn.max(to).next();
                }
                Ok(Slot::Empty) if retries.another_after(began.elapsed()).await => {}
                Ok(Slot::Empty) => return Err(LogError::Contended { path: self.path(lsn) }),
                Err(error) if self.may_pass(&error) && retries.another_after(began.elapsed()).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the commits after a position, in order, as far as there are any now.
    ///
    /// [`LogError::Cleaned`] when one of them is cleaned up: none is ever skipped.
    pub async fn read_after(&self, lsn: Lsn) -> Result<Vec<(Lsn, Bytes)>, LogError> {
        let mut commits = Vec::new();
        let (mut next, mut ahead) = (lsn.next(), 1);
        loop {
            let slots = (next.0..next.0 + ahead).map(Lsn);
            for (lsn, frame) in slots.clone().zip(join_all(slots.map(|lsn| self.read(lsn))).await) {
                match frame? {
                    Some(Frame::Commit { payload, .. }) => commits.push((lsn, payload)),
                    Some(Frame::Stub { cleaned_to, .. }) => return Err(self.cleaned(lsn, cleaned_to)),
                    Some(other) => return Err(self.misplaced(lsn, &other)),
                    None => return Ok(commits),
                }
                self.seen(lsn);
            }
            (next, ahead) = (Lsn(next.0 + ahead), (ahead * 2).min(self.options.objects_at_once.max(1) as u64));
        }
    }

    /// A listing says that the head is there, not that it can be read; behind a damaged commit nobody would find what is appended.
    async fn require_whole_head(&self) -> Result<(), LogError> {
        let head = self.head();
        if head > Lsn(0) { self.read(head).await.map(drop) } else { Ok(()) }
    }

    /// Makes the commits that were read durable, which a disk may have failed to do for one whose writer was told so. Whoever tells of a commit,
    /// without one of its own after it, that it is there for good has to do this first.
    pub async fn settle(&self) -> Result<(), LogError> {
        Ok(self.store.settle(&self.prefix).await?)
    }

    /// Tries to make a slot this writer's. A put that failed may have landed all the same, so the slot is read back.
    async fn take(&self, lsn: Lsn, put_id: PutId, object: &Bytes) -> Result<Slot, LogError> {
        let Err(put_error) = self.hurried.put_create(&self.path(lsn), object.clone()).await else {
            return Ok(Slot::Ours);
        };
        let exists = matches!(put_error, StoreError::AlreadyExists { .. });
        if !exists && self.store.is_directory() {
            // What a disk could not flush may be seen and yet not be durable.
            return Err(put_error.into());
        }
        // Once: whoever tries again tries the put again, too, within one budget.
        let path = self.path(lsn);
        match decode(&path, self.hurried.get(&path).await)? {
            Some(Frame::Commit { put_id: found, .. } | Frame::Stub { put_id: found, .. }) if found == put_id => {
                Ok(Slot::Ours)
            }
            Some(Frame::Commit { .. }) => Ok(Slot::Others),
            Some(Frame::Stub { cleaned_to, .. }) => Ok(Slot::Cleaned { to: cleaned_to }),
            Some(other) => Err(self.misplaced(lsn, &other)),
            None if exists => Ok(Slot::Empty),
            None => Err(put_error.into()),
        }
    }

    /// Where to try next: a writer far behind does not walk through all that others wrote meanwhile.
    async fn after_conflict(&self, lsn: Lsn, conflicts: u32) -> Result<Lsn, LogError> {
        if conflicts.is_multiple_of(CONFLICTS_BEFORE_LISTING) {
            let newest = self.slots_after(lsn).await?.last().copied().unwrap_or(lsn);
            self.seen(newest);
            return Ok(newest.next());
        }
        Ok(lsn.next())
    }

    /// The object of a slot, if it is taken.
    pub(crate) async fn read(&self, lsn: Lsn) -> Result<Option<Frame>, LogError> {
        self.read_frame(&self.path(lsn)).await
    }

    pub(crate) async fn read_frame(&self, path: &str) -> Result<Option<Frame>, LogError> {
        decode(path, self.retried(|| self.hurried.get(path)).await)
    }

    /// A call that changes nothing when it is repeated, tried within the budget.
    pub(crate) async fn retried<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut retries = self.retries();
        loop {
            match call().await {
                Err(error) if error.may_pass() && retries.another().await => {}
                done => return done,
            }
        }
    }

    pub(crate) fn retries(&self) -> Retries {
        Retries::new(&self.options)
    }

    /// Whether a put may be tried again: a bucket's failure passes, a disk's is final.
    pub(crate) fn may_pass(&self, error: &LogError) -> bool {
        matches!(error, LogError::Store(error) if error.may_pass()) && !self.store.is_directory()
    }

    pub(crate) fn seen(&self, lsn: Lsn) {
        self.known.head.fetch_max(lsn.0, Ordering::AcqRel);
    }

    pub(crate) fn cleaned_to(&self) -> Lsn {
        Lsn(self.known.cleaned_to.load(Ordering::Acquire))
    }

    pub(crate) fn saw_cleaned(&self, to: Lsn) {
        self.known.cleaned_to.fetch_max(to.0, Ordering::AcqRel);
    }

    pub(crate) fn path(&self, lsn: Lsn) -> String {
        format!("{}/{:020}", self.prefix, lsn.0)
    }

    fn cleaned(&self, lsn: Lsn, cleaned_to: Lsn) -> LogError {
        LogError::Cleaned { prefix: self.prefix.to_string(), lsn, cleaned_to: cleaned_to.max(lsn) }
    }

    fn misplaced(&self, lsn: Lsn, found: &Frame) -> LogError {
        let source = FrameError::Misplaced { expected: frame::FrameKind::Commit, found: found.kind() };
        LogError::Damaged { path: self.path(lsn), source }
    }

    fn new_put_id(&self) -> PutId {
        match self.options.seed {
            None => PutId(rand::random()),
            Some(seed) => PutId((u128::from(seed) << 64) | u128::from(self.known.puts.fetch_add(1, Ordering::AcqRel))),
        }
    }

    async fn find_head(&self, covered: Lsn) -> Result<Lsn, LogError> {
        // With the slot of the checkpoint itself: a checkpoint past the log's end would lead writers to leave a gap.
        let slots = self.slots_after(Lsn(covered.0.saturating_sub(1))).await?;
        let head = slots.last().copied().unwrap_or(covered);
        let mut expected = covered.max(Lsn(1));
        if slots.is_empty() && covered > Lsn(0) {
            self.look_again(covered, 0, head).await?;
        }
        for lsn in &slots {
            while expected < *lsn {
                self.look_again(expected, slots.len(), head).await?;
                expected = expected.next();
            }
            expected = lsn.next();
        }
        Ok(head)
    }

    /// A listing that runs while others write may miss a slot, so the slot itself has the last word.
    async fn look_again(&self, missing: Lsn, found: usize, head: Lsn) -> Result<(), LogError> {
        let path = self.path(missing);
        if self.retried(|| self.store.exists(&path)).await? {
            return Ok(());
        }
        Err(LogError::Gap { prefix: self.prefix.to_string(), found, head, missing })
    }

    /// The slots taken after a position, ascending, as a listing shows them.
    async fn slots_after(&self, lsn: Lsn) -> Result<Vec<Lsn>, LogError> {
        let after = self.path(lsn);
        let listed = self.retried(|| self.store.list_after(&self.prefix, &after)).await?;
        self.positions(&listed)
    }

    /// The positions that listed objects are named for, ascending.
    pub(crate) fn positions(&self, listed: &[Listed]) -> Result<Vec<Lsn>, LogError> {
        let position = |object: &Listed| {
            let name = object.path.rsplit('/').next().filter(|name| name.len() == 20);
            let lsn = name.and_then(|name| name.parse().ok()).filter(|lsn| *lsn > 0).map(Lsn);
            lsn.ok_or_else(|| LogError::Foreign { prefix: self.prefix.to_string(), path: object.path.clone() })
        };
        listed.iter().map(position).collect()
    }
}

fn decode(path: &str, read: Result<Bytes, StoreError>) -> Result<Option<Frame>, LogError> {
    match read {
        Ok(object) => {
            frame::decode(&object).map(Some).map_err(|source| LogError::Damaged { path: path.into(), source })
        }
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
