//! Popularity: the same ranking for everybody.

use super::Scorer;

/// Ranks by how often an item was a training positive.
pub(crate) struct Popularity {
    counts: Vec<f32>,
}

impl Popularity {
    /// From counts, `[catalog]`.
    pub(crate) fn new(counts: Vec<f32>) -> Self {
        Self { counts }
    }

    /// Counting each user once.
    pub(super) fn of_users(user_counts: &[u32]) -> Self {
        Self::new(user_counts.iter().map(|&count| count as f32).collect())
    }
}

impl Scorer for Popularity {
    fn score(&self, _: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.counts);
    }
}
