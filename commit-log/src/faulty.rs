//! [`FaultyStore`]: an object store that fails on purpose, and always in the same way for the same seed. For simulations.
//!
//! Under tokio's paused clock (`start_paused`) its delays cost nothing, so that hours pass in a millisecond.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{sync::watch, time::sleep};

use crate::{
    directory::Directory,
    open::Opened,
    store::{Store, StoreOptions},
    store_error::StoreError,
};

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails as a 503 does: nothing was done.
    Unavailable,
    /// It was done, and the caller hears of a failure.
    LostReply,
    /// A create-only put fails as "already exists" though nothing is there, which is how S3's 409 looks. Other calls: [`Fault::Unavailable`].
    Conflict,
    /// A put fails now and lands a while later. Other calls: [`Fault::Unavailable`].
    Late(Duration),
    /// It gets no answer for an hour, and then a failure; nothing was done.
    Hang,
    /// A put leaves the first half of the object, and fails. Other calls: [`Fault::Unavailable`].
    Torn,
    /// A create-only put replaces what is there. Other calls go well.
    Overwrites,
}

/// How often calls go wrong, each as a share of all calls from 0 to 1, and how long they take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of [`Fault::Unavailable`].
    pub unavailable: f64,
    /// Share of [`Fault::LostReply`].
    pub lost_reply: f64,
    /// Share of [`Fault::Conflict`].
    pub conflict: f64,
    /// Share of [`Fault::Late`], within a minute.
    pub late: f64,
    /// Share of [`Fault::Hang`].
    pub hang: f64,
    /// Share of [`Fault::Torn`].
    pub torn: f64,
    /// The longest that a call takes on its way there, and on its way back.
    pub latency_max: Duration,
    /// The most that an object's time of change is off, either way.
    pub clock_skew_max: Duration,
}

/// An object store that fails on purpose. Clones share objects, faults and the sequence of rolls.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    directory: Option<Arc<Directory>>,
    shared: Arc<Mutex<Shared>>,
    /// Set by [`FaultyStore::gated`].
    gate: Option<watch::Receiver<bool>>,
}

/// Stops and resumes whoever uses one [`FaultyStore::gated`], as a stopped process is.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

#[derive(Debug)]
struct Shared {
    rolls: SmallRng,
    faults: Faults,
    scripted: VecDeque<Fault>,
    hidden: Vec<Path>,
    created: BTreeMap<String, Bytes>,
    calls: u64,
}

impl Gate {
    /// Holds every call, before it is made or before its answer arrives.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    /// Lets all go on.
    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

impl FaultyStore {
    /// An empty store in memory.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::over(Arc::new(InMemory::new()), seed, faults)
    }

    /// Over a store of the caller's.
    pub fn over(inner: Arc<dyn ObjectStore>, seed: u64, faults: Faults) -> Self {
        let shared = Shared {
            rolls: SmallRng::seed_from_u64(seed),
            faults,
            scripted: VecDeque::new(),
            hidden: Vec::new(),
            created: BTreeMap::new(),
            calls: 0,
        };
        Self { inner, directory: None, shared: Arc::new(Mutex::new(shared)), gate: None }
    }

    /// Over a directory, whose failures count as the disk's.
    pub fn in_directory(path: &str, seed: u64, faults: Faults) -> std::result::Result<Self, StoreError> {
        let Opened { objects, directory, .. } = crate::open::open(path, &StoreOptions::default())?;
        Ok(Self { directory, ..Self::over(objects, seed, faults) })
    }

    /// The store with its faults.
    pub fn store(&self) -> Store {
        self.store_with(StoreOptions::default())
    }

    /// The store with its faults, and limits of the caller's.
    pub fn store_with(&self, options: StoreOptions) -> Store {
        let mut store = Store::new_with(Arc::new(self.clone()), "faulty://", options);
        store.directory = self.directory.clone();
        store
    }

    /// The same objects, without a fault.
    pub fn honest(&self) -> Store {
        Store::new(self.inner.clone(), "honest://")
    }

    /// The same store for one process that can be stopped. It never gives up waiting by itself.
    pub fn gated(&self) -> (Store, Gate) {
        let (gate, opened) = watch::channel(true);
        let patient = StoreOptions { request_timeout: Duration::MAX, ..StoreOptions::default() };
        (Self { gate: Some(opened), ..self.clone() }.store_with(patient), Gate(gate))
    }

    /// From now on calls go wrong so often.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The next puts go wrong so, one after the other, before any that is rolled.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().scripted.extend(faults);
    }

    /// The next listing that would show the object does not, as one that began before the object was there.
    pub fn hide_once(&self, path: &str) {
        self.lock().hidden.push(Path::from(path));
    }

    /// What was first put at each path: what a create-only put made there, whatever was put in its place later.
    pub fn created(&self) -> BTreeMap<String, Bytes> {
        self.lock().created.clone()
    }

    /// The calls made so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as the call is on its way, and says what goes wrong with it.
    async fn depart(&self, is_put: bool) -> Option<Fault> {
        let (fault, delay) = {
            let mut shared = self.lock();
            shared.calls += 1;
            let scripted = if is_put { shared.scripted.pop_front() } else { None };
            (scripted.or_else(|| shared.roll()), shared.latency())
        };
        sleep(delay).await;
        self.pass_gate().await;
        if fault == Some(Fault::Hang) {
            sleep(Duration::from_secs(3600)).await;
        }
        fault
    }

    async fn arrive<T>(&self, fault: Option<Fault>, result: Result<T>) -> Result<T> {
        let delay = self.lock().latency();
        sleep(delay).await;
        self.pass_gate().await;
        if fault == Some(Fault::LostReply) { Err(unavailable()) } else { result }
    }

    async fn pass_gate(&self) {
        if let Some(gate) = &self.gate {
            // A gate that is gone stays as it was left: open.
            let _ = gate.clone().wait_for(|open| *open).await;
        }
    }

    /// A call that is no put.
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.depart(false).await {
            fault @ (None | Some(Fault::LostReply | Fault::Overwrites)) => self.arrive(fault, call.await).await,
            Some(_) => self.arrive(None, Err(unavailable())).await,
        }
    }

    async fn land(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(path, payload.clone(), options).await?;
        self.lock().created.entry(path.to_string()).or_insert_with(|| payload.into());
        Ok(put)
    }

    fn land_later(&self, delay: Duration, path: &Path, payload: PutPayload, options: PutOptions) {
        let (store, path) = (self.clone(), path.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            // Nobody waits for the answer.
            let _ = store.land(&path, payload, options).await;
        });
    }

    fn listing(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let found = async move {
            let found = store.call(listed.try_collect::<Vec<_>>()).await?;
            let mut shared = store.lock();
            let shown: Vec<_> = found.into_iter().filter_map(|meta| shared.show(meta)).map(Ok).collect();
            Ok::<_, Error>(shown)
        };
        futures::stream::once(found).map_ok(futures::stream::iter).try_flatten().boxed()
    }
}

impl Shared {
    fn roll(&mut self) -> Option<Fault> {
        let mut at: f64 = self.rolls.random();
        let late = Duration::from_millis(self.rolls.random_range(0..60_000));
        let faults = &self.faults;
        let shares = [
            (faults.unavailable, Fault::Unavailable),
            (faults.lost_reply, Fault::LostReply),
            (faults.conflict, Fault::Conflict),
            (faults.late, Fault::Late(late)),
            (faults.hang, Fault::Hang),
            (faults.torn, Fault::Torn),
        ];
        shares.into_iter().find_map(|(share, fault)| {
            at -= share;
            (at < 0.0).then_some(fault)
        })
    }

    fn latency(&mut self) -> Duration {
        let longest = self.faults.latency_max.as_millis() as u64;
        Duration::from_millis(self.rolls.random_range(0..=longest))
    }

    fn show(&mut self, mut meta: ObjectMeta) -> Option<ObjectMeta> {
        if let Some(at) = self.hidden.iter().position(|hidden| *hidden == meta.location) {
            self.hidden.swap_remove(at);
            return None;
        }
        let skew = self.faults.clock_skew_max.as_millis() as u64;
        let off = Duration::from_millis(self.rolls.random_range(0..=skew));
        if self.rolls.random() {
            meta.last_modified += off
        } else {
            meta.last_modified -= off
        }
        Some(meta)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let creates = options.mode == PutMode::Create;
        let fault = self.depart(true).await;
        let done = match fault {
            None | Some(Fault::LostReply) => self.land(path, payload, options).await,
            Some(Fault::Overwrites) => self.land(path, payload, PutMode::Overwrite.into()).await,
            Some(Fault::Conflict) if creates => {
                Err(Error::AlreadyExists { path: path.to_string(), source: "conflict".into() })
            }
            Some(Fault::Late(delay)) => {
                self.land_later(delay, path, payload, options);
                Err(unavailable())
            }
            Some(Fault::Torn) => {
                let whole = Bytes::from(payload);
                self.land(path, whole.slice(..whole.len() / 2).into(), options).await.and_then(|_| Err(unavailable()))
            }
            Some(Fault::Unavailable | Fault::Hang | Fault::Conflict) => Err(unavailable()),
        };
        self.arrive(fault, done).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.call(self.inner.put_multipart_opts(path, options)).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(path, options)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                let inner = store.inner.clone();
                let one = futures::stream::iter([Ok(path.clone())]).boxed();
                store.call(async move { inner.delete_stream(one).try_collect::<Vec<_>>().await }).await.map(|_| path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(self.inner.copy_opts(from, to, options)).await
    }
}

fn unavailable() -> Error {
    Error::Generic { store: "faulty", source: "503 slow down".into() }
}
