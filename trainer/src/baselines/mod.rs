//! The rankers that a model has to beat: popularity, item-kNN and EASE, fitted to nothing but who had which item.
//!
//! Knows nothing of towers, features or how rankings are judged. A scorer sees a history and scores the whole catalog.

mod ease;
mod inverse;
mod item_knn;
mod popularity;
#[cfg(test)]
mod tests;
mod user_items;

pub(crate) use ease::Ease;
pub(crate) use item_knn::ItemKnn;
pub(crate) use popularity::Popularity;
pub(crate) use user_items::UserItems;

/// Scores a catalog for a history; a higher score is better, and every score is finite.
pub(crate) trait Scorer: Sync {
    /// Overwrites `scores`, `[catalog]`. `history` are places in the catalog, in any order; the score of an item in it is as
    /// any other, since removing what was seen is the judge's.
    fn score(&self, history: &[u32], scores: &mut [f32]);
}
