//! [`Store`]: a directory, a bucket or memory, addressed by relative paths.

use std::{
    fmt, io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    client::{HttpError, HttpErrorKind},
    path::Path,
};
use tokio::sync::OnceCell;

use crate::{
    credentials::NotGiven,
    directory::Directory,
    open::Opened,
    options::Retries,
    store_error::{Access, StoreError},
};

/// The least that S3 takes as a part that is not the last.
const PART_BYTES_MIN: u64 = 5 << 20;
/// How many parts of an object go up at once.
const PARTS_AT_ONCE: usize = 4;

/// How long a store may take, and in what pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long one request may take, or one page of a bucket's listing; what an object's bytes take comes on top. `Duration::MAX`: for ever.
    pub request_timeout: Duration,
    /// How long connecting to a bucket may take.
    pub connect_timeout: Duration,
    /// How long a call is tried again before it fails, on a bucket that answers 429 or 5xx, breaks off or is silent. It starts with the first
    /// failure, so that what takes long in any case is tried again as well.
    pub retry_budget: Duration,
    /// The slowest transfer that is waited for, in bytes a second.
    pub bytes_per_second_min: u64,
    /// Objects of more bytes go up to a bucket in parts of so many ([`Store::put_vouched`]); from 5 MiB, the least that S3 takes.
    pub part_bytes: u64,
}

/// An object store. Cheap to clone; all clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// The same, if it is a directory.
    pub(crate) directory: Option<Arc<Directory>>,
    /// What would give credentials for the bucket, if none were given.
    credentials: Option<NotGiven>,
    /// Whether a call has succeeded, so that there are credentials, wherever they come from.
    has_answered: Arc<AtomicBool>,
    url: Arc<str>,
    options: Arc<StoreOptions>,
    pub(crate) honours_create_only: Arc<OnceCell<()>>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The path, relative to the store.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
}

/// A call that did not end in time.
#[derive(Debug)]
struct TimedOut(Duration);

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            retry_budget: Duration::from_secs(20),
            bytes_per_second_min: 1 << 20,
            part_bytes: 64 << 20,
        }
    }
}

impl Store {
    /// Opens a directory (created when missing), `file://...`, `s3://bucket/prefix` (with the `AWS_*` environment),
    /// `gs://bucket/prefix` (`GOOGLE_*`), `az://container/prefix` (`AZURE_*`) or `memory://` (empty, gone with its last clone).
    /// Puts into a directory are flushed to the disk before they return. Once it is open it must stay where it is: in a directory that vanished, or in
    /// whose place another lies, nothing is written and nothing is called not found ([`StoreError::FolderLost`]).
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, StoreOptions::default())
    }

    /// As [`Store::open`], with limits of the caller's.
    pub fn open_with(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let Opened { objects, directory, credentials } = crate::open::open(url, &options)?;
        Ok(Self { directory, credentials, ..Self::new_with(objects, url, options) })
    }

    /// Wraps an object store of the caller's making, such as one that fails on purpose; `url` is its name in messages.
    pub fn new(objects: Arc<dyn ObjectStore>, url: &str) -> Self {
        Self::new_with(objects, url, StoreOptions::default())
    }

    /// As [`Store::new`], with limits of the caller's.
    pub fn new_with(objects: Arc<dyn ObjectStore>, url: &str, options: StoreOptions) -> Self {
        Self {
            objects,
            directory: None,
            credentials: None,
            has_answered: Arc::default(),
            url: url.into(),
            options: Arc::new(options),
            honours_create_only: Arc::default(),
        }
    }

    /// The same for one who tries a call again itself, within a budget: of a bucket, a request may take half of it, and is not repeated. A disk takes
    /// what it takes.
    pub(crate) fn hurried(&self, retry_budget: Duration) -> Self {
        let StoreOptions { request_timeout, .. } = *self.options;
        if self.is_directory() || retry_budget.is_zero() || request_timeout == Duration::MAX {
            return self.clone();
        }
        let request_timeout = request_timeout.min(retry_budget / 2);
        let options = StoreOptions { request_timeout, retry_budget: Duration::ZERO, ..(*self.options).clone() };
        Self { options: Arc::new(options), ..self.clone() }
    }

    /// The address that the store was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where an object is, or would be, on this machine's disk; `None` unless the store is a directory. An object that is there may be
    /// mapped into memory: it is never written to, and a put in its place, or its deletion, leaves the mapping what it was.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        self.directory.as_ref()?.objects.path_to_filesystem(&parse(path).ok()?).ok()
    }

    /// Reads a whole object.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        self.get_opts(path, GetOptions::default()).await
    }

    /// Reads a range of an object's bytes; what lies past its end is left out.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.get_opts(path, GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() }).await
    }

    /// Writes an object, in place of one that is there.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_mode(path, bytes, PutMode::Overwrite).await
    }

    /// Writes an object; [`StoreError::AlreadyExists`] when one is there, which is left as it is. That may be this very put's, tried again
    /// after it had broken off.
    pub async fn put_create(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_mode(path, bytes, PutMode::Create).await
    }

    /// Writes an object whose path vouches for its bytes, made from their digest, say: one that is there is as good, and to be replaced does it no
    /// harm. In a bucket, which takes no more than 5 GiB at once, a large one goes up in parts.
    pub async fn put_vouched(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        if self.is_directory() {
            return match self.put_create(path, bytes).await {
                Err(StoreError::AlreadyExists { .. }) => Ok(()),
                put => put,
            };
        }
        // Not create-only, to which a bucket may answer that it exists while another puts it, who may fail.
        if bytes.len() as u64 <= self.options.part_bytes {
            return self.put(path, bytes).await;
        }
        let location = parse(path)?;
        self.put_to_bucket(path, || self.put_in_parts(&location, &bytes)).await
    }

    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let location = parse(path)?;
        self.require_folder().await?;
        let delete = || self.limited(0, self.objects.delete(&location));
        match self.call(Access::Write, path, true, delete).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            done => done,
        }
    }

    /// Deletes all objects below a folder, and of a directory the folder with whatever lies in it that is no object: what a put that was killed has
    /// left takes room, and no listing shows it. A folder that is not there is deleted already.
    pub async fn delete_folder(&self, folder: &str) -> Result<(), StoreError> {
        let location = parse(folder)?;
        if location.is_root() {
            let source = object_store::path::Error::EmptySegment { path: folder.into() };
            return Err(StoreError::InvalidPath { path: folder.into(), source });
        }
        for object in self.list(folder).await? {
            self.delete(&object.path).await?;
        }
        let Some(directory) = &self.directory else { return Ok(()) };
        let removed = directory.remove(location.as_ref()).await;
        removed.map_err(|error| StoreError::classify(self.url.clone(), Access::Write, folder, of_disk(error)))
    }

    /// Lists the objects below a folder (`""`: all), sorted by path.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let prefix = parse(folder)?;
        let listed = self.call(Access::Read, folder, true, || self.collect(self.objects.list(Some(&prefix)))).await?;
        self.require_folder().await.map(|()| listed)
    }

    /// Lists the objects below a folder whose paths come after `path`, sorted by path. A bucket does not read what comes before.
    pub async fn list_after(&self, folder: &str, path: &str) -> Result<Vec<Listed>, StoreError> {
        let (prefix, offset) = (parse(folder)?, parse(path)?);
        let list = || self.collect(self.objects.list_with_offset(Some(&prefix), &offset));
        let listed = self.call(Access::Read, folder, true, list).await?;
        self.require_folder().await.map(|()| listed)
    }

    /// Whether there is such an object.
    pub async fn exists(&self, path: &str) -> Result<bool, StoreError> {
        let location = parse(path)?;
        match self.call(Access::Read, path, true, || self.limited(0, self.objects.head(&location))).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => self.require_folder().await.map(|()| false),
            Err(e) => Err(e),
        }
    }

    /// Whether this is a directory, whose failures are the disk's: no reply gets lost, and what could not be flushed is not durable.
    pub(crate) fn is_directory(&self) -> bool {
        self.directory.is_some()
    }

    async fn get_opts(&self, path: &str, options: GetOptions) -> Result<Bytes, StoreError> {
        let location = parse(path)?;
        let get = || async {
            let found = self.limited(0, self.objects.get_opts(&location, options.clone())).await?;
            let bytes = found.range.end - found.range.start;
            self.limited(bytes, found.bytes()).await
        };
        let got = self.call(Access::Read, path, true, get).await;
        if matches!(got, Err(StoreError::NotFound { .. })) {
            self.require_folder().await?;
        }
        got
    }

    async fn put_mode(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let location = parse(path)?;
        let put = || {
            let put = self.objects.put_opts(&location, bytes.clone().into(), mode.clone().into());
            self.limited(bytes.len() as u64, put)
        };
        let Some(directory) = &self.directory else {
            return self.put_to_bucket(path, put).await.map(drop);
        };
        self.answered(directory, directory.require_with_id()).await?;
        match self.call(Access::Write, path, false, put).await {
            // Whoever finds its own there takes it for written, so it has to be as durable as a put of its own.
            Err(exists @ StoreError::AlreadyExists { .. }) => {
                self.settle(path.rsplit_once('/').map_or("", |(folder, _)| folder)).await?;
                return Err(exists);
            }
            put => drop(put?),
        }
        // The folder may have gone in between: then the put has made another, and was in vain.
        self.require_folder().await
    }

    async fn put_to_bucket<T, F>(&self, path: &str, put: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        match self.call(Access::Write, path, true, put).await {
            // Nothing but the bucket has to be there.
            Err(StoreError::NotFound { .. }) => Err(StoreError::NoBucket { store: self.url.clone() }),
            put => put,
        }
    }

    /// Puts an object in parts, unless it is there. What went up of one that fails does not stay, for which a bucket would charge.
    async fn put_in_parts(&self, location: &Path, bytes: &Bytes) -> object_store::Result<()> {
        match self.limited(0, self.objects.head(location)).await {
            Err(object_store::Error::NotFound { .. }) => {}
            found => return found.map(drop),
        }
        let mut upload = self.limited(0, self.objects.put_multipart(location)).await?;
        let mut put = self.put_parts(upload.as_mut(), bytes).await;
        if put.is_ok() {
            put = self.limited(bytes.len() as u64, upload.complete()).await.map(drop);
        }
        let Err(error) = put else { return Ok(()) };
        // Why it failed is to be told, not what comes after.
        let _ = self.limited(0, upload.abort()).await;
        // It may be there all the same: the last reply was lost.
        self.limited(0, self.objects.head(location)).await.map(drop).map_err(|_| error)
    }

    async fn put_parts(&self, upload: &mut dyn MultipartUpload, bytes: &Bytes) -> object_store::Result<()> {
        let part_bytes = self.options.part_bytes.max(PART_BYTES_MIN) as usize;
        // They share the line.
        let carried = (part_bytes * PARTS_AT_ONCE) as u64;
        let mut puts = Vec::new();
        for start in (0..bytes.len()).step_by(part_bytes) {
            let part = bytes.slice(start..bytes.len().min(start + part_bytes));
            puts.push(self.limited(carried, upload.put_part(part.into())));
        }
        futures::stream::iter(puts).buffer_unordered(PARTS_AT_ONCE).try_collect().await
    }

    /// Makes durable that the objects which can be seen in a folder are there: in a directory one can be seen whose put failed to flush it. Elsewhere
    /// there is nothing to do.
    pub(crate) async fn settle(&self, folder: &str) -> Result<(), StoreError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let flush = async { directory.flush(folder).await.map_err(of_disk) };
        let failed = |error| StoreError::classify(self.url.clone(), Access::Write, folder, error);
        self.limited(0, flush).await.map_err(failed)
    }

    /// Refuses a directory that is no longer the one that was opened.
    async fn require_folder(&self) -> Result<(), StoreError> {
        match &self.directory {
            Some(directory) => self.answered(directory, directory.require()).await,
            None => Ok(()),
        }
    }

    async fn answered(
        &self,
        directory: &Directory,
        check: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let limit = self.options.request_timeout;
        let late = |_| Err(directory.lost(TimedOut(limit).to_string()));
        tokio::time::timeout(limit, check).await.unwrap_or_else(late)
    }

    async fn collect(
        &self,
        mut pages: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> object_store::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        while let Some(meta) = self.next_listed(&mut pages).await? {
            listed.push(Listed { path: meta.location.to_string(), bytes: meta.size });
        }
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// The next object of a listing. A directory reads all its names before it has one to tell, which takes as long as there are names: that is
    /// waited for while its folder answers.
    async fn next_listed(
        &self,
        pages: &mut BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> object_store::Result<Option<ObjectMeta>> {
        let mut next = pages.try_next();
        loop {
            match self.limited(0, &mut next).await {
                Err(error) if timed_out(&error) && self.is_directory() && self.require_folder().await.is_ok() => {}
                done => return done,
            }
        }
    }

    /// Tries a call again that got no reply in time or broke off; what else may pass, the client of a bucket has tried again itself.
    async fn call<T, F>(
        &self,
        access: Access,
        path: &str,
        repeatable: bool,
        call: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut retries = Retries::within(self.options.retry_budget);
        loop {
            let error = match call().await {
                Ok(done) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return Ok(done);
                }
                Err(error) => error,
            };
            let silent = timed_out(&error);
            let failing = if silent { self.options.request_timeout } else { Duration::ZERO };
            if !(repeatable && (silent || broke_off(&error)) && retries.another_after(failing).await) {
                return Err(self.failed(access, path, error));
            }
        }
    }

    fn failed(&self, access: Access, path: &str, error: object_store::Error) -> StoreError {
        let store = self.url.clone();
        let never_answered = timed_out(&error) && !self.has_answered.load(Ordering::Relaxed);
        match self.credentials.filter(|not_given| not_given.is_why(&error, never_answered)) {
            Some(NotGiven(variables)) => StoreError::NoCredentials { store, variables, source: error },
            None => StoreError::classify(store, access, path, error),
        }
    }

    /// Gives up on one request, with that many bytes to carry, that takes too long.
    async fn limited<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let transfer = Duration::from_secs(bytes / self.options.bytes_per_second_min.max(1));
        let limit = self.options.request_timeout.saturating_add(transfer);
        match tokio::time::timeout(limit, request).await {
            Ok(done) => done,
            Err(_) => Err(object_store::Error::Generic { store: "store", source: Box::new(TimedOut(limit)) }),
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no reply within {:?}", self.0)
    }
}

impl std::error::Error for TimedOut {}

fn of_disk(error: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) }
}

fn timed_out(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { source, .. } if source.is::<TimedOut>())
}

/// Whether a connection failed amid a request, after which the client of a bucket does not repeat a create-only put: it may have landed. One that was
/// never made, it has tried again itself.
fn broke_off(error: &object_store::Error) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |&cause| cause.source());
    let failed = causes.find_map(|cause| cause.downcast_ref::<HttpError>()).map(HttpError::kind);
    failed.is_some_and(|kind| !matches!(kind, HttpErrorKind::Connect | HttpErrorKind::Request))
}

fn parse(path: &str) -> Result<Path, StoreError> {
    Path::parse(path).map_err(|source| StoreError::InvalidPath { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_that_has_answered_has_credentials_from_somewhere() {
        let store = Store { credentials: Some(NotGiven("VARIABLES")), ..Store::open("memory://").unwrap() };
        let late = || object_store::Error::Generic { store: "store", source: Box::new(TimedOut(Duration::ZERO)) };
        let failed = || store.failed(Access::Read, "a", late());
        assert!(matches!(failed(), StoreError::NoCredentials { variables: "VARIABLES", .. }));
        assert!(
            failed().to_string().contains("unless this machine has some"),
            "it may, and the bucket be out of reach"
        );
        store.put("a", Bytes::new()).await.unwrap();
        assert!(matches!(failed(), StoreError::Unavailable { .. }));
    }

    async fn behaves_like_a_store(store: &Store) {
        let path = "a/b/c.bin";
        assert!(matches!(store.get(path).await, Err(StoreError::NotFound { path: p }) if p == path));
        for _ in 0..2 {
            store.put_vouched(path, Bytes::from_static(b"one")).await.unwrap();
        }
        let again = store.put_create(path, Bytes::from_static(b"two")).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists { path: p }) if p == path));
        assert_eq!(store.get(path).await.unwrap(), "one");
        store.put(path, Bytes::from_static(b"three")).await.unwrap();
        assert_eq!(store.get_range(path, 1..99).await.unwrap(), "hree");
        assert_eq!(store.list("a").await.unwrap(), [Listed { path: path.into(), bytes: 5 }]);
        assert!(store.exists(path).await.unwrap());
        assert!(!store.exists("a/b/d").await.unwrap());
    }

    async fn lists_and_deletes(store: &Store) {
        let path = "a/b/c.bin";
        store.put("a/b/d", Bytes::new()).await.unwrap();
        assert_eq!(store.list_after("a/b", path).await.unwrap(), [Listed { path: "a/b/d".into(), bytes: 0 }]);
        for _ in 0..2 {
            store.delete("a/b/d").await.unwrap();
            assert!(!store.exists("a/b/d").await.unwrap());
        }
        for path in ["x/y/1", "x/y/z/2", "x/yy"] {
            store.put(path, Bytes::new()).await.unwrap();
        }
        for _ in 0..2 {
            store.delete_folder("x/y").await.unwrap();
            assert_eq!(store.list("x").await.unwrap(), [Listed { path: "x/yy".into(), bytes: 0 }]);
        }
        for path in ["", "/", ".."] {
            let refused = store.delete_folder(path).await;
            assert!(matches!(refused, Err(StoreError::InvalidPath { .. })), "{path}: {refused:?}");
        }
        store.delete("x/yy").await.unwrap();
    }

    #[tokio::test]
    async fn memory_and_directories_behave_alike() {
        let memory = Store::open("memory://").unwrap();
        behaves_like_a_store(&memory).await;
        lists_and_deletes(&memory).await;
        assert_eq!(memory.local_path("a/b"), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/when missing");
        let store = Store::open(path.to_str().unwrap()).unwrap();
        behaves_like_a_store(&store).await;
        lists_and_deletes(&store).await;
        let again = Store::open(url::Url::from_file_path(&path).unwrap().as_str()).unwrap();
        assert_eq!(again.get("a/b/c.bin").await.unwrap(), "three");
        assert_eq!(std::fs::read(store.local_path("a/b/c.bin").unwrap()).unwrap(), b"three");
        assert_eq!(store.local_path("../x"), None);
    }

    #[tokio::test]
    async fn a_path_cannot_leave_the_store() {
        let store = Store::open("memory://").unwrap();
        for path in ["../etc/passwd", "a/../b", "a//b"] {
            assert!(matches!(store.get(path).await, Err(StoreError::InvalidPath { .. })), "{path}");
        }
    }
}
