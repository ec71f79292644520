//! [`TwoTower`]: encoder, tables and both towers together; what the trainer trains and a bundle holds.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    Side,
    features::{EncodedBatch, Encoder},
    tables::{DIM_LIMIT, FeatureDims, Layout, Table, gather_one},
    tower::{Activation, Tower, TowerShape},
};

/// The sizes of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The dimension of embeddings.
    pub embedding_dim: usize,
    /// The widths of the hidden layers of both towers.
    pub hidden: Vec<usize>,
    /// What follows each hidden layer.
    pub activation: Activation,
    /// Whether a hidden layer that is as wide as the one before adds its input to its output.
    #[serde(default)]
    pub residual: bool,
    /// How many DCN-v2 cross layers stand before the hidden layers.
    #[serde(default)]
    pub cross_layers: usize,
    /// Whether features are scaled by a learned gate (SENet).
    #[serde(default)]
    pub feature_gate: bool,
    /// How a history becomes one vector.
    #[serde(default)]
    pub history: HistoryArchitecture,
    /// The names of the objectives, each of which has `embedding_dim / objectives` of the embedding; none: one without a name.
    #[serde(default)]
    pub objectives: Vec<String>,
    /// The dimensions of features.
    pub dims: FeatureDims,
}

/// How a history becomes one vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryArchitecture {
    /// The way.
    pub pooling: HistoryPooling,
    /// Heads of all but the mean.
    pub heads: usize,
    /// Blocks of the transformer.
    pub blocks: usize,
    /// The width of the transformer's feed-forward layers.
    pub feed_forward: usize,
}

/// The ways in which a history becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryPooling {
    /// The mean of the rows.
    #[default]
    Mean,
    /// By head, a mean with learned weights by lag.
    Recency,
    /// Causal attention of the newest item to all.
    Attention,
    /// A causal transformer (Kang and McAuley, SASRec, ICDM 2018).
    Transformer,
}

impl Default for HistoryArchitecture {
    fn default() -> Self {
        Self { pooling: HistoryPooling::Mean, heads: 2, blocks: 1, feed_forward: 256 }
    }
}

impl Architecture {
    /// Every fault, each naming its key.
    pub fn faults(&self) -> Vec<String> {
        let dims = &self.dims;
        let named = [
            ("embedding_dim", self.embedding_dim),
            ("dims.id", dims.id),
            ("dims.categorical", dims.categorical),
            ("dims.categorical_list", dims.categorical_list),
            ("dims.bucket", dims.bucket),
            ("dims.text", dims.text),
        ];
        let sizes = named.into_iter().map(|(key, size)| (key.to_owned(), size));
        let hidden = self.hidden.iter().enumerate().map(|(n, &size)| (format!("hidden[{n}]"), size));
        let features = dims.features.iter().map(|(name, &size)| (format!("dims.features.\"{name}\""), size));
        let too_deep =
            (self.hidden.len() > 16).then(|| format!("hidden: at most 16 layers, found {}", self.hidden.len()));
        let out_of_range = sizes.chain(hidden).chain(features).filter(|(_, size)| !(1..=DIM_LIMIT).contains(size));
        out_of_range
            .map(|(key, size)| format!("{key}: is between 1 and {DIM_LIMIT}, found {size}"))
            .chain(too_deep)
            .collect()
    }

    /// The shape of the tower of an input of this width.
    pub fn tower(&self, input_dim: usize) -> TowerShape {
        let Self { embedding_dim, ref hidden, activation, .. } = *self;
        TowerShape { input_dim, hidden: hidden.clone(), embedding_dim, activation }
    }
}

/// A whole model. Its parts are public to be trained; a [`crate::bundle::ModelBundle`] is the immutable form.
#[derive(Clone, Debug)]
pub struct TwoTower {
    /// Features to rows.
    pub encoder: Encoder,
    /// Which tables there are and where their rows go.
    pub layout: Layout,
    /// The tables of the layout, in its order.
    pub tables: Vec<Table>,
    /// The user tower and the item tower, by [`Side::index`].
    pub towers: [Tower; 2],
}

impl TwoTower {
    /// The input matrix of a batch: `[batch, input_dim]`.
    pub fn gather(&self, side: Side, batch: &EncodedBatch) -> Vec<f32> {
        self.gather_rows(side, batch, 0..batch.len())
    }

    /// Rows `range` of the input matrix of a batch: `[range.len(), input_dim]`.
    pub fn gather_rows(&self, side: Side, batch: &EncodedBatch, range: Range<usize>) -> Vec<f32> {
        let width = self.layout.input_dim(side);
        let mut rows = vec![0.0; range.len() * width];
        for (input, column) in self.layout.inputs(side).iter().zip(batch.columns()) {
            for (i, row) in range.clone().zip(rows.chunks_exact_mut(width.max(1))) {
                gather_one(&self.tables, input, column, i, &mut row[input.range()]);
            }
        }
        rows
    }

    /// The tower's output for a batch: `[batch, embedding_dim]`, rows of norm 1.
    pub fn forward(&self, side: Side, batch: &EncodedBatch) -> Result<Tensor> {
        let shape = (batch.len(), self.layout.input_dim(side));
        let input = Tensor::from_vec(self.gather(side, batch), shape, &Device::Cpu)?;
        self.towers[side.index()].forward(&input)
    }
}
