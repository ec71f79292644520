//! Where negatives come from: how many of each source an example meets, how they are drawn, and how often an item is one.

use pagoda_model::schema::Split;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};
use serde::{Deserialize, Serialize};

use crate::config::NegativesConfig;

/// Where a negative comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The positives of the other examples of the batch.
    InBatch,
    /// The catalog, uniformly.
    Uniform,
    /// The catalog, in proportion to popularity to a power.
    Popularity,
    /// The positives of earlier batches.
    Cache,
    /// Mined ones of the example's user.
    Hard,
    /// Shown to the example's user and not clicked.
    Exposed,
}

impl Source {
    /// Every source; the shared ones first.
    pub const ALL: [Self; 6] = [Self::InBatch, Self::Uniform, Self::Popularity, Self::Cache, Self::Hard, Self::Exposed];
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InBatch => "in_batch",
            Self::Uniform => "uniform",
            Self::Popularity => "popularity",
            Self::Cache => "cache",
            Self::Hard => "hard",
            Self::Exposed => "exposed",
        }
    }

    /// How many of [`Self::ALL`] bring columns that all rows share.
    pub(crate) const SHARED: usize = 4;
}

/// How many negatives an example meets, by source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mixture {
    pub(crate) in_batch: bool,
    pub(crate) uniform: usize,
    pub(crate) popularity: usize,
    pub(crate) cache: usize,
    /// The mean number.
    pub(crate) hard: f64,
    /// The mean number.
    pub(crate) exposed: f64,
    /// By [`Source::ALL`]: the share asked for.
    pub(crate) shares: [f64; 6],
}

impl Mixture {
    /// The numbers that follow from shares, for batches of so many rows.
    pub(crate) fn new(config: &NegativesConfig, rows: usize) -> Self {
        let hard = if config.hard_file.is_empty() { 0.0 } else { config.hard };
        let shares = [config.in_batch, config.uniform, config.popularity, config.cache, hard, config.exposed];
        let sum: f64 = shares.iter().sum();
        let shares = shares.map(|share| share / sum.max(f64::MIN_POSITIVE));
        let total = if shares[0] > 0.0 { rows.saturating_sub(1) as f64 / shares[0] } else { config.count as f64 };
        let count = |at: usize| (shares[at] * total).round() as usize;
        let [uniform, popularity, cache] = [1, 2, 3].map(count);
        let [hard, exposed] = [4, 5].map(|at: usize| shares[at] * total);
        Self { in_batch: shares[0] > 0.0, uniform, popularity, cache, hard, exposed, shares }
    }
}

/// Draws items and knows how often any is drawn.
pub(crate) struct NegativeSampler {
    /// Catalog items that the training log met: what nobody could have chosen yet is no negative.
    eligible: Vec<u32>,
    /// By catalog item: whether it is eligible.
    is_eligible: Vec<bool>,
    /// Over the eligible items; absent where nothing is drawn by popularity.
    by_popularity: Option<WeightedAliasIndex<f32>>,
    /// By catalog item: its share of popularity-powered draws, and of positives.
    popularity: Vec<f32>,
    positives: Vec<f32>,
}

impl NegativeSampler {
    /// Of training positives by catalog item, and of the items that can be drawn.
    pub(crate) fn new(counts: &[u32], eligible: Vec<u32>, config: &NegativesConfig) -> Self {
        let total: f64 = counts.iter().map(|&c| f64::from(c)).sum();
        let positives = counts.iter().map(|&c| (f64::from(c) / total.max(1.0)) as f32).collect();
        let mut is_eligible = vec![false; counts.len()];
        eligible.iter().for_each(|&item| is_eligible[item as usize] = true);
        // An item that was only shown counts as half a positive: it can be drawn, and rarely.
        let power = |item: u32| (f64::from(counts[item as usize]).max(0.5)).powf(config.popularity_power);
        let wanted = config.popularity > 0.0 && !eligible.is_empty();
        let weights: Vec<f64> = if wanted { eligible.iter().map(|&item| power(item)).collect() } else { Vec::new() };
        let sum: f64 = weights.iter().sum();
        let mut popularity = vec![0.0; counts.len()];
        eligible.iter().zip(&weights).for_each(|(&item, weight)| popularity[item as usize] = (weight / sum) as f32);
        let relative = weights.iter().map(|weight| (weight / sum) as f32).collect();
        let by_popularity = wanted.then(|| WeightedAliasIndex::new(relative).ok()).flatten();
        Self { eligible, is_eligible, by_popularity, popularity, positives }
    }

    /// Uniform draws, with repetition.
    pub(crate) fn draw_uniform(&self, count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let count = if self.eligible.is_empty() { 0 } else { count };
        (0..count).map(|_| self.eligible[rng.random_range(0..self.eligible.len())]).collect()
    }

    /// Popularity-powered draws, with repetition.
    pub(crate) fn draw_popular(&self, count: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let Some(index) = &self.by_popularity else { return Vec::new() };
        (0..count).map(|_| self.eligible[index.sample(rng)]).collect()
    }

    /// How many of a row's shared columns are of an item, in expectation. That is the frequency by which the mixture of all shared
    /// sources is corrected (Yi et al., RecSys 2019, for one source).
    pub(crate) fn expected(&self, item: u32, drawn: &Drawn) -> f64 {
        let item = item as usize;
        let of_positives = (drawn.in_batch + drawn.cache) as f64 * f64::from(self.positives[item]);
        let of_popularity = drawn.popularity as f64 * f64::from(self.popularity[item]);
        let uniform = drawn.uniform as f64 / self.eligible.len().max(1) as f64;
        of_positives + of_popularity + if self.is_eligible[item] { uniform } else { 0.0 }
    }
}

/// How many shared columns of each source a row of one batch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// One less than rows, or none.
    pub(crate) in_batch: usize,
    pub(crate) uniform: usize,
    pub(crate) popularity: usize,
    pub(crate) cache: usize,
}

/// A number whose mean is `mean`: its whole part, or one more.
pub(crate) fn draw_count(mean: f64, rng: &mut ChaCha8Rng) -> usize {
    let whole = mean.floor();
    whole as usize + usize::from(rng.random_bool((mean - whole).clamp(0.0, 1.0)))
}

/// Whether the order of a user's rows means something.
pub(crate) const fn is_ordered(split: Split) -> bool {
    matches!(split, Split::Temporal | Split::LeaveLastOut)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::config::TrainConfig;

    fn config(text: &str) -> NegativesConfig {
        TrainConfig::from_toml(&format!("[negatives]\n{text}")).unwrap().negatives
    }

    #[test]
    fn shares_fix_the_numbers_of_all_sources() {
        let mixture =
            Mixture::new(&config("in_batch = 2\nuniform = 1\ncache = 1\nhard_file = \"f\"\nhard = 0.01"), 101);
        assert_eq!((mixture.in_batch, mixture.uniform, mixture.cache, mixture.popularity), (true, 50, 50, 0));
        assert!((mixture.hard - 0.5).abs() < 1e-9);
        let mixture = Mixture::new(&config("in_batch = 0\nuniform = 3\npopularity = 1\ncount = 400"), 101);
        assert_eq!((mixture.in_batch, mixture.uniform, mixture.popularity), (false, 300, 100));
        assert_eq!(mixture.hard, 0.0, "there is no file");
    }

    /// Chi-square of what is drawn against the mixture that is configured, at its 99.9% quantile.
    #[test]
    fn what_is_drawn_has_the_distribution_of_the_mixture() {
        // Item 3 was only met, item 4 not even that.
        let counts = [60, 30, 9, 0, 0];
        let config = config("uniform = 1\npopularity = 1\npopularity_power = 0.5");
        let sampler = NegativeSampler::new(&counts, vec![0, 1, 2, 3], &config);
        let examples: Vec<u32> = (0..5).flat_map(|item| vec![item; counts[item as usize] as usize]).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn = Drawn { in_batch: 7, uniform: 5, popularity: 6, cache: 0 };
        let (mut seen, batches) = ([0_u32; 5], 20_000);
        for _ in 0..batches {
            (0..drawn.in_batch).for_each(|_| seen[examples[rng.random_range(0..examples.len())] as usize] += 1);
            let sampled = [sampler.draw_uniform(5, &mut rng), sampler.draw_popular(6, &mut rng)].concat();
            sampled.into_iter().for_each(|item| seen[item as usize] += 1);
        }
        let expected = |item: usize| f64::from(batches) * sampler.expected(item as u32, &drawn);
        let chi_square: f64 =
            (0..4).map(|item| (f64::from(seen[item]) - expected(item)).powi(2) / expected(item)).sum();
        assert!(chi_square < 16.27, "{chi_square} of {seen:?}");
        assert_eq!((seen[4], sampler.expected(4, &drawn)), (0, 0.0));
        let all: f64 = (0..5).map(|item| sampler.expected(item, &drawn)).sum();
        assert!((all - 18.0).abs() < 1e-3, "{all}");
    }

    #[test]
    fn a_drawn_count_has_its_mean() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let sum: usize = (0..20_000).map(|_| draw_count(1.3, &mut rng)).sum();
        assert!((sum as f64 / 20_000.0 - 1.3).abs() < 0.02);
        assert_eq!((draw_count(0.0, &mut rng), draw_count(2.0, &mut rng)), (0, 2));
    }
}
