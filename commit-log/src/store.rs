//! [`Store`]: a directory, a bucket or memory, addressed by relative paths, with errors told apart by what a caller does next.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path};

/// The object that shows at start whether the store honours create-only puts.
const PROBE_PATH: &str = "probes/create-only";

/// An object store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    url: Arc<str>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The path, relative to the store.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
}

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
    /// A create-only put found an object in its place.
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
    /// The store has no room left.
    #[error("no space left for object `{path}`")]
    Full {
        /// The object that was being written.
        path: String,
        /// The cause.
        source: object_store::Error,
    },
    /// Anything else: unreachable, refused, broken. A retry may help.
    #[error("object `{path}` of the store is unavailable")]
    Unavailable {
        /// The object.
        path: String,
        /// The cause.
        source: object_store::Error,
    },
}

impl Store {
    /// Opens a directory (created when missing), `file://...`, `s3://bucket/prefix` (with the `AWS_*` environment) or
    /// `memory://` (empty, gone with its last clone). Puts into a directory are flushed to the disk before they return.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        crate::open::open(url).map(|objects| Self::new(objects, url))
    }

    /// Wraps an object store of the caller's making, such as one that fails on purpose; `url` is its name in messages.
    pub fn new(objects: Arc<dyn ObjectStore>, url: &str) -> Self {
        Self { objects, url: url.into() }
    }

    /// The address that the store was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Refuses a store that overwrites where it was told to create only. To be called before the first write.
    pub async fn probe_create_only(&self) -> Result<(), StoreError> {
        for _ in 0..2 {
            match self.put_create(PROBE_PATH, Bytes::from_static(b"create-only\n")).await {
                Err(StoreError::AlreadyExists { .. }) => return Ok(()),
                other => other?,
            }
        }
        Err(StoreError::IgnoresCreateOnly { url: self.url.to_string(), path: PROBE_PATH.into() })
    }

    /// Reads a whole object.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let location = parse(path)?;
        let read = async { self.objects.get(&location).await?.bytes().await };
        read.await.map_err(|source| classify(path, source))
    }

    /// Writes an object, in place of one that is there.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_mode(path, bytes, PutMode::Overwrite).await
    }

    /// Writes an object; [`StoreError::AlreadyExists`] when one is there, which is left as it is.
    pub async fn put_create(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_mode(path, bytes, PutMode::Create).await
    }

    /// Lists the objects below a folder (`""`: all), sorted by path.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let prefix = parse(folder)?;
        let found: Vec<_> =
            self.objects.list(Some(&prefix)).try_collect().await.map_err(|source| classify(folder, source))?;
        let mut listed: Vec<_> =
            found.into_iter().map(|meta| Listed { path: meta.location.to_string(), bytes: meta.size }).collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// Whether there is such an object.
    pub async fn exists(&self, path: &str) -> Result<bool, StoreError> {
        match self.objects.head(&parse(path)?).await.map_err(|source| classify(path, source)) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn put_mode(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let put = self.objects.put_opts(&parse(path)?, bytes.into(), mode.into()).await;
        put.map(drop).map_err(|source| classify(path, source))
    }
}

fn parse(path: &str) -> Result<Path, StoreError> {
    Path::parse(path).map_err(|source| StoreError::InvalidPath { path: path.into(), source })
}

fn classify(path: &str, error: object_store::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        object_store::Error::NotFound { .. } => StoreError::NotFound { path },
        object_store::Error::AlreadyExists { .. } => StoreError::AlreadyExists { path },
        source if is_full(&source) => StoreError::Full { path, source },
        source => StoreError::Unavailable { path, source },
    }
}

fn is_full(error: &object_store::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    causes.filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| full.contains(&e.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn behaves_like_a_store(store: &Store) {
        let path = "a/b/c.bin";
        assert!(matches!(store.get(path).await, Err(StoreError::NotFound { path: p }) if p == path));
        store.put_create(path, Bytes::from_static(b"one")).await.unwrap();
        let again = store.put_create(path, Bytes::from_static(b"two")).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists { path: p }) if p == path));
        assert_eq!(store.get(path).await.unwrap(), "one");
        store.put(path, Bytes::from_static(b"three")).await.unwrap();
        assert_eq!(store.list("a").await.unwrap(), [Listed { path: path.into(), bytes: 5 }]);
        assert!(store.exists(path).await.unwrap());
        assert!(!store.exists("a/b/d").await.unwrap());
    }

    #[tokio::test]
    async fn memory_and_directories_behave_alike() {
        behaves_like_a_store(&Store::open("memory://").unwrap()).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/when missing");
        behaves_like_a_store(&Store::open(path.to_str().unwrap()).unwrap()).await;
        let again = Store::open(url::Url::from_file_path(&path).unwrap().as_str()).unwrap();
        assert_eq!(again.get("a/b/c.bin").await.unwrap(), "three");
    }

    #[tokio::test]
    async fn the_probe_accepts_an_honest_store_at_every_start() {
        let store = Store::open("memory://").unwrap();
        store.probe_create_only().await.unwrap();
        store.probe_create_only().await.unwrap();
    }

    #[tokio::test]
    async fn a_path_cannot_leave_the_store() {
        let store = Store::open("memory://").unwrap();
        for path in ["../etc/passwd", "a/../b", "a//b"] {
            assert!(matches!(store.get(path).await, Err(StoreError::InvalidPath { .. })), "{path}");
        }
    }
}
