//! [`Generations`]: the generations of one index, on the store and in the local cache.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use pagoda_ann::Matrix;
use pagoda_commit_log::{Store, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Blob, Cache, Footprint, Generation, Lifetime, Loaded, Manifest, Shard,
    files::{self, Object, ShardBlobs},
    footprint,
    manifest::{FORMAT_FLAT, FORMAT_SHARDED, FileDigest, sha256},
};
use crate::{
    background::{giving_way, in_the_background},
    error::IndexError,
    failpoint,
    ids::GenerationId,
    memory::{Memory, Reservation},
};

/// By how much searches come before the writing of a generation.
const NICE: u8 = 19;
/// A load that gets through fewer bytes, about a quarter of what it could with a processor of its own, does not wait for searches any longer.
const BYTES_PER_SECOND_LEAST: u64 = 400 << 20;
const MANIFEST: &str = "manifest.json";
/// Written first, so that a generation that was never finished can be told from one under way.
const LIFETIME: &str = "lifetime.json";
/// With a number after it: that a compaction of the generation began.
const COMPACTION: &str = "compaction-";

/// The generations of one index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Generations {
    store: Store,
    prefix: Arc<str>,
    local: LocalFiles,
    memory: Memory,
    /// The shards that are loaded; none: all.
    shards: Arc<[u32]>,
    /// Who has it reads through what was loaded: one thread at a time.
    turn: Arc<Semaphore>,
}

/// What is done with the disk of this machine.
#[derive(Clone, Debug)]
pub struct LocalFiles {
    /// Where objects are kept.
    pub cache: Option<Cache>,
    /// Whether files are mapped, rather than read.
    pub map: bool,
}

impl Generations {
    /// The generations of the index of this name. Of each, the shards of these numbers are loaded, or all if none is named.
    pub fn new(store: Store, index_name: &str, local: LocalFiles, memory: Memory, shards: &[u32]) -> Self {
        Self {
            store,
            prefix: format!("index/{index_name}/generations").into(),
            local,
            memory,
            shards: shards.into(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Writes a generation, its manifest last. Where that fails, what was written is deleted: on a disk without room it would leave none for the log.
    pub async fn save(
        &self,
        generation: Generation,
        lifetime: Lifetime,
    ) -> Result<(GenerationId, Manifest), IndexError> {
        let Generation { mut manifest, shards, sample_queries } = generation;
        manifest.format_version = FORMAT_SHARDED;
        manifest.lifetime = Some(lifetime);
        let encode = move || {
            let mut objects = vec![files::queries_object(&sample_queries)];
            for shard in &shards {
                objects.extend(files::shard_objects(&manifest, shard)?);
            }
            manifest.files = objects.iter().map(|object| (object.path.clone(), object.digest.clone())).collect();
            Ok((manifest, objects))
        };
        let (manifest, objects) = {
            let _turn = self.turn().await?;
            in_the_background(NICE, encode).await?
        };
        let json = to_json(&manifest)?;
        let id = GenerationId::new(manifest.model, &sha256(&json));
        let is_own = self.create(&id, LIFETIME, to_json(&lifetime)?.into()).await?;
        let stored = self.put_objects(&id, objects, json.into()).await;
        if stored.is_err() && is_own {
            self.discard(&id).await;
        }
        stored.map(|()| (id, manifest))
    }

    async fn put_objects(&self, id: &GenerationId, objects: Vec<Object>, manifest: Bytes) -> Result<(), IndexError> {
        for Object { path, bytes, .. } in &objects {
            self.put(id, path, bytes.clone()).await?;
            failpoint::reached("generation_object_stored");
        }
        // Freed beside the threads that search: to give so much memory back takes a while.
        in_the_background(NICE, move || {
            drop(objects);
            Ok(())
        })
        .await?;
        self.put(id, MANIFEST, manifest).await?;
        failpoint::reached("generation_stored");
        Ok(())
    }

    /// Deletes what is there of a generation that nobody knows of, as far as that can be done.
    async fn discard(&self, id: &GenerationId) {
        let deleted = async {
            let listed = self.store.list(&format!("{}/{id}", self.prefix)).await?;
            self.delete(id, listed.into_iter().map(|object| object.path).collect()).await
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, generation = %id, "what was stored of a generation stays until it is collected");
        }
    }

    /// Reads the manifest of a generation.
    pub async fn manifest(&self, id: &GenerationId) -> Result<Manifest, IndexError> {
        if let Some(json) = self.cached(id, MANIFEST).await
            && let Ok(manifest) = self.parse_manifest(id, &json)
        {
            return Ok(manifest);
        }
        let json = self.get(id, MANIFEST).await?;
        let manifest = self.parse_manifest(id, &json)?;
        self.keep(id, MANIFEST, Blob::Read(json)).await;
        Ok(manifest)
    }

    /// Reads or maps the shards wanted of a generation, if they fit into memory, and checks every digest.
    pub async fn load(&self, id: &GenerationId) -> Result<Loaded, IndexError> {
        let manifest = Arc::new(self.manifest(id).await?);
        let wanted = self.wanted_shards(&manifest)?;
        let bytes = footprint::estimate(&manifest, &wanted);
        let memory = self.memory.reserve(bytes)?;
        let transient = self.memory.reserve(self.transient_bytes(&manifest, &wanted));
        let _transient = transient.map_err(|error| beside(error, bytes))?;
        let damaged = |why: IndexError| self.damaged(id, "", why.to_string());
        let mut shards = Vec::with_capacity(wanted.len());
        for number in wanted {
            let (blobs, manifest) = (self.shard_blobs(id, &manifest, number).await?, manifest.clone());
            let bytes = footprint::shard_bytes(&manifest, number);
            let read = move || files::read_shard(&manifest, blobs.clone());
            let shard = self.in_turn(bytes, read).await.map_err(damaged)?;
            shards.push(Arc::new(shard));
        }
        let queries = match manifest.files.contains_key(files::QUERIES) {
            true => self.get_checked(id, &manifest, files::QUERIES).await?.to_vec(),
            false => Vec::new(),
        };
        let generation = assemble(Arc::unwrap_or_clone(manifest), shards, &queries).map_err(damaged)?;
        let footprint = Footprint::of(&generation);
        let Footprint { anonymous_bytes, mapped_bytes } = footprint;
        tracing::info!(generation = %id, anonymous_bytes, mapped_bytes, "loaded");
        Ok(Loaded { id: id.clone(), generation: Arc::new(generation), footprint, _memory: Arc::new(memory) })
    }

    /// Notes that these are searched, so that the cache lets go of others first.
    pub(crate) fn note_use<'a>(&self, ids: impl IntoIterator<Item = &'a GenerationId>) {
        if let Some(cache) = &self.local.cache {
            ids.into_iter().for_each(|id| cache.note_use(id));
        }
    }

    /// The shards to load: all, or those that the settings name, which must be there.
    fn wanted_shards(&self, manifest: &Manifest) -> Result<Vec<u32>, IndexError> {
        let shard_count = manifest.shard_count;
        match self.shards.iter().find(|shard| **shard >= shard_count) {
            Some(shard) => Err(IndexError::NoSuchShard { shard: *shard, shard_count }),
            None => Ok((0..shard_count).filter(|n| self.shards.is_empty() || self.shards.contains(n)).collect()),
        }
    }

    /// Takes a part of the memory for what is to become a generation.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reservation, IndexError> {
        self.memory.reserve(bytes)
    }

    /// What loading takes beside what is loaded: the objects of one shard, unless the store's own files are mapped.
    fn transient_bytes(&self, manifest: &Manifest, shards: &[u32]) -> u64 {
        let maps_store = self.local.map && self.store.local_path(&self.prefix).is_some();
        if maps_store { 0 } else { footprint::largest_bytes(manifest, shards) }
    }

    /// Every generation on the store that says how long it may be published, finished or not: that, and its objects.
    pub(crate) async fn stored(&self) -> Result<BTreeMap<GenerationId, (Lifetime, Vec<String>)>, IndexError> {
        let mut stored = BTreeMap::new();
        for (id, paths) in self.objects().await? {
            if let Some(lifetime) = self.lifetime(&id).await {
                stored.insert(id, (lifetime, paths));
            }
        }
        Ok(stored)
    }

    /// How long a generation may be published. Of one that was stored for so long that it was collected meanwhile, the manifest alone says so.
    async fn lifetime(&self, id: &GenerationId) -> Option<Lifetime> {
        match self.get(id, LIFETIME).await {
            Ok(json) => serde_json::from_slice(&json).ok(),
            Err(_) => self.parse_manifest(id, &self.get(id, MANIFEST).await.ok()?).ok()?.lifetime,
        }
    }

    /// Every generation on the store that was finished.
    pub(crate) async fn finished(&self) -> Result<Vec<GenerationId>, IndexError> {
        let objects = self.objects().await?.into_iter();
        let finished = objects.filter(|(id, paths)| paths.contains(&self.path(id, MANIFEST)));
        Ok(finished.map(|(id, _)| id).collect())
    }

    /// How often a compaction of a generation was begun, by whichever process.
    pub(crate) async fn compactions_begun(&self, id: &GenerationId) -> Result<usize, IndexError> {
        let begun = self.path(id, COMPACTION);
        let listed = self.store.list(&format!("{}/{id}", self.prefix)).await?;
        Ok(listed.iter().filter(|object| object.path.starts_with(&begun)).count())
    }

    /// Says that a compaction of a generation begins after so many others; false where another process has said so first. Goes with the generation.
    pub(crate) async fn begin_compaction(&self, id: &GenerationId, after: usize) -> Result<bool, IndexError> {
        self.create(id, &format!("{COMPACTION}{after}"), Bytes::new()).await
    }

    async fn objects(&self) -> Result<BTreeMap<GenerationId, Vec<String>>, IndexError> {
        let mut objects: BTreeMap<GenerationId, Vec<String>> = BTreeMap::new();
        for listed in self.store.list(&self.prefix).await? {
            let rest = listed.path.strip_prefix(self.prefix.as_ref()).and_then(|rest| rest.strip_prefix('/'));
            let id = rest.and_then(|rest| rest.split('/').next()).and_then(|id| id.parse().ok());
            id.into_iter().for_each(|id| objects.entry(id).or_default().push(listed.path.clone()));
        }
        Ok(objects)
    }

    /// Deletes the objects of a generation: the manifest first, so that what is left of it is none.
    pub(crate) async fn delete(&self, id: &GenerationId, mut paths: Vec<String>) -> Result<(), IndexError> {
        let rank = |path: &String| match path.rsplit('/').next() {
            Some(MANIFEST) => 0,
            Some(LIFETIME) => 2,
            _ => 1,
        };
        paths.sort_by_key(rank);
        for path in paths {
            self.store.delete(&path).await?;
        }
        // With what puts that were killed have left there.
        self.store.delete_folder(&format!("{}/{id}", self.prefix)).await?;
        if let Some(cache) = &self.local.cache {
            cache.forget(id);
        }
        Ok(())
    }

    async fn shard_blobs(&self, id: &GenerationId, manifest: &Manifest, number: u32) -> Result<ShardBlobs, IndexError> {
        let path = |name| manifest.shard_path(number, name);
        let (ids, vectors) = (path(files::ids_name(manifest)), path(files::VECTORS));
        let (faiss, attributes) = (path(files::FAISS), path(files::ATTRIBUTES));
        let optional = async |path: &str| match manifest.files.contains_key(path) {
            true => self.get_checked(id, manifest, path).await.map(Some),
            false => Ok(None),
        };
        let (ids, vectors, faiss, attributes) = tokio::try_join!(
            self.get_checked(id, manifest, &ids),
            self.get_checked(id, manifest, &vectors),
            // A shard without rows has no index.
            optional(&faiss),
            optional(&attributes),
        )?;
        Ok(ShardBlobs { number, faiss, ids, vectors, attributes })
    }

    fn parse_manifest(&self, id: &GenerationId, json: &[u8]) -> Result<Manifest, IndexError> {
        let found = sha256(json);
        if !id.vouches_for(&found) {
            return Err(self.damaged(id, MANIFEST, format!("its SHA-256 is {found}, the id vouches for another")));
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|e| self.damaged(id, MANIFEST, e.to_string()))?;
        match manifest.format_version {
            FORMAT_FLAT | FORMAT_SHARDED if manifest.shard_count > 0 => Ok(manifest),
            other => {
                let why =
                    format!("expected a format version up to {FORMAT_SHARDED}, found {other}: use a newer program");
                Err(self.damaged(id, MANIFEST, why))
            }
        }
    }

    /// An object that is there already has the same bytes: the id is made from their digests.
    async fn put(&self, id: &GenerationId, name: &str, bytes: Bytes) -> Result<(), IndexError> {
        Ok(self.store.put_vouched(&self.path(id, name), bytes).await?)
    }

    /// Writes an object; false where one is there already.
    async fn create(&self, id: &GenerationId, name: &str, bytes: Bytes) -> Result<bool, IndexError> {
        match self.store.put_create(&self.path(id, name), bytes).await {
            Ok(()) => Ok(true),
            Err(StoreError::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// From the cache, if what is there has the right digest, else from the store, and then kept in the cache.
    async fn get_checked(&self, id: &GenerationId, manifest: &Manifest, name: &str) -> Result<Blob, IndexError> {
        let expected = manifest.files.get(name).ok_or_else(|| self.damaged(id, MANIFEST, format!("no `{name}`")))?;
        if let Some(blob) = self.cached(id, name).await
            && self.digest(&blob).await? == *expected
        {
            return Ok(blob);
        }
        let blob = self.of_store(id, name).await?;
        failpoint::reached("generation_object_read");
        match self.digest(&blob).await? {
            found if found == *expected => Ok(self.keep(id, name, blob).await),
            found => Err(self.damaged(id, name, format!("expected {expected:?}, found {found:?}"))),
        }
    }

    async fn cached(&self, id: &GenerationId, name: &str) -> Option<Blob> {
        self.local.cache.as_ref()?.read(id, name, self.local.map).await
    }

    /// Keeps an object in the cache; what is then to be used of it: the file there, if it is mapped and the same, so that nothing else of it stays in memory.
    async fn keep(&self, id: &GenerationId, name: &str, blob: Blob) -> Blob {
        let Some(cache) = &self.local.cache else { return blob };
        cache.write(id, name, blob.clone()).await;
        let Some(kept) = self.cached(id, name).await.filter(|_| self.local.map) else { return blob };
        let pair = (kept.clone(), blob.clone());
        match self.in_turn(pair.0.len() as u64, move || Ok(*pair.0 == *pair.1)).await {
            Ok(true) => kept,
            _ => blob,
        }
    }

    /// An object of the store, mapped where the store is a directory of this machine.
    async fn of_store(&self, id: &GenerationId, name: &str) -> Result<Blob, IndexError> {
        if self.local.map
            && let Some(path) = self.store.local_path(&self.path(id, name))
            && let Some(mapped) = Blob::of_file(path, true).await
        {
            return Ok(mapped);
        }
        self.get(id, name).await.map(Blob::Read)
    }

    async fn digest(&self, blob: &Blob) -> Result<FileDigest, IndexError> {
        let blob = blob.clone();
        self.in_turn(blob.len() as u64, move || Ok(FileDigest::of(&blob))).await
    }

    /// Reads through so many bytes of what was loaded, while others are searched: that takes seconds of processor time, and gives way to searches.
    async fn in_turn<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl Fn() -> Result<T, IndexError> + Send + Sync + 'static,
    ) -> Result<T, IndexError> {
        let _turn = self.turn().await?;
        giving_way(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND_LEAST as f64), work).await
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, IndexError> {
        self.turn.acquire().await.map_err(|e| IndexError::Internal(e.to_string()))
    }

    async fn get(&self, id: &GenerationId, name: &str) -> Result<Bytes, IndexError> {
        match self.store.get(&self.path(id, name)).await {
            Err(StoreError::NotFound { .. }) if name == MANIFEST => Err(IndexError::GenerationNotFound(id.clone())),
            Err(StoreError::NotFound { .. }) => Err(self.damaged(id, name, "it is missing".into())),
            other => Ok(other?),
        }
    }

    fn path(&self, id: &GenerationId, name: &str) -> String {
        format!("{}/{id}/{name}", self.prefix)
    }

    fn damaged(&self, id: &GenerationId, name: &str, why: String) -> IndexError {
        IndexError::Damaged { what: self.path(id, name), why }
    }
}

/// What does not fit, told with what was reserved for it already.
fn beside(error: IndexError, reserved: u64) -> IndexError {
    match error {
        IndexError::DoesNotFit { bytes, free, total } => {
            IndexError::DoesNotFit { bytes: bytes + reserved, free: free + reserved, total }
        }
        other => other,
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, IndexError> {
    serde_json::to_vec_pretty(value).map_err(|e| IndexError::Internal(e.to_string()))
}

fn assemble(manifest: Manifest, shards: Vec<Arc<Shard>>, queries: &[u8]) -> Result<Generation, IndexError> {
    let sample_queries = match queries {
        [] => Matrix::empty(manifest.embedding_dim),
        some => files::read_matrix(manifest.embedding_dim, some)?,
    };
    let rows: usize = shards.iter().map(|shard| shard.items.len()).sum();
    if shards.len() == manifest.shard_count as usize && rows != manifest.report.item_count {
        return Err(IndexError::Internal(format!("expected {} items, found {rows}", manifest.report.item_count)));
    }
    Ok(Generation { manifest, shards, sample_queries })
}
