//! [`Shard`]: the part of a generation whose ids have one hash.

use pagoda_ann::{Index, Matrix, Tuning};

use crate::{
    attributes::AttributeIndex,
    ids::{IdTable, ItemId},
};

/// A part of a generation. Row n is the n-th id.
#[derive(Debug)]
pub struct Shard {
    /// Its number, from 0.
    pub number: u32,
    /// The Faiss index; none where there are no rows.
    pub index: Option<Index>,
    /// How thoroughly the index is searched.
    pub tuning: Tuning,
    /// The ids, sorted.
    pub items: IdTable,
    /// The embeddings, `[items, embedding_dim]`.
    pub vectors: Matrix,
    /// The attributes of each row.
    pub attributes: AttributeIndex,
}

impl Shard {
    /// The row of an item.
    pub fn row_of(&self, id: &ItemId) -> Option<u32> {
        self.items.row_of(id.as_str())
    }
}

/// The shard that an item belongs to, of so many (at least 1): the 64-bit FNV-1a hash of the id's bytes, modulo their number. This is a format: it
/// never changes.
pub fn shard_of(id: &ItemId, shard_count: u32) -> u32 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash % u64::from(shard_count.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_stays_in_its_shard() {
        let shard = |id: &str| shard_of(&ItemId::new(id).unwrap(), 1000);
        // From the published test vectors of FNV-1a: "a" is af63dc4c8601ec8c, "foobar" 85944171f73967e8.
        assert_eq!(u64::from(shard("a")), 0xaf63_dc4c_8601_ec8c % 1000);
        assert_eq!(u64::from(shard("foobar")), 0x8594_4171_f739_67e8 % 1000);
        assert_eq!(shard_of(&ItemId::new("foobar").unwrap(), 1), 0);
    }
}
