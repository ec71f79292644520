//! Sampled softmax over a batch, its gradients computed directly, block of rows by block of rows, so that the logits of the
//! whole batch are never held.
//!
//! For user i with positive column i among C candidate columns (Yi et al., RecSys 2019):
//! logit_ij = u_i . v_j / temperature - log_q_j, accidental hits left out; loss_i = weight_i (logsumexp_j logit_ij - logit_ii);
//! loss = sum of loss_i / sum of weight_i.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::exponential::exp_non_positive;

/// Rows of one block; 128 was measured best.
const BLOCK: usize = 128;

/// What the loss is computed from. User i's positive is candidate i.
pub(super) struct LossInput<'a> {
    /// `[batch, dim]`, unit rows.
    pub(super) users: &'a [f32],
    /// `[candidates, dim]`, unit rows, `candidates >= batch`.
    pub(super) items: &'a [f32],
    /// The embeddings' dimension.
    pub(super) dim: usize,
    /// `[batch]`.
    pub(super) weights: &'a [f32],
    /// `[candidates]`: the log of how often a candidate is drawn.
    pub(super) log_q: &'a [f32],
    /// By row, the columns that are accidental hits.
    pub(super) hits: &'a [Vec<u32>],
    pub(super) temperature: f32,
}

/// The loss and its gradients.
pub(super) struct LossOutput {
    pub(super) loss: f32,
    /// `[batch, dim]`.
    pub(super) d_users: Vec<f32>,
    /// `[candidates, dim]`.
    pub(super) d_items: Vec<f32>,
}

struct BlockOutput {
    loss: f64,
    d_users: Vec<f32>,
    d_items: Vec<f32>,
}

/// The loss and its gradients. The same for any number of threads: blocks are summed in their order.
pub(super) fn sampled_softmax(input: &LossInput<'_>) -> Result<LossOutput> {
    let batch = input.weights.len();
    let items = matrix(input.items, input.dim)?;
    let starts: Vec<usize> = (0..batch).step_by(BLOCK).collect();
    let blocks: Result<Vec<BlockOutput>> =
        starts.into_par_iter().map(|start| block(input, &items, start..(start + BLOCK).min(batch))).collect();
    let mut output =
        LossOutput { loss: 0.0, d_users: Vec::with_capacity(input.users.len()), d_items: vec![0.0; input.items.len()] };
    let mut loss = 0.0;
    for block in blocks? {
        loss += block.loss;
        output.d_users.extend(block.d_users);
        output.d_items.iter_mut().zip(block.d_items).for_each(|(sum, d)| *sum += d);
    }
    output.loss = loss as f32;
    Ok(output)
}

fn block(input: &LossInput<'_>, items: &Tensor, rows: std::ops::Range<usize>) -> Result<BlockOutput> {
    let total_weight: f32 = input.weights.iter().sum();
    let users = matrix(&input.users[rows.start * input.dim..rows.end * input.dim], input.dim)?;
    let mut logits = scores(&users, items)?;
    let columns = input.log_q.len();
    let mut loss = 0.0;
    for (row, logits) in rows.clone().zip(logits.chunks_exact_mut(columns)) {
        divide_by_temperature(logits, input.temperature);
        correct_log_q(logits, input.log_q);
        leave_out_accidental_hits(logits, &input.hits[row]);
        let share = input.weights[row] / total_weight;
        loss += f64::from(share) * f64::from(softmax_cross_entropy(logits, row));
        // d loss / d score = d loss / d logit / temperature.
        logits.iter_mut().for_each(|d| *d *= share / input.temperature);
    }
    let d_scores = Tensor::from_vec(logits, (rows.len(), columns), &Device::Cpu)?;
    Ok(BlockOutput { loss, d_users: flat(&d_scores.matmul(items)?)?, d_items: flat(&d_scores.t()?.matmul(&users)?)? })
}

/// `[rows, dim] x [candidates, dim]` to `[rows, candidates]`: inner products.
fn scores(users: &Tensor, items: &Tensor) -> Result<Vec<f32>> {
    flat(&users.matmul(&items.t()?)?)
}

fn divide_by_temperature(scores: &mut [f32], temperature: f32) {
    scores.iter_mut().for_each(|s| *s /= temperature);
}

/// logit -= log_q: what is drawn often is not punished for it.
fn correct_log_q(logits: &mut [f32], log_q: &[f32]) {
    logits.iter_mut().zip(log_q).for_each(|(logit, q)| *logit -= q);
}

fn leave_out_accidental_hits(logits: &mut [f32], hits: &[u32]) {
    hits.iter().for_each(|&column| logits[column as usize] = f32::NEG_INFINITY);
}

/// Returns logsumexp(logits) - logits\[positive\], and leaves its gradient, softmax(logits) - onehot(positive), in `logits`.
fn softmax_cross_entropy(logits: &mut [f32], positive: usize) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let positive_logit = logits[positive];
    logits.iter_mut().for_each(|l| *l = exp_non_positive(*l - max));
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|p| *p /= sum);
    logits[positive] -= 1.0;
    // `max` skips a NaN, the positive's logit does not hide one of its row.
    max + sum.ln() - positive_logit
}

fn matrix(values: &[f32], dim: usize) -> Result<Tensor> {
    Tensor::from_slice(values, (values.len() / dim, dim), &Device::Cpu)
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    struct Case {
        users: Vec<f32>,
        items: Vec<f32>,
        weights: Vec<f32>,
        log_q: Vec<f32>,
        hits: Vec<Vec<u32>>,
    }

    const DIM: usize = 8;

    fn case(batch: usize, candidates: usize) -> Case {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut floats = |n: usize| (0..n).map(|_| rng.random_range(-0.5..0.5)).collect::<Vec<f32>>();
        let (users, items, log_q) = (floats(batch * DIM), floats(candidates * DIM), floats(candidates));
        let weights = floats(batch).into_iter().map(|w| w + 1.0).collect();
        let hits = (0..batch)
            .map(|i| {
                (0..candidates as u32).filter(|&j| j as usize != i && (j * 7 + i as u32).is_multiple_of(11)).collect()
            })
            .collect();
        Case { users, items, weights, log_q, hits }
    }

    impl Case {
        fn input(&self) -> LossInput<'_> {
            let Self { users, items, weights, log_q, hits } = self;
            LossInput { users, items, dim: DIM, weights, log_q, hits, temperature: 0.2 }
        }

        /// The formula of the module's first lines, written plainly in f64.
        fn reference_loss(&self) -> f64 {
            let dot = |i: usize, j: usize| {
                (0..DIM).map(|k| f64::from(self.users[i * DIM + k]) * f64::from(self.items[j * DIM + k])).sum::<f64>()
            };
            let logit = |i: usize, j: usize| dot(i, j) / f64::from(0.2_f32) - f64::from(self.log_q[j]);
            let row = |i: usize| {
                let columns = (0..self.log_q.len()).filter(|&j| !self.hits[i].contains(&(j as u32)));
                columns.map(|j| logit(i, j).exp()).sum::<f64>().ln() - logit(i, i)
            };
            let total: f64 = self.weights.iter().map(|&w| f64::from(w)).sum();
            (0..self.weights.len()).map(|i| f64::from(self.weights[i]) * row(i)).sum::<f64>() / total
        }
    }

    #[test]
    fn the_loss_agrees_with_the_formula_across_blocks() {
        let case = case(BLOCK + 40, BLOCK + 100);
        let found = sampled_softmax(&case.input()).unwrap().loss;
        assert!((f64::from(found) - case.reference_loss()).abs() < 1e-5, "{found} {}", case.reference_loss());
    }

    #[test]
    fn the_gradients_agree_with_finite_differences() {
        let mut case = case(6, 11);
        let output = sampled_softmax(&case.input()).unwrap();
        let step = 1e-3;
        for i in 0..case.users.len() {
            let original = case.users[i];
            let at = |value: f32, case: &mut Case| {
                case.users[i] = value;
                case.reference_loss()
            };
            let difference =
                (at(original + step, &mut case) - at(original - step, &mut case)) / (2.0 * f64::from(step));
            case.users[i] = original;
            assert!(
                (difference - f64::from(output.d_users[i])).abs() < 1e-4,
                "user {i}: {difference} {}",
                output.d_users[i]
            );
        }
        for i in 0..case.items.len() {
            let original = case.items[i];
            let at = |value: f32, case: &mut Case| {
                case.items[i] = value;
                case.reference_loss()
            };
            let difference =
                (at(original + step, &mut case) - at(original - step, &mut case)) / (2.0 * f64::from(step));
            case.items[i] = original;
            assert!(
                (difference - f64::from(output.d_items[i])).abs() < 1e-4,
                "item {i}: {difference} {}",
                output.d_items[i]
            );
        }
    }

    #[test]
    fn a_nan_anywhere_reaches_the_loss() {
        for at in 0..11 {
            let mut case = case(6, 11);
            case.items[at * DIM] = f32::NAN;
            assert!(!sampled_softmax(&case.input()).unwrap().loss.is_finite(), "column {at}");
        }
    }
}
