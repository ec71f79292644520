//! [`Generations`]: the generations of one index, on the store and in the local cache.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use pagoda_ann::Matrix;
use pagoda_commit_log::{Store, StoreError};

use super::{
    Cache, Generation, Lifetime, Loaded, Manifest, blocking,
    files::{self, Object, ShardBytes},
    manifest::{FORMAT_FLAT, FORMAT_SHARDED, FileDigest, sha256},
};
use crate::{error::IndexError, failpoint, ids::GenerationId, memory::Memory};

const MANIFEST: &str = "manifest.json";
/// Written first, so that a generation that was never finished can be told from one under way.
const LIFETIME: &str = "lifetime.json";
/// What an item takes in memory beside its vector and its place in Faiss: two pointers, counters, its id.
const ITEM_BYTES: u64 = 64;

/// The generations of one index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Generations {
    store: Store,
    prefix: Arc<str>,
    cache: Option<Cache>,
    memory: Memory,
    /// The shards that are loaded; none: all.
    shards: Arc<[u32]>,
}

impl Generations {
    /// The generations of the index of this name. Of each, the shards of these numbers are loaded, or all if none is named.
    pub fn new(store: Store, index_name: &str, cache: Option<Cache>, memory: Memory, shards: &[u32]) -> Self {
        Self { store, prefix: format!("index/{index_name}/generations").into(), cache, memory, shards: shards.into() }
    }

    /// Writes a generation, its manifest last.
    pub async fn save(
        &self,
        generation: Generation,
        lifetime: Lifetime,
    ) -> Result<(GenerationId, Manifest), IndexError> {
        let Generation { mut manifest, shards, sample_queries } = generation;
        manifest.format_version = FORMAT_SHARDED;
        manifest.lifetime = Some(lifetime);
        let (manifest, objects) = blocking(move || {
            let mut objects = vec![files::queries_object(&sample_queries)];
            for shard in &shards {
                objects.extend(files::shard_objects(&manifest, shard)?);
            }
            manifest.files = objects.iter().map(|object| (object.path.clone(), object.digest.clone())).collect();
            Ok((manifest, objects))
        })
        .await?;
        let json = to_json(&manifest)?;
        let id = GenerationId::new(manifest.model, &sha256(&json));
        self.put(&id, LIFETIME, to_json(&lifetime)?.into()).await?;
        for Object { path, bytes, .. } in objects {
            self.put(&id, &path, bytes).await?;
            failpoint::reached("generation_object_stored");
        }
        self.put(&id, MANIFEST, json.into()).await?;
        failpoint::reached("generation_stored");
        Ok((id, manifest))
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
        self.keep(id, MANIFEST, &json).await;
        Ok(manifest)
    }

    /// Reads the shards wanted of a generation back, if they fit into memory, and checks every digest.
    pub async fn load(&self, id: &GenerationId) -> Result<Loaded, IndexError> {
        let manifest = self.manifest(id).await?;
        let wanted: Vec<u32> =
            (0..manifest.shard_count).filter(|n| self.shards.is_empty() || self.shards.contains(n)).collect();
        let stored = manifest.byte_count(&wanted);
        let memory = self.memory.reserve(stored + ITEM_BYTES * manifest.report.item_count as u64)?;
        // While they are parsed, the objects are in memory beside what becomes of them.
        let _transient = self.memory.reserve(stored)?;
        let mut shards = Vec::with_capacity(wanted.len());
        for number in wanted {
            shards.push(self.read_shard(id, &manifest, number).await?);
        }
        let queries = match manifest.files.contains_key(files::QUERIES) {
            true => self.get_checked(id, &manifest, files::QUERIES).await?,
            false => Bytes::new(),
        };
        let assembled = blocking(move || assemble(manifest, shards, &queries)).await;
        let generation = assembled.map_err(|why| self.damaged(id, "", why.to_string()))?;
        Ok(Loaded { id: id.clone(), generation: Arc::new(generation), _memory: Arc::new(memory) })
    }

    /// Every generation on the store that says how long it may be published, finished or not: that, and its objects.
    pub(crate) async fn stored(&self) -> Result<BTreeMap<GenerationId, (Lifetime, Vec<String>)>, IndexError> {
        let mut objects: BTreeMap<GenerationId, Vec<String>> = BTreeMap::new();
        for listed in self.store.list(&self.prefix).await? {
            let rest = listed.path.strip_prefix(self.prefix.as_ref()).and_then(|rest| rest.strip_prefix('/'));
            let id = rest.and_then(|rest| rest.split('/').next()).and_then(|id| id.parse().ok());
            id.into_iter().for_each(|id| objects.entry(id).or_default().push(listed.path.clone()));
        }
        let mut stored = BTreeMap::new();
        for (id, paths) in objects {
            if let Ok(json) = self.get(&id, LIFETIME).await
                && let Ok(lifetime) = serde_json::from_slice(&json)
            {
                stored.insert(id, (lifetime, paths));
            }
        }
        Ok(stored)
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
        if let Some(cache) = &self.cache {
            cache.forget(id);
        }
        Ok(())
    }

    async fn read_shard(&self, id: &GenerationId, manifest: &Manifest, number: u32) -> Result<ShardBytes, IndexError> {
        let flat = manifest.format_version == FORMAT_FLAT;
        let path = |name| manifest.shard_path(number, name);
        let (ids, vectors) = (path(if flat { files::IDS_FLAT } else { files::IDS }), path(files::VECTORS));
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
        Ok(ShardBytes { number, faiss, ids, vectors, attributes })
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
        match self.store.put_create(&self.path(id, name), bytes).await {
            Ok(()) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// From the cache, if what is there has the right digest, else from the store, and then kept in the cache.
    async fn get_checked(&self, id: &GenerationId, manifest: &Manifest, name: &str) -> Result<Bytes, IndexError> {
        let expected = manifest.files.get(name).ok_or_else(|| self.damaged(id, MANIFEST, format!("no `{name}`")))?;
        if let Some(bytes) = self.cached(id, name).await
            && digest(&bytes).await? == *expected
        {
            return Ok(bytes);
        }
        let bytes = self.get(id, name).await?;
        failpoint::reached("generation_object_read");
        match digest(&bytes).await? {
            found if found == *expected => {
                self.keep(id, name, &bytes).await;
                Ok(bytes)
            }
            found => Err(self.damaged(id, name, format!("expected {expected:?}, found {found:?}"))),
        }
    }

    async fn cached(&self, id: &GenerationId, name: &str) -> Option<Bytes> {
        self.cache.as_ref()?.read(id, name).await
    }

    async fn keep(&self, id: &GenerationId, name: &str, bytes: &Bytes) {
        if let Some(cache) = &self.cache {
            cache.write(id, name, bytes.clone()).await;
        }
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

fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, IndexError> {
    serde_json::to_vec_pretty(value).map_err(|e| IndexError::Internal(e.to_string()))
}

async fn digest(bytes: &Bytes) -> Result<FileDigest, IndexError> {
    let bytes = bytes.clone();
    blocking(move || Ok(FileDigest::of(&bytes))).await
}

fn assemble(manifest: Manifest, shards: Vec<ShardBytes>, queries: &[u8]) -> Result<Generation, IndexError> {
    let sample_queries = match queries {
        [] => Matrix::empty(manifest.embedding_dim),
        some => files::read_matrix(manifest.embedding_dim, some)?,
    };
    let shards: Vec<_> =
        shards.into_iter().map(|bytes| files::read_shard(&manifest, bytes).map(Arc::new)).collect::<Result<_, _>>()?;
    let rows: usize = shards.iter().map(|shard| shard.items.len()).sum();
    if shards.len() == manifest.shard_count as usize && rows != manifest.report.item_count {
        return Err(IndexError::Internal(format!("expected {} items, found {rows}", manifest.report.item_count)));
    }
    Ok(Generation { manifest, shards, sample_queries })
}
