//! The items: numbers, each of which has one value after the other.

use pagoda_proto::{
    feature::v1::Embedding,
    index::v1::{ItemEmbedding, ScoredItem},
};

use crate::index_calls::embedding;

/// Items that there can be.
pub(super) const ITEMS: u32 = 1200;
/// The score of an item's own value; that of any other is far below.
const OWN_SCORE_MIN: f32 = 0.999;

/// An item's value: which of those that it was given, in their order.
pub(super) type Value = u32;

pub(super) fn id(item: u32) -> String {
    format!("i{item}")
}

pub(super) fn embedding_of(item: u32, value: Value) -> Embedding {
    embedding(&format!("i{item}={value}"))
}

pub(super) fn with(item: u32, value: Value) -> ItemEmbedding {
    ItemEmbedding { item_id: id(item), embedding: Some(embedding_of(item, value)), ..Default::default() }
}

/// Whether these, found for a value's embedding, say that the item has it.
pub(super) fn shows(found: &[ScoredItem], item: u32) -> bool {
    found.first().is_some_and(|nearest| nearest.item_id == id(item) && nearest.score > OWN_SCORE_MIN)
}
