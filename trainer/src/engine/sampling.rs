//! Which negatives a batch meets, and how often: uniform ones beside the batch's own positives.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Draws uniform negatives and knows the log of how often any item is a candidate of a batch.
pub(super) struct NegativeSampler {
    /// Catalog items that the training log met: what nobody could have chosen yet is no negative.
    eligible: Vec<u32>,
    /// By catalog item.
    log_q: Vec<f32>,
    uniform: usize,
}

impl NegativeSampler {
    /// Of training positives by catalog item and eligible items. For the mixture of both sources (Yi et al., RecSys 2019, extended
    /// to a mixture): q(item) = (batch - 1) count(item) / positives + uniform / eligible, the expected number of its columns.
    pub(super) fn new(counts: &[u32], eligible: Vec<u32>, batch: usize, uniform: usize) -> Self {
        let positives: f64 = counts.iter().map(|&c| f64::from(c)).sum();
        let mut is_eligible = vec![false; counts.len()];
        eligible.iter().for_each(|&item| is_eligible[item as usize] = true);
        let of_uniform = uniform as f64 / eligible.len().max(1) as f64;
        let log_q = counts.iter().zip(is_eligible).map(|(&count, eligible)| {
            let in_batch = (batch as f64 - 1.0) * f64::from(count) / positives.max(1.0);
            let expected = in_batch + if eligible { of_uniform } else { 0.0 };
            expected.max(1e-12).ln() as f32
        });
        Self { log_q: log_q.collect(), uniform, eligible }
    }

    /// The uniform negatives of one batch, with repetition.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<u32> {
        if self.eligible.is_empty() {
            return Vec::new();
        }
        (0..self.uniform).map(|_| self.eligible[rng.random_range(0..self.eligible.len())]).collect()
    }

    /// The log of the expected number of columns of an item.
    pub(super) fn log_q(&self, item: u32) -> f32 {
        self.log_q[item as usize]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn log_q_is_the_log_of_how_often_an_item_really_is_a_candidate() {
        // Positives: item 0 six times, 1 three times, 2 once; item 3 only met. Batches of 3 examples, 4 uniform negatives.
        let counts = [6, 3, 1, 0];
        let sampler = NegativeSampler::new(&counts, vec![0, 1, 2, 3], 3, 4);
        let examples: Vec<u32> = (0..4).flat_map(|item| vec![item; counts[item as usize] as usize]).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0_u32; 4];
        let batches = 40_000;
        for _ in 0..batches {
            // The other two examples of the batch, then the uniform ones.
            (0..2).for_each(|_| seen[examples[rng.random_range(0..examples.len())] as usize] += 1);
            sampler.draw(&mut rng).iter().for_each(|&item| seen[item as usize] += 1);
        }
        for (item, seen) in (0..).zip(seen) {
            let (found, expected) = (f64::from(seen) / f64::from(batches), f64::from(sampler.log_q(item)).exp());
            assert!((found / expected - 1.0).abs() < 0.02, "item {item}: {found} {expected}");
        }
    }
}
