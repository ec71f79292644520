//! [`Generation`]: an immutable built index with its ids, vectors and attributes, in shards that are fixed when it is built.
//!
//! `index/{name}/generations/{id}/` holds, for each shard, `shard-{n}/faiss.index`, `ids.bin` (sorted, so that rows are in the order of
//! ids), `vectors.f32` (little-endian, row after row) and, where attributes are declared, `attributes.bin`, and beside them `queries.f32` (the user embeddings that recall was measured with), `lifetime.json` and,
//! written last, `manifest.json` with the size and SHA-256 of the others. The id ends with the digest of the manifest, so that an id vouches for
//! every byte. Nothing is parsed before its digest holds. Generations of format 1 (one shard, no folder, `items.txt`) are read as well.
//!
//! Where the objects lie on this machine's disk, in a store that is a directory or in the cache, vectors and index are mapped and searched where they
//! lie. That is sound because no object is ever written to: it gets its name by a rename, whole, and is at most removed, which leaves a mapping what it
//! is. Who truncates such a file by hand ends the process that has it mapped.

mod blob;
mod cache;
mod files;
mod footprint;
mod manifest;
mod shard;
mod stored;

use std::sync::Arc;

use pagoda_ann::Matrix;

use self::blob::Blob;
pub(crate) use self::cache::write_whole;
pub use self::{
    cache::Cache,
    footprint::Footprint,
    manifest::{FileDigest, GateFailure, Lifetime, Manifest, Report},
    shard::{Shard, shard_of},
    stored::{Generations, LocalFiles},
};
use crate::{
    error::IndexError,
    ids::{GenerationId, ItemId},
    memory::Reservation,
};

/// A built index of one space, or those of its shards that this process serves.
#[derive(Debug)]
pub struct Generation {
    /// What it is.
    pub manifest: Manifest,
    /// The shards, by number.
    pub shards: Vec<Arc<Shard>>,
    /// The user embeddings that recall was measured with, `[queries, embedding_dim]`; may have no rows.
    pub sample_queries: Matrix,
}

/// A generation that was loaded: every byte is what its id vouches for.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The generation's id.
    pub id: GenerationId,
    /// The generation.
    pub generation: Arc<Generation>,
    /// What it takes in memory.
    pub footprint: Footprint,
    /// Its share of the memory, given back with the last clone.
    pub(crate) _memory: Arc<Reservation>,
}

impl Generation {
    /// Whether the shard that an item belongs to is here.
    pub fn serves(&self, id: &ItemId) -> bool {
        self.is_whole() || self.position_of(shard_of(id, self.manifest.shard_count)).is_some()
    }

    /// The place among the shards, and the row there, of an item.
    pub fn row_of(&self, id: &ItemId) -> Option<(usize, u32)> {
        let at = self.position_of(shard_of(id, self.manifest.shard_count))?;
        self.shards[at].row_of(id).map(|row| (at, row))
    }

    /// Whether all of its shards are here.
    pub fn is_whole(&self) -> bool {
        self.shards.len() == self.manifest.shard_count as usize
    }

    fn position_of(&self, number: u32) -> Option<usize> {
        self.shards.binary_search_by_key(&number, |shard| shard.number).ok()
    }
}

/// Runs long work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(IndexError::Internal(e.to_string())))
}
