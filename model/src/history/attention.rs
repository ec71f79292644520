//! Causal multi-head attention, and the pooling that is nothing else.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::{HistoryShape, lags::Lags};
use crate::{
    dropout::Dropout,
    initial::{IdentityBlock, Initial, WeightSpec},
    ops::{causal_softmax, causal_softmax_biased},
};

/// Queries, keys and values, each `[dim, dim]`; a head has an equal slice of each.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    count: usize,
    query: Tensor,
    key: Tensor,
    value: Tensor,
}

impl Heads {
    /// `{prefix}.query.weight`, `.key.weight` and `.value.weight`.
    pub(super) fn specs(prefix: &str, shape: &HistoryShape, value: Initial) -> Vec<WeightSpec> {
        let dims = [shape.dim, shape.dim];
        let normal = || Initial::Normal((1.0 / shape.dim as f32).sqrt());
        let named = [("query", normal()), ("key", normal()), ("value", value)];
        named.map(|(name, initial)| WeightSpec::new(format!("{prefix}.{name}.weight"), &dims, initial)).into()
    }

    pub(super) fn new(prefix: &str, shape: &HistoryShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let (count, dim) = (shape.heads, shape.dim);
        if count == 0 || !dim.is_multiple_of(count) {
            candle_core::bail!(
                "history: the length of item rows, {dim}, is no multiple of the number of heads, {count}"
            );
        }
        let weight = |name: &str| weights[&format!("{prefix}.{name}.weight")].clone();
        Ok(Self { count, query: weight("query"), key: weight("key"), value: weight("value") })
    }

    /// softmax over j <= t of (q_t k_j / sqrt(dim / heads) + bias\[head, t, j\]), dropped out, times the values: `[n, length, dim]` to
    /// `[n length, dim]`, the heads side by side.
    pub(super) fn forward(&self, x: &Tensor, bias: Option<&Tensor>, dropout: &Dropout) -> Result<Tensor> {
        let (n, length, dim) = x.dims3()?;
        let flat = x.reshape((n * length, dim))?;
        let width = dim / self.count;
        let heads = |weight: &Tensor| {
            let product = flat.matmul(weight)?.reshape((n, length, self.count, width))?;
            product.transpose(1, 2)?.reshape((n * self.count, length, width))
        };
        let scores = heads(&self.query)?.matmul(&heads(&self.key)?.t()?)?;
        let scale = 1.0 / (width as f32).sqrt();
        let shares = match bias {
            Some(bias) => causal_softmax_biased(&scores, bias, scale)?,
            None => causal_softmax(&scores, scale)?,
        };
        let sums = dropout.apply(&shares)?.matmul(&heads(&self.value)?)?;
        sums.reshape((n, self.count, length, width))?.transpose(1, 2)?.reshape((n * length, dim))
    }
}

/// Attention of each item to those before it and itself, with a learned bias by lag.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    heads: Heads,
    lags: Lags,
}

/// Values begin as the identity and small queries and keys as next to no preference, so that a history begins as its mean.
pub(super) fn weights(shape: &HistoryShape) -> Vec<WeightSpec> {
    let identity = IdentityBlock { offset: 0, dim: shape.dim, scale: 1.0 };
    let value = Initial::Identities { deviation: 0.0, blocks: vec![identity] };
    let mut weights = Heads::specs("history", shape, value);
    weights.push(Lags::spec(shape, Initial::Constant(0.0)));
    weights
}

impl Attention {
    pub(super) fn new(shape: &HistoryShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        Ok(Self { heads: Heads::new("history", shape, weights)?, lags: Lags::new(weights) })
    }

    /// `[n, length, dim]` to the same.
    pub(super) fn forward(&self, rows: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let bias = self.lags.matrix(rows.dim(1)?)?;
        self.heads.forward(rows, Some(&bias), dropout)?.reshape(rows.shape())
    }
}
