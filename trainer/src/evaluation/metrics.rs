//! Metrics from ranks.

use std::collections::BTreeMap;

use super::ranking::Outcome;
use crate::summary::Metrics;

const RECALL_K: [usize; 5] = [10, 20, 50, 100, 500];
const NDCG_K: [usize; 3] = [10, 20, 100];

/// Means over outcomes; empty without any.
pub(super) fn metrics<'a>(outcomes: impl ExactSizeIterator<Item = &'a Outcome> + Clone) -> Metrics {
    let count = outcomes.len();
    if count == 0 {
        return BTreeMap::new();
    }
    let mean = |f: &dyn Fn(&Outcome) -> f64| outcomes.clone().map(f).sum::<f64>() / count as f64;
    let recall = RECALL_K.map(|k| (format!("recall_at_{k}"), mean(&|o| recall_at(&o.ranks, k))));
    let ndcg = NDCG_K.map(|k| (format!("ndcg_at_{k}"), mean(&|o| ndcg_at(&o.ranks, k))));
    recall.into_iter().chain(ndcg).collect()
}

/// The share of the catalog that is in any query's first hundred.
pub(super) fn coverage(outcomes: &[Outcome], catalog: usize) -> f64 {
    let mut covered = vec![false; catalog];
    outcomes.iter().flat_map(|o| &o.top).for_each(|&item| covered[item as usize] = true);
    covered.iter().filter(|&&c| c).count() as f64 / catalog.max(1) as f64
}

/// |relevant in the top k| / |relevant|.
fn recall_at(ranks: &[usize], k: usize) -> f64 {
    ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len() as f64
}

/// Discounted cumulative gain of binary relevance, over that of the best ranking.
fn ndcg_at(ranks: &[usize], k: usize) -> f64 {
    let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
    // The sum of nothing is -0.
    let found = 0.0 + ranks.iter().filter(|&&rank| rank < k).map(|&rank| gain(rank)).sum::<f64>();
    found / (0..ranks.len().min(k)).map(gain).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_agree_with_hand_computed_values() {
        let outcomes = [Outcome { ranks: vec![0, 30], top: vec![1, 2] }, Outcome { ranks: vec![1000], top: vec![2] }];
        let found = metrics(outcomes.iter());
        assert!((found["recall_at_20"] - 0.25).abs() < 1e-12);
        assert!((found["recall_at_50"] - 0.5).abs() < 1e-12);
        let ndcg = 1.0 / (1.0 + 1.0 / 3f64.log2()) / 2.0;
        assert!((found["ndcg_at_20"] - ndcg).abs() < 1e-12);
        assert!((coverage(&outcomes, 4) - 0.5).abs() < 1e-12);
        assert!(metrics([].iter()).is_empty());
    }
}
