//! Why a log could not be read or written.

use crate::{frame::FrameError, log::Lsn, store_error::StoreError};

/// Why a log could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The store failed. After a failed append the commit may still be found in the log later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object is damaged. The log cannot be followed past a damaged commit, and nothing may be appended.
    #[error("log object `{path}` is damaged")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: FrameError,
    },
    /// The commits asked for were cleaned up: take [`Log::newest_checkpoint`](crate::Log::newest_checkpoint) and read on from there.
    #[error(
        "commit {lsn} of log `{prefix}` was cleaned up, with all up to {cleaned_to}: start from the newest checkpoint"
    )]
    Cleaned {
        /// The log.
        prefix: String,
        /// The first position met that was cleaned up.
        lsn: Lsn,
        /// The position up to which the log was cleaned, at least.
        cleaned_to: Lsn,
    },
    /// Commits were cleaned up, and no checkpoint covers them.
    #[error("log `{prefix}` was cleaned up to {cleaned_to} and has no checkpoint: its first commits are lost")]
    NoCheckpoint {
        /// The log.
        prefix: String,
        /// The position up to which the log was cleaned, at least.
        cleaned_to: Lsn,
    },
    /// Only what a checkpoint covers may be cleaned up.
    #[error("log `{prefix}` cannot be cleaned up to {before}: its newest whole checkpoint is of {}", or_none(newest))]
    NotCovered {
        /// The log.
        prefix: String,
        /// Up to where it was to be cleaned.
        before: Lsn,
        /// The newest checkpoint that reads back whole.
        newest: Option<Lsn>,
    },
    /// A checkpoint of a position that nobody has committed.
    #[error("log `{prefix}` has no commit {lsn} that a checkpoint could be of")]
    NotCommitted {
        /// The log.
        prefix: String,
        /// The position.
        lsn: Lsn,
    },
    /// Commits are missing from the middle.
    #[error("log `{prefix}` has {found} objects up to position {head}: {missing} is missing")]
    Gap {
        /// The log.
        prefix: String,
        /// Objects there are, those before the newest checkpoint not counted.
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

fn or_none(lsn: &Option<Lsn>) -> String {
    lsn.map_or("no position: there is none".into(), |lsn| format!("position {lsn}"))
}
