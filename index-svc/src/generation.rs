//! [`Generation`]: an immutable built index with its ids and vectors, and its objects on the store.
//!
//! `index/{name}/generations/{id}/` holds `faiss.index`, `items.txt` (one id a line, sorted, so that rows are in the order of ids),
//! `vectors.f32` (little-endian, row after row) and, written last, `manifest.json` with the size and SHA-256 of the others. The id ends with the
//! digest of the manifest, so that an id vouches for every byte. Nothing is parsed before its digest holds.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use pagoda_ann::{Index, Matrix, Parameters, Spec};
use pagoda_commit_log::{Lsn, Store, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::IndexError,
    ids::{GenerationId, ItemId, ModelVersion},
};

const FORMAT_VERSION: u32 = 1;
const FAISS: &str = "faiss.index";
const ITEMS: &str = "items.txt";
const VECTORS: &str = "vectors.f32";
const MANIFEST: &str = "manifest.json";

/// A built index of one space. Row n is the n-th id.
#[derive(Debug)]
pub struct Generation {
    /// What it is.
    pub manifest: Manifest,
    /// The Faiss index.
    pub index: Index,
    /// The ids, sorted.
    pub items: Vec<ItemId>,
    /// The embeddings, `[item_count, embedding_dim]`.
    pub vectors: Matrix,
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format_version: u32,
    /// The model that made the embeddings.
    pub model: ModelVersion,
    /// The values of an embedding.
    pub embedding_dim: usize,
    /// Writes up to this position are contained.
    pub covers_lsn: Lsn,
    /// How the vectors are indexed.
    pub spec: Spec,
    /// What was measured.
    pub report: Report,
    /// The other objects. Empty until they are written.
    pub files: BTreeMap<String, FileDigest>,
}

/// What was measured of a generation while it was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Items held.
    pub item_count: usize,
    /// recall_at_100 of approximate against exact search.
    pub recall_at_100: f64,
    /// With so many queries.
    pub query_count: usize,
    /// Whether the queries were user embeddings; items flatter.
    pub measured_with_users: bool,
    /// The search parameters it was measured with, the generation's own.
    pub parameters: Parameters,
    /// Seconds the build took.
    pub build_s: f64,
}

/// The size and digest of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// A generation that was loaded: every byte is what its id vouches for.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The generation's id.
    pub id: GenerationId,
    /// The generation.
    pub generation: Arc<Generation>,
}

/// The generations of one index, on the store.
#[derive(Clone, Debug)]
pub struct Generations {
    store: Store,
    prefix: Arc<str>,
}

impl Generation {
    /// The row of an item.
    pub fn row_of(&self, id: &ItemId) -> Option<u32> {
        self.items.binary_search(id).ok().map(|row| row as u32)
    }
}

impl Generations {
    /// The generations of the index of this name.
    pub fn new(store: Store, index_name: &str) -> Self {
        Self { store, prefix: format!("index/{index_name}/generations").into() }
    }

    /// Writes a generation, its manifest last.
    pub async fn save(&self, generation: Generation) -> Result<(GenerationId, Manifest), IndexError> {
        let Generation { mut manifest, index, items, vectors } = generation;
        let objects = blocking(move || Ok(to_objects(&index, &items, &vectors)?)).await?;
        manifest.files = objects.iter().map(|(name, _, digest)| ((*name).to_owned(), digest.clone())).collect();
        let json = serde_json::to_vec_pretty(&manifest).map_err(|e| IndexError::Internal(e.to_string()))?;
        let id = GenerationId::new(manifest.model, &sha256(&json));
        for (name, bytes, _) in objects {
            self.put(&id, name, bytes).await?;
        }
        self.put(&id, MANIFEST, json.into()).await?;
        Ok((id, manifest))
    }

    /// Reads a generation back and checks every digest.
    pub async fn load(&self, id: &GenerationId) -> Result<Loaded, IndexError> {
        let json = self.get(id, MANIFEST).await?;
        let manifest = self.parse_manifest(id, &json)?;
        let (faiss, items, vectors) = tokio::try_join!(
            self.get_checked(id, &manifest, FAISS),
            self.get_checked(id, &manifest, ITEMS),
            self.get_checked(id, &manifest, VECTORS),
        )?;
        let assembled = blocking(move || assemble(manifest, &faiss, &items, &vectors)).await;
        let generation = assembled.map_err(|why| self.damaged(id, "", why.to_string()))?;
        Ok(Loaded { id: id.clone(), generation: Arc::new(generation) })
    }

    fn parse_manifest(&self, id: &GenerationId, json: &[u8]) -> Result<Manifest, IndexError> {
        let found = sha256(json);
        if !id.vouches_for(&found) {
            return Err(self.damaged(id, MANIFEST, format!("its SHA-256 is {found}, the id vouches for another")));
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|e| self.damaged(id, MANIFEST, e.to_string()))?;
        match manifest.format_version {
            FORMAT_VERSION => Ok(manifest),
            other => {
                Err(self.damaged(id, MANIFEST, format!("expected format version {FORMAT_VERSION}, found {other}")))
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

    async fn get_checked(&self, id: &GenerationId, manifest: &Manifest, name: &str) -> Result<Bytes, IndexError> {
        let expected = manifest.files.get(name).ok_or_else(|| self.damaged(id, MANIFEST, format!("no `{name}`")))?;
        let bytes = self.get(id, name).await?;
        let of = bytes.clone();
        match blocking(move || Ok(digest(&of))).await? {
            found if found == *expected => Ok(bytes),
            found => Err(self.damaged(id, name, format!("expected {expected:?}, found {found:?}"))),
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

impl Manifest {
    /// The manifest of a generation that is not on the store yet.
    pub fn of_build(model: ModelVersion, covers_lsn: Lsn, embedding_dim: usize, spec: Spec, report: Report) -> Self {
        Self { format_version: FORMAT_VERSION, model, embedding_dim, covers_lsn, spec, report, files: BTreeMap::new() }
    }
}

/// Runs long work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(IndexError::Internal(e.to_string())))
}

fn to_objects(
    index: &Index,
    items: &[ItemId],
    vectors: &Matrix,
) -> Result<[(&'static str, Bytes, FileDigest); 3], pagoda_ann::AnnError> {
    let lines: String = items.iter().flat_map(|id| [id.as_str(), "\n"]).collect();
    let floats: Vec<u8> = vectors.values().iter().flat_map(|v| v.to_le_bytes()).collect();
    let objects = [(FAISS, index.write()?), (ITEMS, lines.into_bytes()), (VECTORS, floats)];
    Ok(objects.map(|(name, bytes)| {
        let bytes = Bytes::from(bytes);
        let digest = digest(&bytes);
        (name, bytes, digest)
    }))
}

fn assemble(manifest: Manifest, faiss: &[u8], items: &[u8], vectors: &[u8]) -> Result<Generation, IndexError> {
    let mismatch = |why: &str| IndexError::Internal(why.to_owned());
    let text = std::str::from_utf8(items).map_err(|_| mismatch("the ids are not UTF-8"))?;
    let items: Vec<_> =
        text.lines().map(ItemId::new).collect::<Result<_, _>>().map_err(|e| mismatch(&e.to_string()))?;
    let values = vectors.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let vectors = Matrix::new(manifest.embedding_dim, values)?;
    let index = Index::read(faiss)?;
    let rows = [items.len(), vectors.rows(), index.rows()];
    if rows != [manifest.report.item_count; 3] || index.dim() != manifest.embedding_dim {
        return Err(mismatch("its parts have different numbers of rows or dimensions"));
    }
    if !items.is_sorted_by(|a, b| a < b) {
        return Err(mismatch("the ids are not sorted or not unique"));
    }
    Ok(Generation { manifest, index, items, vectors })
}

fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest { bytes: bytes.len() as u64, sha256: sha256(bytes) }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
