//! [`Footprint`]: what a generation takes in memory, estimated before it is loaded and counted afterwards.
//!
//! What is mapped counts as what is not: searches read all of it all the time, and a machine without room for it would read it from the disk again
//! and again.

use pagoda_ann::{Index, Matrix};

use super::{Generation, Manifest, Shard, files};
use crate::{attributes::AttributeKind, ids::IdTable};

/// Attributes take so many times their bytes on the disk, in about and rather more: texts of few kinds or of as many as there are rows, numbers.
const TEXTS_TIMES: u64 = 12;
const NUMBERS_TIMES: u64 = 2;

/// What a generation takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Memory of this process alone.
    pub anonymous_bytes: u64,
    /// Files that are mapped: the kernel's page cache, which other processes share.
    pub mapped_bytes: u64,
}

impl Footprint {
    /// What a generation that is loaded takes.
    pub(super) fn of(generation: &Generation) -> Self {
        let shards = generation.shards.iter().map(|shard| Self::of_shard(shard));
        shards.fold(Self::of_matrix(&generation.sample_queries), Self::plus)
    }

    fn of_shard(shard: &Shard) -> Self {
        let bytes = shard.items.memory_bytes() + shard.attributes.memory_bytes();
        let held = Self { anonymous_bytes: bytes as u64, mapped_bytes: 0 };
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
    bytes(files::VECTORS) + index + ids + estimate_attributes(manifest, shard)
}

/// As it was counted when the generation was built, or else by its bytes on the disk.
fn estimate_attributes(manifest: &Manifest, shard: u32) -> u64 {
    let counted = manifest.attribute_bytes.get(shard as usize).copied();
    let has_texts = manifest.attributes.iter().any(|(_, kind)| kind == AttributeKind::Text);
    let times = if has_texts { TEXTS_TIMES } else { NUMBERS_TIMES };
    counted.unwrap_or_else(|| times * file_bytes(manifest, shard, files::ATTRIBUTES))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        attributes::{AttributeIndex, Columns},
        item::Value,
    };

    fn text(text: String) -> Value {
        Value::Texts(vec![text.into()])
    }

    #[test]
    fn attributes_take_no_more_than_is_guessed_by_their_bytes_and_not_far_less() {
        let (texts, numbers) = ((AttributeKind::Text, TEXTS_TIMES), (AttributeKind::Integer, NUMBERS_TIMES));
        type Made = fn(u32) -> Value;
        let values: [(_, Made); 5] = [
            (texts, |n| text(n.to_string())),
            (texts, |n| text(format!("a title, {n}"))),
            (texts, |n| text((n % 9).to_string())),
            (numbers, |n| Value::Integer(n.into())),
            (numbers, |n| Value::Integer((n % 100).into())),
        ];
        for ((kind, times), value) in values {
            let name: Arc<str> = "a".into();
            let mut columns = Columns::new(&[(name.clone(), kind)].into_iter().collect());
            (0..100_000).for_each(|n| columns.push(&[(name.clone(), value(n))].into_iter().collect()));
            let guessed = times as usize * columns.encode().len();
            let taken = AttributeIndex::new(columns).memory_bytes();
            assert!((guessed / 4..=guessed).contains(&taken), "{kind}: {taken} bytes, guessed {guessed}");
        }
    }
}
