//! [`Footprint`]: what a generation takes in memory, estimated before it is loaded and counted afterwards.
//!
//! What is mapped counts as what is not: searches read all of it all the time, and a machine without room for it would read it from the disk again
//! and again.

use pagoda_ann::{Index, Matrix};

use super::{Generation, Manifest, Shard, files};
use crate::ids::IdTable;

/// What a generation takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Memory of this process alone.
    pub anonymous_bytes: u64,
    /// Files that are mapped: the kernel's page cache, which other processes share.
    pub mapped_bytes: u64,
}

impl Footprint {
    /// What a generation that is loaded takes. Attributes count as they lie on the disk.
    pub(super) fn of(generation: &Generation) -> Self {
        let manifest = &generation.manifest;
        let shards = generation.shards.iter().map(|shard| Self::of_shard(manifest, shard));
        shards.fold(Self::of_matrix(&generation.sample_queries), Self::plus)
    }

    fn of_shard(manifest: &Manifest, shard: &Shard) -> Self {
        let attributes = file_bytes(manifest, shard.number, files::ATTRIBUTES);
        let held = Self { anonymous_bytes: shard.items.memory_bytes() as u64 + attributes, mapped_bytes: 0 };
        let index = shard.index.as_ref().map_or_else(Self::default, |index| {
            let anonymous = index.bytes() as u64;
            Self { anonymous_bytes: anonymous, mapped_bytes: index.resident_bytes() as u64 - anonymous }
        });
        held.plus(index).plus(Self::of_matrix(&shard.vectors))
    }

    fn of_matrix(matrix: &Matrix) -> Self {
        let bytes = size_of_val(matrix.values()) as u64;
        match matrix.is_mapped() {
            true => Self { anonymous_bytes: 0, mapped_bytes: bytes },
            false => Self { anonymous_bytes: bytes, mapped_bytes: 0 },
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            anonymous_bytes: self.anonymous_bytes + other.anonymous_bytes,
            mapped_bytes: self.mapped_bytes + other.mapped_bytes,
        }
    }
}

/// About how many bytes some shards of a generation will take.
pub(super) fn estimate(manifest: &Manifest, shards: &[u32]) -> u64 {
    let queries = manifest.files.get(files::QUERIES).map_or(0, |file| file.bytes);
    queries + shards.iter().map(|shard| estimate_shard(manifest, *shard)).sum::<u64>()
}

fn estimate_shard(manifest: &Manifest, shard: u32) -> u64 {
    let bytes = |name| file_bytes(manifest, shard, name);
    let dim = manifest.embedding_dim.max(1);
    let rows = bytes(files::VECTORS) / (4 * dim as u64);
    // Some kinds hold more than their file, a little or as much again.
    let index = bytes(files::FAISS).max(Index::estimate_bytes(&manifest.spec, rows as usize, dim) as u64);
    let ids = IdTable::estimate_bytes(bytes(files::ids_name(manifest)) as usize, rows as usize) as u64;
    bytes(files::VECTORS) + index + ids + bytes(files::ATTRIBUTES)
}

/// The objects of the largest of some shards, in bytes: so much is in memory beside what becomes of it, where objects are not mapped.
pub(super) fn largest_bytes(manifest: &Manifest, shards: &[u32]) -> u64 {
    shards.iter().map(|shard| shard_bytes(manifest, *shard)).max().unwrap_or(0)
}

/// The objects of a shard, in bytes.
pub(super) fn shard_bytes(manifest: &Manifest, shard: u32) -> u64 {
    let names = [files::ids_name(manifest), files::VECTORS, files::FAISS, files::ATTRIBUTES];
    names.iter().map(|name| file_bytes(manifest, shard, name)).sum()
}

fn file_bytes(manifest: &Manifest, shard: u32, name: &str) -> u64 {
    manifest.files.get(&manifest.shard_path(shard, name)).map_or(0, |file| file.bytes)
}
