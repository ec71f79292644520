//! Weights by lag: how far back an item stands. Recency pooling is nothing else, and the mean is its case of equal weights.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::HistoryShape;
use crate::{
    initial::{Initial, WeightSpec},
    ops::causal_softmax,
};

/// A learned number per head and lag, `[heads, max_length]`.
#[derive(Clone, Debug)]
pub(super) struct Lags(Tensor);

impl Lags {
    pub(super) fn spec(shape: &HistoryShape, initial: Initial) -> WeightSpec {
        WeightSpec::new("history.lags", &[shape.heads, shape.max_length], initial)
    }

    pub(super) fn new(weights: &BTreeMap<String, Tensor>) -> Self {
        Self(weights["history.lags"].clone())
    }

    /// `[heads, length, length]`: at \[h, t, j\] the number of the lag t - j. Above the diagonal, where there is no lag, stands that of lag 0.
    pub(super) fn matrix(&self, length: usize) -> Result<Tensor> {
        let heads = self.0.dim(0)?;
        let index = (0..length as u32).flat_map(|t| (0..length as u32).map(move |j| t.saturating_sub(j)));
        let index = Tensor::from_iter(index, &Device::Cpu)?;
        // Lags are rows here, since candle selects rows much faster than columns.
        let by_lag = self.0.t()?.contiguous()?.index_select(&index, 0)?;
        by_lag.t()?.reshape((heads, length, length))
    }
}

/// Learned lag pooling: head h's vector at t is the mean of rows j <= t with weights softmax_j(w_h\[t - j\]); heads stand side by side.
#[derive(Clone, Debug)]
pub(super) struct Recency(Lags);

pub(super) fn weights(shape: &HistoryShape) -> Vec<WeightSpec> {
    vec![Lags::spec(shape, Initial::Decays)]
}

impl Recency {
    pub(super) fn new(weights: &BTreeMap<String, Tensor>) -> Self {
        Self(Lags::new(weights))
    }

    /// `[n, length, dim]` to `[n, length, heads dim]`.
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        weighted_sums(&causal_softmax(&self.0.matrix(rows.dim(1)?)?, 1.0)?, rows)
    }
}

/// The mean of rows 0 to t at each t: `[n, length, dim]` to the same.
pub(super) fn prefix_means(rows: &Tensor) -> Result<Tensor> {
    let length = rows.dim(1)?;
    let means = (0..length).flat_map(|t| (0..length).map(move |j| if j <= t { 1.0 / (t + 1) as f32 } else { 0.0 }));
    weighted_sums(&Tensor::from_iter(means, &Device::Cpu)?.reshape((1, length, length))?, rows)
}

/// sum over j of a\[h, t, j\] rows\[n, j\], for all sequences in one product: `[heads, length, length]` and `[n, length, dim]` to
/// `[n, length, heads dim]`.
fn weighted_sums(a: &Tensor, rows: &Tensor) -> Result<Tensor> {
    let (n, length, dim) = rows.dims3()?;
    let heads = a.dim(0)?;
    let by_position = rows.transpose(0, 1)?.reshape((length, n * dim))?;
    let sums = a.reshape((heads * length, length))?.matmul(&by_position)?;
    sums.reshape((heads, length, n, dim))?.permute((2, 1, 0, 3))?.reshape((n, length, heads * dim))
}
