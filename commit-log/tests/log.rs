//! A log under concurrent writers, damage, lost replies and restarts.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use pagoda_commit_log::{Log, LogError, Lsn, Store, StoreError};

fn text(payload: &str) -> Bytes {
    Bytes::copy_from_slice(payload.as_bytes())
}

async fn write(store: Store, writer: u32, count: u32) -> Vec<(Lsn, Bytes)> {
    let log = Log::open(store, "log").await.unwrap();
    let mut written = Vec::new();
    for n in 0..count {
        let payload = text(&format!("{writer}/{n}"));
        written.push((log.append(payload.clone()).await.unwrap(), payload));
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_lose_nothing_and_share_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    let (a, b) = tokio::join!(
        tokio::spawn(write(store.clone(), 1, 40)),
        tokio::spawn(write(Store::open(dir.path().to_str().unwrap()).unwrap(), 2, 40)),
    );
    let mut acknowledged = [a.unwrap(), b.unwrap()].concat();
    acknowledged.sort();
    let log = Log::open(store, "log").await.unwrap();
    assert_eq!(log.head(), Lsn(80));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), acknowledged);
    let slots: BTreeSet<_> = acknowledged.iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(slots.len(), 80);
}

#[tokio::test]
async fn a_log_opened_again_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || Log::open(Store::open(dir.path().to_str().unwrap()).unwrap(), "index/main/log").await.unwrap();
    assert_eq!(open().await.append(text("one")).await.unwrap(), Lsn(1));
    let again = open().await;
    assert_eq!(again.head(), Lsn(1));
    assert_eq!(again.append(text("two")).await.unwrap(), Lsn(2));
    assert_eq!(open().await.read_after(Lsn(1)).await.unwrap(), [(Lsn(2), text("two"))]);
    assert!(dir.path().join("index/main/log/00000000000000000002").exists());
}

#[tokio::test]
async fn damage_is_found_and_named() {
    let store = Store::open("memory://").unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    for payload in ["one", "two", "three"] {
        log.append(text(payload)).await.unwrap();
    }
    let path = format!("log/{:020}", 2);
    let whole = store.get(&path).await.unwrap();
    let mut flipped = whole.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    for (damaged, says) in
        [(Bytes::from(flipped), "checksum"), (whole.slice(..whole.len() - 1), "torn"), (whole.slice(..5), "torn")]
    {
        store.put(&path, damaged).await.unwrap();
        let error = log.read_after(Lsn(0)).await.unwrap_err();
        let LogError::Damaged { path: at, source } = error else { panic!("{error}") };
        assert_eq!(at, path);
        assert!(source.to_string().contains(says), "{source}");
    }
}

#[tokio::test]
async fn a_writer_stops_at_a_damaged_slot() {
    let store = Store::open("memory://").unwrap();
    let log = Log::open(store.clone(), "log").await.unwrap();
    store.put(&format!("log/{:020}", 1), text("garbage of some length, more than a header has")).await.unwrap();
    assert!(matches!(log.append(text("x")).await, Err(LogError::Damaged { .. })));
}

#[tokio::test]
async fn a_missing_commit_is_found_at_open() {
    let store = Store::open("memory://").unwrap();
    store.put(&format!("log/{:020}", 2), text("x")).await.unwrap();
    let error = Log::open(store.clone(), "log").await.unwrap_err();
    assert!(matches!(error, LogError::Gap { missing: Lsn(1), head: Lsn(2), .. }), "{error}");
    store.put("other/readme.txt", text("x")).await.unwrap();
    assert!(matches!(Log::open(store, "other").await, Err(LogError::Foreign { .. })));
}

#[tokio::test]
async fn a_lost_reply_is_settled_by_the_put_id() {
    let faulty = Faulty::new(Fault::LoseReply);
    let log = Log::open(faulty.store(), "log").await.unwrap();
    faulty.fail_next(1);
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1));
    assert_eq!(log.append(text("two")).await.unwrap(), Lsn(2));
    assert_eq!(log.read_after(Lsn(0)).await.unwrap(), [(Lsn(1), text("one")), (Lsn(2), text("two"))]);
}

#[tokio::test]
async fn a_put_that_did_not_land_is_an_error_and_leaves_the_slot_free() {
    let faulty = Faulty::new(Fault::Refuse);
    let log = Log::open(faulty.store(), "log").await.unwrap();
    faulty.fail_next(1);
    assert!(matches!(log.append(text("one")).await, Err(LogError::Store(StoreError::Unavailable { .. }))));
    assert_eq!(log.append(text("two")).await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn a_conflict_without_an_object_is_tried_again() {
    let faulty = Faulty::new(Fault::Conflict);
    let log = Log::open(faulty.store(), "log").await.unwrap();
    faulty.fail_next(3);
    assert_eq!(log.append(text("one")).await.unwrap(), Lsn(1));
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let faulty = Faulty::new(Fault::Overwrite);
    faulty.fail_next(u32::MAX);
    assert!(matches!(faulty.store().probe_create_only().await, Err(StoreError::IgnoresCreateOnly { .. })));
}

/// What a faulty store does to a create-only put.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It lands, and the caller hears of a failure.
    LoseReply,
    /// It fails.
    Refuse,
    /// It fails as "already exists", though nothing is there.
    Conflict,
    /// It replaces what is there.
    Overwrite,
}

/// A store in memory whose next create-only puts go wrong.
#[derive(Clone, Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    fault: Fault,
    left: Arc<AtomicU32>,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { inner: Arc::new(InMemory::new()), fault, left: Arc::default() }
    }

    fn store(&self) -> Store {
        Store::new(Arc::new(self.clone()), "faulty://")
    }

    fn fail_next(&self, puts: u32) {
        self.left.store(puts, Ordering::SeqCst);
    }

    async fn fail(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        let refused = || object_store::Error::Generic { store: "faulty", source: "no reply".into() };
        match self.fault {
            Fault::LoseReply => {
                self.inner.put_opts(path, payload, PutMode::Create.into()).await?;
                Err(refused())
            }
            Fault::Refuse => Err(refused()),
            Fault::Conflict => {
                Err(object_store::Error::AlreadyExists { path: path.to_string(), source: "conflict".into() })
            }
            Fault::Overwrite => self.inner.put_opts(path, payload, PutMode::Overwrite.into()).await,
        }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let spend = |left: u32| left.checked_sub(1);
        let fails = options.mode == PutMode::Create
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok();
        if fails { self.fail(path, payload).await } else { self.inner.put_opts(path, payload, options).await }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
