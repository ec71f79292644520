//! [`Top`]: the k best of what is offered.

use std::cmp::Ordering;

use crate::Hit;

/// Keeps up to twice k hits and halves them when they are full: one selection for every k hits, instead of a heap's operation for each.
/// What is below the threshold need not be offered.
#[derive(Debug)]
pub(crate) struct Top {
    k: usize,
    hits: Vec<Hit>,
    threshold: f32,
    /// Whether the hits are more than the k best, or not yet selected from.
    is_loose: bool,
}

impl Top {
    /// Of nothing yet.
    pub(crate) fn new(k: usize) -> Self {
        Self::from_floor(k, f32::NEG_INFINITY)
    }

    /// Of nothing yet, and nothing that scores below the floor.
    pub(crate) fn from_floor(k: usize, floor: f32) -> Self {
        Self { k, hits: Vec::with_capacity((2 * k).min(4096)), threshold: floor, is_loose: true }
    }

    /// Scores below it are not among the best; never above the k-th best score that was offered.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Offers a hit.
    #[inline]
    pub(crate) fn offer(&mut self, hit: Hit) {
        if self.k == 0 || hit.score < self.threshold {
            return;
        }
        self.hits.push(hit);
        self.is_loose = true;
        if self.hits.len() >= (2 * self.k).max(64) {
            self.tighten();
        }
    }

    /// The k best, best first, ties by row.
    pub(crate) fn into_sorted(mut self) -> Vec<Hit> {
        self.tighten();
        self.hits.sort_unstable_by(best_first);
        self.hits
    }

    /// The k best in no order.
    pub(crate) fn into_hits(mut self) -> Vec<Hit> {
        self.tighten();
        self.hits
    }

    /// Raises the threshold to the score of the k-th best, once there are so many: of no best to infinity. Costs in proportion to k, unless nothing was offered since.
    pub(crate) fn tighten(&mut self) {
        if !self.is_loose {
            return;
        }
        if self.hits.len() > self.k {
            self.hits.select_nth_unstable_by(self.k, best_first);
            self.hits.truncate(self.k);
        }
        self.is_loose = false;
        if self.hits.len() == self.k {
            let scores = self.hits.iter().map(|hit| hit.score);
            self.threshold = scores.fold(f32::INFINITY, |least, score| if score < least { score } else { least });
            // A score that is no number is last, and every number is better.
            if self.hits.iter().any(|hit| hit.score.is_nan()) {
                self.threshold = f32::NEG_INFINITY;
            }
        }
    }
}

/// Descending score, NaN last, ties by row.
pub(crate) fn best_first(a: &Hit, b: &Hit) -> Ordering {
    let nan_last = a.score.is_nan().cmp(&b.score.is_nan());
    nan_last.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.row.cmp(&b.row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_what_sorting_keeps(scores in prop::collection::vec(-3i8..=3, 0..500), k in 0usize..90, tighten_every in 1usize..60) {
            let hits: Vec<Hit> = (0..).zip(&scores).map(|(row, score)| Hit { row, score: f32::from(*score) }).collect();
            let mut top = Top::new(k);
            for (n, hit) in (1..).zip(hits.iter().rev()) {
                top.offer(*hit);
                if n % tighten_every == 0 {
                    top.tighten();
                    let mut best: Vec<f32> = hits.iter().rev().take(n).map(|hit| hit.score).collect();
                    best.sort_by(|a, b| b.total_cmp(a));
                    let kth = |at: usize| best.get(at).copied().unwrap_or(f32::NEG_INFINITY);
                    prop_assert_eq!(top.threshold(), k.checked_sub(1).map_or(f32::INFINITY, kth));
                }
            }
            let mut expected = hits;
            expected.sort_by(best_first);
            expected.truncate(k);
            prop_assert_eq!(top.into_sorted(), expected);
        }
    }

    #[test]
    fn nan_is_last() {
        let hit = |row, score| Hit { row, score };
        let mut top = Top::new(2);
        [hit(0, f32::NAN), hit(1, -1.0), hit(2, 3.0), hit(3, -f32::NAN)].into_iter().for_each(|hit| top.offer(hit));
        assert_eq!(top.into_sorted().iter().map(|hit| hit.row).collect::<Vec<_>>(), [2, 1]);
    }
}
