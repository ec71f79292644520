//! [`Top`]: the best few of many scores, in memory of the few.

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
    floor: Option<(f32, u32)>,
}

impl Top {
    /// Of items that are shown once each.
    pub fn new(n: usize) -> Self {
        Self { n, distinct: true, kept: Vec::new(), floor: None }
    }

    /// Of items that may be shown again and again, of which the best score counts.
    pub fn of_repeated(n: usize) -> Self {
        Self { distinct: false, ..Self::new(n) }
    }

    /// Shows an item's score.
    pub fn push(&mut self, item: u32, score: f32) {
        let candidate = (score, item);
        if score.is_nan() || self.floor.is_some_and(|floor| better(&candidate, &floor).is_ge()) {
            return;
        }
        self.kept.push(candidate);
        if self.kept.len() >= 2 * self.n.max(32) {
            self.prune();
        }
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
            self.kept.dedup_by_key(|(_, item)| *item);
        }
        if self.n > 0 && self.kept.len() > self.n {
            self.kept.select_nth_unstable_by(self.n - 1, better);
            self.kept.truncate(self.n);
            self.floor = Some(self.kept[self.n - 1]);
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
    fn what_is_no_number_is_left_out() {
        let mut top = Top::new(2);
        [f32::NAN, 1.0, -f32::NAN].into_iter().zip(0..).for_each(|(score, item)| top.push(item, score));
        assert_eq!(top.finish(), [Ranked { rank: 1, item: 1, score: 1.0 }]);
    }
}
