//! [`HistoryEncoder`]: a sequence of item rows to one vector at each of its positions, each from that position and those before it.
//!
//! Training reads the vectors of all positions, serving that of the last. Sequences are left-aligned and padded at their end, so that
//! causality is all the masking there is: a padded position is never seen by a valid one, and nothing reads its own vector. An
//! empty history has no position; its vector is `history.empty`, which is learned (zeros under the mean, which has no weights).

mod attention;
mod lags;
#[cfg(test)]
mod tests;
mod transformer;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use self::{attention::Attention, lags::Recency, transformer::Transformer};
use crate::{
    dropout::Dropout,
    initial::{Initial, WeightSpec},
    tower::checked,
    two_tower::HistoryPooling,
};

/// The standard deviation of rows of positions, and of the vector of an empty history.
const POSITION_DEVIATION: f32 = 0.02;

/// The shape of a history encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryShape {
    /// How a history becomes one vector.
    pub pooling: HistoryPooling,
    /// Heads of all but the mean; they divide `dim` under attention and transformer.
    pub heads: usize,
    /// Blocks of the transformer.
    pub blocks: usize,
    /// The width of the transformer's feed-forward layers.
    pub feed_forward: usize,
    /// How long an item's row is.
    pub dim: usize,
    /// The most positions.
    pub max_length: usize,
}

impl HistoryShape {
    /// How long the vector of a history is: `heads` rows under recency, one row otherwise.
    pub fn dim_out(&self) -> usize {
        self.dim * self.vectors()
    }

    /// How many vectors of the space of item rows a history's vector is, one behind another.
    pub fn vectors(&self) -> usize {
        if self.pooling == HistoryPooling::Recency { self.heads } else { 1 }
    }

    /// Every weight: none under the mean, otherwise `history.empty` `[dim_out]` and, by pooling,
    ///
    /// - recency: `history.lags` `[heads, max_length]`;
    /// - attention: `history.query.weight`, `.key.weight`, `.value.weight` `[dim, dim]`, `history.lags` `[heads, max_length]`;
    /// - transformer: `history.positions` `[max_length, dim]`, `history.block{n}.*`, `history.norm.gain` and `.bias` `[dim]`, where a block
    ///   has `attention_norm.gain`, `.bias`, `query.weight`, `key.weight`, `value.weight`, `output.weight`, `output.bias`,
    ///   `feed_forward_norm.gain`, `.bias`, `feed_forward0.weight` `[dim, feed_forward]`, `.bias`, `feed_forward1.weight`, `.bias`.
    pub fn weights(&self) -> Vec<WeightSpec> {
        let rest = match self.pooling {
            HistoryPooling::Mean => return Vec::new(),
            HistoryPooling::Recency => lags::weights(self),
            HistoryPooling::Attention => attention::weights(self),
            HistoryPooling::Transformer => transformer::weights(self),
        };
        let empty = WeightSpec::new("history.empty", &[self.dim_out()], Initial::Normal(POSITION_DEVIATION));
        [empty].into_iter().chain(rest).collect()
    }
}

/// Item rows on their way into a history encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequences {
    /// `[n, length, dim]`: each sequence from its oldest item on, zeros behind its newest.
    pub rows: Vec<f32>,
    /// How many positions each sequence has.
    pub lengths: Vec<usize>,
    /// The longest, at least 1.
    pub length: usize,
    /// How long a row is.
    pub dim: usize,
}

impl Sequences {
    /// `[n, length, dim]`.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.lengths.len(), self.length, self.dim)
    }

    /// The last position of each sequence, for [`HistoryEncoder::select`].
    pub fn last_positions(&self) -> Vec<Option<u32>> {
        let positions = self.lengths.iter().enumerate();
        positions.map(|(i, &n)| n.checked_sub(1).map(|last| (i * self.length + last) as u32)).collect()
    }
}

/// A history encoder's weights.
#[derive(Clone, Debug)]
pub struct HistoryEncoder {
    shape: HistoryShape,
    pooling: Pooling,
    empty: Tensor,
    weights: BTreeMap<String, Tensor>,
}

#[derive(Clone, Debug)]
enum Pooling {
    Mean,
    Recency(Recency),
    Attention(Attention),
    Transformer(Transformer),
}

impl HistoryEncoder {
    /// Takes the weights by the names of [`HistoryShape::weights`]; a missing one or a wrong shape is an error.
    pub fn new(shape: &HistoryShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let weights = checked(&shape.weights(), weights)?;
        let pooling = match shape.pooling {
            HistoryPooling::Mean => Pooling::Mean,
            HistoryPooling::Recency => Pooling::Recency(Recency::new(&weights)),
            HistoryPooling::Attention => Pooling::Attention(Attention::new(shape, &weights)?),
            HistoryPooling::Transformer => Pooling::Transformer(Transformer::new(shape, &weights)?),
        };
        let empty = match weights.get("history.empty") {
            Some(empty) => empty.clone(),
            None => Tensor::zeros(shape.dim_out(), DType::F32, &Device::Cpu)?,
        };
        Ok(Self { shape: shape.clone(), pooling, empty, weights })
    }

    /// Its shape.
    pub fn shape(&self) -> &HistoryShape {
        &self.shape
    }

    /// The weights by the names of [`HistoryShape::weights`].
    pub fn weights(&self) -> BTreeMap<String, Tensor> {
        self.weights.clone()
    }

    /// `[n, length, dim]` to `[n, length, dim_out]`; the vector at position t depends on rows 0 to t alone.
    pub fn encode_positions(&self, rows: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let (_, length, dim) = rows.dims3()?;
        if length == 0 || length > self.shape.max_length || dim != self.shape.dim {
            let HistoryShape { dim: expected, max_length, .. } = self.shape;
            candle_core::bail!("histories: expected [n, 1 to {max_length}, {expected}], found {:?}", rows.dims());
        }
        match &self.pooling {
            Pooling::Mean => lags::prefix_means(rows),
            Pooling::Recency(recency) => recency.forward(rows),
            Pooling::Attention(attention) => attention.forward(rows, dropout),
            Pooling::Transformer(transformer) => transformer.forward(rows, dropout),
        }
    }

    /// Rows of `[n, length, dim_out]`, by their position in `[n length, dim_out]`; without a position, the vector of the empty
    /// history. `[positions, dim_out]`.
    pub fn select(&self, encoded: &Tensor, positions: &[Option<u32>]) -> Result<Tensor> {
        let (n, length, dim) = encoded.dims3()?;
        let count = n * length;
        let mut flat = encoded.reshape((count, dim))?;
        if positions.contains(&None) {
            flat = Tensor::cat(&[&flat, &self.empty.unsqueeze(0)?], 0)?;
        }
        let positions: Vec<u32> = positions.iter().map(|p| p.unwrap_or(count as u32)).collect();
        flat.index_select(&Tensor::new(positions, &Device::Cpu)?, 0)
    }

    /// The vector of each whole sequence, as serving needs it: `[n, dim_out]`.
    pub fn encode(&self, sequences: &Sequences, dropout: &Dropout) -> Result<Tensor> {
        let rows = Tensor::from_slice(&sequences.rows, sequences.shape(), &Device::Cpu)?;
        self.select(&self.encode_positions(&rows, dropout)?, &sequences.last_positions())
    }
}
