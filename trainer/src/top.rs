//! [`Top`]: the best few of many scores, in memory of the few. What mines, evaluates and shows rankings keeps its best with it.

use std::cmp::Ordering;

/// An item in a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// From 1, the best.
    pub rank: u32,
    /// The item's place in the catalog.
    pub item: u32,
    /// Higher is better.
    pub score: f32,
}

/// Keeps the `n` best of the scores it is shown; ties go to the smaller place, NaN is left out.
#[derive(Clone, Debug)]
pub struct Top {
    n: usize,
    distinct: bool,
    kept: Vec<(f32, u32)>,
    /// The worst of the n best at the last look; what is no better need not be kept.
    floor: (f32, u32),
    repeated: u64,
}

impl Top {
    /// Of items that are shown once each.
    pub fn new(n: usize) -> Self {
        Self { n, distinct: true, kept: Vec::new(), floor: (f32::NEG_INFINITY, u32::MAX), repeated: 0 }
    }

    /// Of the scores of a whole catalog, `[catalog]`; what is minus infinity is left out.
    pub(crate) fn of_scores(scores: &[f32], n: usize) -> Self {
        let mut top = Self::new(n);
        let items = scores.iter().zip(0..).filter(|(score, _)| **score > f32::NEG_INFINITY);
        items.for_each(|(&score, item)| top.push(item, score));
        top
    }

    /// Of items that may be shown again and again, of which the best score counts.
    pub fn of_repeated(n: usize) -> Self {
        Self { distinct: false, ..Self::new(n) }
    }

    /// Shows an item's score.
    pub fn push(&mut self, item: u32, score: f32) {
        let (floor, place) = self.floor;
        // Most items end here, and so does what is no number.
        if !(score > floor || (score == floor && item < place)) {
            return;
        }
        self.kept.push((score, item));
        if self.kept.len() >= 2 * self.n.max(32) {
            self.prune();
        }
    }

    /// How often an item was shown again whose score might have been among the best.
    pub(crate) fn repeated(&mut self) -> u64 {
        self.prune();
        self.repeated
    }

    /// The best, ranked from 1.
    pub fn finish(mut self) -> Vec<Ranked> {
        self.prune();
        self.kept.sort_unstable_by(better);
        self.kept.into_iter().zip(1..).map(|((score, item), rank)| Ranked { rank, item, score }).collect()
    }

    fn prune(&mut self) {
        if !self.distinct {
            self.kept.sort_unstable_by(|a, b| a.1.cmp(&b.1).then_with(|| better(a, b)));
            let shown = self.kept.len();
            self.kept.dedup_by_key(|(_, item)| *item);
            self.repeated += (shown - self.kept.len()) as u64;
        }
        if self.n > 0 && self.kept.len() > self.n {
            self.kept.select_nth_unstable_by(self.n - 1, better);
            self.kept.truncate(self.n);
            self.floor = self.kept[self.n - 1];
        }
        self.kept.truncate(self.n);
    }
}

/// Less is better: descending score, ties by place.
fn better(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(scores: &[(u32, f32)], n: usize) -> Vec<Ranked> {
        let mut all: Vec<(f32, u32)> = scores.iter().map(|&(item, score)| (score, item)).collect();
        all.sort_by(better);
        let mut seen = std::collections::HashSet::new();
        let first = all.into_iter().filter(|&(_, item)| seen.insert(item)).take(n);
        first.zip(1..).map(|((score, item), rank)| Ranked { rank, item, score }).collect()
    }

    proptest! {
        #[test]
        fn the_top_agrees_with_sorting(scores in prop::collection::vec(-9_i8..9, 0..400), n in 0_usize..90) {
            let shown: Vec<(u32, f32)> = scores.iter().zip(0..).map(|(&score, item)| (item, f32::from(score))).collect();
            let mut top = Top::new(n);
            shown.iter().for_each(|&(item, score)| top.push(item, score));
            prop_assert_eq!(top.finish(), sorted(&shown, n));
        }

        #[test]
        fn of_repeated_items_the_best_score_counts(shown in prop::collection::vec((0_u32..70, -9_i8..9), 0..400), n in 1_usize..40) {
            let shown: Vec<(u32, f32)> = shown.into_iter().map(|(item, score)| (item, f32::from(score))).collect();
            let mut top = Top::of_repeated(n);
            shown.iter().for_each(|&(item, score)| top.push(item, score));
            prop_assert_eq!(top.finish(), sorted(&shown, n));
        }
    }

    #[test]
    fn items_shown_again_are_counted() {
        let mut top = Top::of_repeated(2);
        [(1, 5.0), (2, 4.0), (1, 6.0), (1, 6.0)].into_iter().for_each(|(item, score)| top.push(item, score));
        assert_eq!((top.repeated(), top.finish()[0]), (2, Ranked { rank: 1, item: 1, score: 6.0 }));
    }

    #[test]
    fn of_a_catalog_what_was_removed_is_left_out() {
        let top = Top::of_scores(&[1.0, f32::NEG_INFINITY, 2.0], 3).finish();
        assert_eq!(top.iter().map(|ranked| ranked.item).collect::<Vec<_>>(), [2, 0]);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut top = Top::new(2);
        [f32::NAN, 1.0, -f32::NAN].into_iter().zip(0..).for_each(|(score, item)| top.push(item, score));
        assert_eq!(top.finish(), [Ranked { rank: 1, item: 1, score: 1.0 }]);
    }
}
