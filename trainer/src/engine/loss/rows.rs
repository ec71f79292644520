//! The losses of one row, each a small pure function: a positive's score among the scores of negatives in, the loss out, and the
//! derivatives by the scores in the scores' place.
//!
//! Scores are cosines. What is masked (an accidental hit) has the score [`MASKED`], which no loss notices. Sums run in
//! [`LANES`] lanes, which compilers turn into vector instructions where the caller dispatches on the processor's.

use super::exponential::exp_non_positive;
use crate::config::LossKind;

/// The score of what is no negative after all. Finite, so that its product with a probability of zero is zero.
pub(super) const MASKED: f32 = -1e30;
/// Scores below it are masked.
const MASKED_BELOW: f32 = -1e29;
const LANES: usize = 16;

/// One row's scores; `columns` are those of the negatives that all rows share, `private` of those that are its own.
pub(super) struct Row<'a> {
    pub(super) positive: f32,
    pub(super) columns: &'a mut [f32],
    pub(super) private: &'a mut [f32],
    /// What is subtracted from the logits.
    pub(super) log_q: RowLogQ<'a>,
}

/// The logs of how often items are drawn, of the same shapes.
#[derive(Clone, Copy)]
pub(super) struct RowLogQ<'a> {
    pub(super) positive: f32,
    pub(super) columns: &'a [f32],
    pub(super) private: &'a [f32],
}

/// What is left of a row. The derivative of the loss by a negative's score is `scale` times what stands in the score's place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowLoss {
    pub(super) loss: f32,
    pub(super) d_positive: f32,
    pub(super) scale: f32,
    pub(super) d_temperature: f32,
}

/// The numbers of a loss.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowSettings {
    pub(super) kind: LossKind,
    pub(super) temperature: f32,
    pub(super) margin: f32,
    pub(super) negative_weight: f32,
}

impl RowSettings {
    /// The loss of a row, unweighted.
    #[inline(always)]
    pub(super) fn loss(self, row: Row<'_>) -> RowLoss {
        match self.kind {
            LossKind::Softmax => softmax(row, self.temperature),
            LossKind::BinaryCrossEntropy => binary_cross_entropy(row, self),
            LossKind::Bpr => bpr(row, self.temperature),
            LossKind::Margin => margin(row, self.margin),
            LossKind::CosineContrastive => cosine_contrastive(row, self),
        }
    }
}

/// With logits l = score / temperature - log_q: logsumexp(l) - l_positive. Derivatives by scores: (softmax(l) - onehot) / temperature.
#[inline(always)]
fn softmax(row: Row<'_>, temperature: f32) -> RowLoss {
    let rate = 1.0 / temperature;
    let positive = row.positive * rate - row.log_q.positive;
    let max =
        largest(row.columns, row.log_q.columns, rate).max(largest(row.private, row.log_q.private, rate)).max(positive);
    let shared = exponentials(row.columns, row.log_q.columns, rate, max);
    let private = exponentials(row.private, row.log_q.private, rate, max);
    let own = exp_non_positive(positive - max);
    let sum = shared.0 + private.0 + own;
    let expected_score = (shared.1 + private.1 + own * row.positive) / sum;
    RowLoss {
        loss: max + sum.ln() - positive,
        d_positive: (own / sum - 1.0) * rate,
        scale: rate / sum,
        d_temperature: (row.positive - expected_score) * rate * rate,
    }
}

/// The largest logit. A NaN is not seen here, but it reaches the sums.
#[inline(always)]
fn largest(scores: &[f32], log_q: &[f32], rate: f32) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let (q_chunks, q_rest) = log_q.as_chunks::<LANES>();
    for (chunk, q) in chunks.iter().zip(q_chunks) {
        for i in 0..LANES {
            let logit = chunk[i] * rate - q[i];
            lanes[i] = if logit > lanes[i] { logit } else { lanes[i] };
        }
    }
    let tail = rest.iter().zip(q_rest).map(|(s, q)| s * rate - q);
    lanes.into_iter().chain(tail).fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces scores by e^(logit - max); the sum of these, and of their products with the scores.
#[inline(always)]
fn exponentials(scores: &mut [f32], log_q: &[f32], rate: f32, max: f32) -> (f32, f32) {
    let (mut sums, mut products) = ([0.0; LANES], [0.0; LANES]);
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    let (q_chunks, q_rest) = log_q.as_chunks::<LANES>();
    for (chunk, q) in chunks.iter_mut().zip(q_chunks) {
        for i in 0..LANES {
            let score = chunk[i];
            let e = exp_non_positive(score * rate - q[i] - max);
            sums[i] += e;
            products[i] += e * score;
            chunk[i] = e;
        }
    }
    for (i, (score, q)) in rest.iter_mut().zip(q_rest).enumerate() {
        let e = exp_non_positive(*score * rate - q - max);
        sums[i] += e;
        products[i] += e * *score;
        *score = e;
    }
    (sums.iter().sum(), products.iter().sum())
}

/// softplus(-x_positive) + weight * mean softplus(x), x = score / temperature; softplus(x) = ln(1 + e^x).
#[inline(always)]
fn binary_cross_entropy(row: Row<'_>, settings: RowSettings) -> RowLoss {
    let rate = 1.0 / settings.temperature;
    let shared = sigmoids(row.columns, 0.0, rate);
    let private = sigmoids(row.private, 0.0, rate);
    let share = settings.negative_weight / (shared.count + private.count).max(1.0);
    let x = -row.positive * rate;
    RowLoss {
        loss: softplus(x) + share * (shared.loss + private.loss),
        d_positive: -sigmoid(x) * rate,
        scale: share * rate,
        d_temperature: 0.0,
    }
}

/// mean softplus(x), x = (score - positive score) / temperature (Rendle et al., UAI 2009).
#[inline(always)]
fn bpr(row: Row<'_>, temperature: f32) -> RowLoss {
    let rate = 1.0 / temperature;
    let shared = sigmoids(row.columns, row.positive, rate);
    let private = sigmoids(row.private, row.positive, rate);
    let share = 1.0 / (shared.count + private.count).max(1.0);
    RowLoss {
        loss: share * (shared.loss + private.loss),
        d_positive: -share * rate * (shared.derivatives + private.derivatives),
        scale: share * rate,
        d_temperature: 0.0,
    }
}

/// mean max(0, score - positive score + margin) (Huang et al., KDD 2020).
#[inline(always)]
fn margin(row: Row<'_>, margin: f32) -> RowLoss {
    let bound = row.positive - margin;
    let shared = hinges(row.columns, bound);
    let private = hinges(row.private, bound);
    let share = 1.0 / (shared.count + private.count).max(1.0);
    RowLoss {
        loss: share * (shared.loss + private.loss),
        d_positive: -share * (shared.derivatives + private.derivatives),
        scale: share,
        d_temperature: 0.0,
    }
}

/// 1 - positive score + weight * mean max(0, score - margin) (Mao et al., CIKM 2021).
#[inline(always)]
fn cosine_contrastive(row: Row<'_>, settings: RowSettings) -> RowLoss {
    let shared = hinges(row.columns, settings.margin);
    let private = hinges(row.private, settings.margin);
    let share = settings.negative_weight / (shared.count + private.count).max(1.0);
    RowLoss {
        loss: 1.0 - row.positive + share * (shared.loss + private.loss),
        d_positive: -1.0,
        scale: share,
        d_temperature: 0.0,
    }
}

/// Sums over negatives: of losses, of their derivatives, and how many there are.
#[derive(Clone, Copy, Default)]
struct Sums {
    loss: f32,
    derivatives: f32,
    count: f32,
}

/// Replaces scores by sigmoid(x), x = (score - offset) * rate, and sums softplus(x).
#[inline(always)]
fn sigmoids(scores: &mut [f32], offset: f32, rate: f32) -> Sums {
    // The product of some (1 + e^-|x|), each at most 2, before its logarithm is taken.
    const PRODUCTS: usize = 64 * LANES;
    let mut sums = Sums::default();
    for block in scores.chunks_mut(PRODUCTS) {
        let mut lanes = [Sums::default(); LANES];
        let mut products = [1.0_f32; LANES];
        for chunk in block.chunks_mut(LANES) {
            for (i, score) in chunk.iter_mut().enumerate() {
                let x = (*score - offset) * rate;
                let e = exp_non_positive(-x.abs());
                let part = e / (1.0 + e);
                let sigmoid = if x > 0.0 { 1.0 - part } else { part };
                lanes[i].loss += if x > 0.0 { x } else { 0.0 };
                lanes[i].derivatives += sigmoid;
                lanes[i].count += if *score < MASKED_BELOW { 0.0 } else { 1.0 };
                products[i] *= 1.0 + e;
                *score = sigmoid;
            }
        }
        lanes.iter().for_each(|lane| sums.add(*lane));
        sums.loss += products.iter().map(|p| p.ln()).sum::<f32>();
    }
    sums
}

/// Replaces scores by 1 above the bound, else 0, and sums max(0, score - bound).
#[inline(always)]
fn hinges(scores: &mut [f32], bound: f32) -> Sums {
    let mut lanes = [Sums::default(); LANES];
    for chunk in scores.chunks_mut(LANES) {
        for (i, score) in chunk.iter_mut().enumerate() {
            let above = *score - bound;
            // Not `above > 0.0`, which would hide a NaN.
            let derivative = if above <= 0.0 { 0.0 } else { 1.0 };
            lanes[i].loss += derivative * above.max(0.0) + above * 0.0;
            lanes[i].derivatives += derivative;
            lanes[i].count += if *score < MASKED_BELOW { 0.0 } else { 1.0 };
            *score = derivative;
        }
    }
    let mut sums = Sums::default();
    lanes.iter().for_each(|lane| sums.add(*lane));
    sums
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.derivatives += other.derivatives;
        self.count += other.count;
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp_non_positive(-x.abs());
    if x > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

#[inline(always)]
fn softplus(x: f32) -> f32 {
    x.max(0.0) + exp_non_positive(-x.abs()).ln_1p()
}
