//! [`Window`]: which ranks are hard negatives.

use crate::{error::TrainError, top::Ranked};

/// The most items that are asked of a ranker.
const TOP_MAX: usize = 100_000;

/// Of the `top` best of a ranking, the ranks `from` to `to`, both included, counted from 1. What ranks above them is too likely to be
/// liked, what ranks below is easy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// How many items are asked of the ranker.
    pub top: usize,
    /// The first rank that is taken.
    pub from: usize,
    /// The last.
    pub to: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { top: 1000, from: 100, to: 500 }
    }
}

impl Window {
    /// 1 <= from <= to <= top <= 100,000.
    pub fn validate(self) -> Result<(), TrainError> {
        let Self { top, from, to } = self;
        if 1 <= from && from <= to && to <= top && top <= TOP_MAX {
            return Ok(());
        }
        Err(TrainError::Mining(format!(
            "the window: expected 1 <= first rank <= last rank <= top <= {TOP_MAX}, found the ranks {from} to {to} of the top {top}"
        )))
    }

    /// The items of a ranking at the window's ranks, and how many of those were left out for being among `positives`, which are sorted.
    /// Leaving out moves no other item's rank.
    pub(super) fn take(self, ranking: &[Ranked], positives: &[u32]) -> (Vec<Ranked>, u64) {
        let within = ranking.iter().filter(|item| (self.from..=self.to).contains(&(item.rank as usize)));
        let (liked, taken): (Vec<Ranked>, Vec<Ranked>) =
            within.partition(|item| positives.binary_search(&item.item).is_ok());
        (taken, liked.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_window_are_in_it_and_positives_are_not() {
        let ranking: Vec<Ranked> =
            (1..=9).map(|rank| Ranked { rank, item: 10 * rank, score: 1.0 / rank as f32 }).collect();
        let (taken, liked) = Window { top: 9, from: 3, to: 6 }.take(&ranking, &[10, 50]);
        assert_eq!(taken.iter().map(|item| (item.rank, item.item)).collect::<Vec<_>>(), [(3, 30), (4, 40), (6, 60)]);
        assert_eq!(liked, 1);
    }

    #[test]
    fn a_window_is_within_the_top_and_not_empty() {
        assert!(Window::default().validate().is_ok() && Window { top: 1, from: 1, to: 1 }.validate().is_ok());
        for (top, from, to) in [(10, 0, 5), (10, 6, 5), (10, 5, 11), (TOP_MAX + 1, 1, 2)] {
            let message = Window { top, from, to }.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("{from} to {to} of the top {top}")), "{message}");
        }
    }
}
