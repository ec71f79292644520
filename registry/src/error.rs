//! Why the registry cannot answer.

use pagoda_commit_log::{LogError, StoreError};

use crate::entry::{Entry, FileRef};

/// Why the registry cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record is none that this release reads.
    #[error("registry record {kind} {version} is invalid: {why}")]
    InvalidRecord {
        /// The kind's name.
        kind: &'static str,
        /// The record's version.
        version: u64,
        /// What is wrong.
        why: String,
    },
    /// A file's content is not what the record says.
    #[error("file `{file}` of {kind} {version} is corrupt: expected digest {expected}, found {found}")]
    Corrupt {
        /// The kind's name.
        kind: &'static str,
        /// The artefact's version.
        version: u64,
        /// The file's name.
        file: String,
        /// The digest recorded.
        expected: String,
        /// The digest found.
        found: String,
    },
}

impl RegistryError {
    pub(crate) fn corrupt(entry: &Entry, file: &str, expected: &FileRef, found: &FileRef) -> Self {
        Self::Corrupt {
            kind: entry.kind.name(),
            version: entry.version,
            file: file.to_owned(),
            expected: expected.sha256.clone(),
            found: found.sha256.clone(),
        }
    }
}
