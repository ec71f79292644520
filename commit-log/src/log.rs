//! [`Log`]: numbered, create-only objects `{prefix}/{lsn:020}`; the first writer of a slot has committed it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::{
    frame::{self, Frame, FrameError, PutId},
    store::{Store, StoreError},
};

/// The most objects read at once while replaying.
const READ_AHEAD: u64 = 32;
/// How often a slot is tried that the store calls taken and yet has no object for (S3 answers so while another put is under way).
const CONTENDED_TRIES: u32 = 50;
const CONTENDED_PAUSE: Duration = Duration::from_millis(20);

/// A position in a log, from 1; 0 is before the first commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

/// An append-only log. Clones share what they know of the head; other processes may append to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    store: Store,
    prefix: Arc<str>,
    /// The highest position seen taken; the true head may be further.
    head: Arc<AtomicU64>,
}

/// Why a log could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The store failed. After a failed append the commit may still be found in the log later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed object is damaged. The log cannot be followed past it, and nothing may be appended.
    #[error("log object `{path}` is damaged")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: FrameError,
    },
    /// Commits are missing from the middle.
    #[error("log `{prefix}` has {found} objects up to position {head}: {missing} is missing")]
    Gap {
        /// The log.
        prefix: String,
        /// Objects there are.
        found: usize,
        /// The highest position.
        head: Lsn,
        /// The first position that is missing.
        missing: Lsn,
    },
    /// An object that is no commit lies among the commits.
    #[error("log `{prefix}` holds `{path}`, which is no commit")]
    Foreign {
        /// The log.
        prefix: String,
        /// The object.
        path: String,
    },
    /// The store kept calling a slot taken that it had no object for.
    #[error("log object `{path}` is called taken by the store, and yet not found")]
    Contended {
        /// The object.
        path: String,
    },
}

enum Slot {
    Ours,
    Others,
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
    pub async fn open(store: Store, prefix: &str) -> Result<Self, LogError> {
        let head = find_head(&store, prefix).await?;
        Ok(Self { store, prefix: prefix.into(), head: Arc::new(AtomicU64::new(head.0)) })
    }

    /// The highest position that this process has seen taken.
    pub fn head(&self) -> Lsn {
        Lsn(self.head.load(Ordering::Acquire))
    }

    /// Commits a payload in the next free slot, and returns its position once it is durable.
    ///
    /// Others may have committed in between: what lies between the caller's last position and this one is to be read
    /// with [`Log::read_after`] before this payload is applied.
    pub async fn append(&self, payload: Bytes) -> Result<Lsn, LogError> {
        let put_id = PutId(rand::random());
        let object = frame::encode(&Frame { put_id, payload });
        let mut lsn = self.head().next();
        let mut tries = 0;
        loop {
            match self.take(lsn, put_id, &object).await? {
                Slot::Ours => {
                    self.seen(lsn);
                    return Ok(lsn);
                }
                Slot::Others => (lsn, tries) = (lsn.next(), 0),
                Slot::Empty if tries == CONTENDED_TRIES => return Err(LogError::Contended { path: self.path(lsn) }),
                Slot::Empty => {
                    tries += 1;
                    tokio::time::sleep(CONTENDED_PAUSE).await;
                }
            }
        }
    }

    /// Reads the commits after a position, in order, as far as there are any now.
    pub async fn read_after(&self, lsn: Lsn) -> Result<Vec<(Lsn, Bytes)>, LogError> {
        let mut commits = Vec::new();
        let (mut next, mut ahead) = (lsn.next(), 1);
        loop {
            let slots = (next.0..next.0 + ahead).map(Lsn);
            for (lsn, frame) in slots.clone().zip(join_all(slots.map(|lsn| self.read(lsn))).await) {
                match frame? {
                    Some(frame) => commits.push((lsn, frame.payload)),
                    None => return Ok(commits),
                }
                self.seen(lsn);
            }
            (next, ahead) = (Lsn(next.0 + ahead), (ahead * 2).min(READ_AHEAD));
        }
    }

    /// Tries to make a slot this writer's. A put that failed may have landed all the same, so the slot is read back.
    async fn take(&self, lsn: Lsn, put_id: PutId, object: &Bytes) -> Result<Slot, LogError> {
        let Err(put_error) = self.store.put_create(&self.path(lsn), object.clone()).await else {
            return Ok(Slot::Ours);
        };
        match self.read(lsn).await? {
            Some(frame) if frame.put_id == put_id => Ok(Slot::Ours),
            Some(_) => Ok(Slot::Others),
            None if matches!(put_error, StoreError::AlreadyExists { .. }) => Ok(Slot::Empty),
            None => Err(put_error.into()),
        }
    }

    async fn read(&self, lsn: Lsn) -> Result<Option<Frame>, LogError> {
        let path = self.path(lsn);
        match self.store.get(&path).await {
            Ok(object) => frame::decode(&object).map(Some).map_err(|source| LogError::Damaged { path, source }),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn seen(&self, lsn: Lsn) {
        self.head.fetch_max(lsn.0, Ordering::AcqRel);
    }

    fn path(&self, lsn: Lsn) -> String {
        format!("{}/{:020}", self.prefix, lsn.0)
    }
}

async fn find_head(store: &Store, prefix: &str) -> Result<Lsn, LogError> {
    let mut lsns = Vec::new();
    for object in store.list(prefix).await? {
        let name = object.path.rsplit('/').next().filter(|name| name.len() == 20);
        let foreign = || LogError::Foreign { prefix: prefix.into(), path: object.path.clone() };
        lsns.push(name.and_then(|name| name.parse().ok()).ok_or_else(foreign)?);
    }
    lsns.sort_unstable();
    let head = Lsn(lsns.last().copied().unwrap_or(0));
    match (1..).zip(&lsns).find(|(expected, lsn)| expected != *lsn) {
        None => Ok(head),
        Some((missing, _)) => {
            Err(LogError::Gap { prefix: prefix.into(), found: lsns.len(), head, missing: Lsn(missing) })
        }
    }
}
