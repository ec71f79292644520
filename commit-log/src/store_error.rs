//! Why an operation on a store failed, told apart by what a caller does next.

use std::{fmt, io, path::PathBuf, sync::Arc};

/// Why an operation on a store failed. Paths are relative to the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The address is none that can be opened.
    #[error("store `{url}`: {why}")]
    InvalidUrl {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The path is none that a store can hold.
    #[error("object path `{path}` is invalid")]
    InvalidPath {
        /// The path as given.
        path: String,
        /// The cause.
        source: object_store::path::Error,
    },
    /// There is no such object.
    #[error("object `{path}` was not found")]
    NotFound {
        /// The object.
        path: String,
    },
    /// A create-only put found an object in its place. It may be this very put's, when it broke off or its reply was lost.
    #[error("object `{path}` already exists")]
    AlreadyExists {
        /// The object.
        path: String,
    },
    /// The store overwrites where it was told to create only, so no log can be kept in it.
    #[error(
        "store `{url}` ignores create-only puts: it accepted `{path}` twice, so writes could be lost; use another store"
    )]
    IgnoresCreateOnly {
        /// The store.
        url: String,
        /// The object accepted twice.
        path: String,
    },
    /// The store has no room left, or its quota is spent.
    #[error("store `{store}` has no space left for object `{path}`")]
    Full {
        /// The store.
        store: Arc<str>,
        /// The object that was being written.
        path: Box<str>,
        /// The cause.
        source: object_store::Error,
    },
    /// The bucket or container of the store does not exist.
    #[error("store `{store}` has no such bucket: it has to be made first")]
    NoBucket {
        /// The store.
        store: Arc<str>,
    },
    /// The store does not let this process do it: credentials, the permissions of a file, a read-only file system.
    #[error("store `{store}` gives no permission to {access} object `{path}`")]
    Denied {
        /// The store.
        store: Arc<str>,
        /// What was tried.
        access: Access,
        /// The object.
        path: Box<str>,
        /// The cause.
        source: object_store::Error,
    },
    /// No credentials were given for the bucket, and the machine that was asked for some gave none, or nothing was heard in time, of it or of the bucket.
    #[error(
        "store `{store}` was given no credentials: unless this machine has some, set {variables} (docs/operations.md)"
    )]
    NoCredentials {
        /// The store.
        store: Arc<str>,
        /// The variables of the environment that give some.
        variables: &'static str,
        /// The cause.
        source: object_store::Error,
    },
    /// The folder of the store is gone, or another lies in its place: nothing is written there, and nothing can be called not found. It may
    /// come back, and then the same calls succeed.
    #[error("the store's folder `{}` {why}", folder.display())]
    FolderLost {
        /// The folder.
        folder: PathBuf,
        /// What is there instead.
        why: String,
    },
    /// Anything else: unreachable, out of time, broken, not flushed to the disk. A put may have landed all the same.
    #[error("object `{path}` of store `{store}` is unavailable")]
    Unavailable {
        /// The store.
        store: Arc<str>,
        /// The object.
        path: Box<str>,
        /// The cause.
        source: object_store::Error,
    },
}

/// What a call does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads or lists.
    Read,
    /// It writes or deletes.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

impl StoreError {
    /// Whether the same call may succeed later, with nothing changed by a person.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoCredentials { .. } | Self::FolderLost { .. })
    }

    pub(crate) fn classify(store: Arc<str>, access: Access, path: &str, error: object_store::Error) -> Self {
        let path: Box<str> = path.into();
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound { path: path.into() },
            object_store::Error::AlreadyExists { .. } => Self::AlreadyExists { path: path.into() },
            source @ (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                Self::Denied { store, access, path, source }
            }
            source => match io_kind(&source) {
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Self::Full { store, path, source },
                Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
                    Self::Denied { store, access, path, source }
                }
                _ => Self::Unavailable { store, path, source },
            },
        }
    }
}

/// What the disk said, if it is the disk that failed.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.filter_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_disk(errno: i32) -> StoreError {
        let source = Box::new(io::Error::from_raw_os_error(errno));
        StoreError::classify(
            "store".into(),
            Access::Write,
            "a",
            object_store::Error::Generic { store: "LocalFileSystem", source },
        )
    }

    #[test]
    fn what_the_disk_says_is_told_apart() {
        let [eperm, eio, eacces, enospc, erofs, edquot] = [1, 5, 13, 28, 30, 122];
        for errno in [enospc, edquot] {
            assert!(matches!(of_the_disk(errno), StoreError::Full { .. }), "{errno}");
        }
        for errno in [eperm, eacces, erofs] {
            assert!(matches!(of_the_disk(errno), StoreError::Denied { .. }), "{errno}");
        }
        assert!(matches!(of_the_disk(eio), StoreError::Unavailable { .. }));
        assert!(of_the_disk(eio).may_pass() && !of_the_disk(enospc).may_pass() && !of_the_disk(eperm).may_pass());
    }
}
