//! One query's outcome from the scores of the whole catalog.

use super::protocol::Query;
use crate::top::Top;

/// How deep coverage looks.
pub(super) const COVERAGE_K: usize = 100;

/// Where the relevant items came, and what came first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Ranks from 0 of the relevant items, in their order.
    pub(super) ranks: Vec<usize>,
    /// The first items: at most [`COVERAGE_K`].
    pub(super) top: Vec<u32>,
}

/// Ranks the catalog by descending score, ties by the smaller place (which is the smaller id), seen items removed.
pub(super) fn rank(scores: &mut [f32], query: &Query) -> Outcome {
    query.seen.iter().for_each(|&item| scores[item as usize] = f32::NEG_INFINITY);
    let ranks = query.relevant.iter().map(|&item| rank_of(scores, item as usize)).collect();
    Outcome { ranks, top: top(scores, COVERAGE_K) }
}

fn rank_of(scores: &[f32], item: usize) -> usize {
    let score = scores[item];
    let above = scores.iter().filter(|&&s| s > score).count();
    above + scores[..item].iter().filter(|&&s| s == score).count()
}

/// The places of the k best scores above minus infinity.
fn top(scores: &[f32], k: usize) -> Vec<u32> {
    Top::of_scores(scores, k).finish().into_iter().map(|ranked| ranked.item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(seen: &[u32], relevant: &[u32]) -> Query {
        Query { relevant: relevant.to_vec(), ..Query::of_user(0, seen) }
    }

    #[test]
    fn seen_items_are_removed_and_ties_go_to_the_smaller_place() {
        let mut scores = [0.5, 0.9, 0.5, 0.1, 0.5];
        let outcome = rank(&mut scores, &query(&[1], &[3, 4]));
        assert_eq!(outcome.ranks, [3, 2], "in the order of the relevant items");
        assert!(!outcome.top.contains(&1));
    }

    #[test]
    fn the_top_agrees_with_sorting() {
        let scores: Vec<f32> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32).collect();
        let mut sorted: Vec<u32> = (0..5000).collect();
        sorted.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then_with(|| a.cmp(&b)));
        sorted.truncate(100);
        assert_eq!(top(&scores, 100), sorted);
        assert_eq!(top(&[f32::NEG_INFINITY, 1.0], 100), [1]);
    }
}
