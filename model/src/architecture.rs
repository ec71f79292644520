//! [`Architecture`]: the sizes of a model, and what follows from them and a layout.

use serde::{Deserialize, Serialize};

use crate::{
    Schema, Side,
    history::HistoryShape,
    initial::WeightSpec,
    schema::FeatureKind,
    tables::{DIM_LIMIT, FeatureDims, Layout},
    tower::{Activation, TowerShape},
};

/// The most layers of a kind.
const LAYERS_LIMIT: usize = 16;
/// The longest history that an encoder other than the mean is made for.
const ENCODED_LENGTH_LIMIT: usize = 1024;

/// The sizes of a model. What has its default is left out of files, so that a model of the first release reads and writes as it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The dimension of embeddings.
    pub embedding_dim: usize,
    /// The widths of the hidden layers of both towers; none: the skip alone.
    pub hidden: Vec<usize>,
    /// What follows each hidden layer.
    pub activation: Activation,
    /// Whether a hidden layer that is as wide as the hidden layer before adds its input to its output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub residual: bool,
    /// How many DCN-v2 cross layers stand before the hidden layers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cross_layers: usize,
    /// Whether features are scaled by a learned gate (SENet).
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_gate: bool,
    /// How a history becomes one vector.
    #[serde(default, skip_serializing_if = "is_default")]
    pub history: HistoryArchitecture,
    /// The names of the objectives, each of which has `embedding_dim / objectives` of the embedding; none: one without a name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objectives: Vec<String>,
    /// What each objective weighs where a request does not say; none: all alike.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objective_weights: Vec<f32>,
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
        let sizes = self.sizes().into_iter();
        sizes
            .filter(|(_, size, low, high)| !(low..=high).contains(&size))
            .map(|(key, size, low, high)| format!("{key}: is between {low} and {high}, found {size}"))
            .chain(self.objective_faults())
            .collect()
    }

    /// Every size with its key, its least and its most.
    fn sizes(&self) -> Vec<(String, usize, usize, usize)> {
        let (dims, history) = (&self.dims, &self.history);
        let widths = [
            ("embedding_dim", self.embedding_dim),
            ("dims.id", dims.id),
            ("dims.categorical", dims.categorical),
            ("dims.categorical_list", dims.categorical_list),
            ("dims.bucket", dims.bucket),
            ("dims.text", dims.text),
            ("history.feed_forward", history.feed_forward),
        ];
        let widths = widths.into_iter().map(|(key, size)| (key.to_owned(), size));
        let hidden = self.hidden.iter().enumerate().map(|(n, &size)| (format!("hidden[{n}]"), size));
        let features = dims.features.iter().map(|(name, &size)| (format!("dims.features.\"{name}\""), size));
        let widths = widths.chain(hidden).chain(features).map(|(key, size)| (key, size, 1, DIM_LIMIT));
        let counts = [
            ("layers of hidden", self.hidden.len(), 0, LAYERS_LIMIT),
            ("cross_layers", self.cross_layers, 0, LAYERS_LIMIT),
            ("history.heads", history.heads, 1, 64),
            ("history.blocks", history.blocks, 1, LAYERS_LIMIT),
        ];
        widths.chain(counts.map(|(key, size, low, high)| (key.to_owned(), size, low, high))).collect()
    }

    fn objective_faults(&self) -> Vec<String> {
        let (names, weights) = (&self.objectives, &self.objective_weights);
        let mut faults = Vec::new();
        if !self.embedding_dim.is_multiple_of(names.len().max(1)) {
            let (dim, count) = (self.embedding_dim, names.len());
            faults.push(format!("embedding_dim: is a multiple of the number of objectives, {count}, found {dim}"));
        }
        for (n, name) in names.iter().enumerate() {
            if name.is_empty() || name.len() > 128 || names[..n].contains(name) {
                faults.push(format!("objectives[{n}]: a name has 1 to 128 bytes and is used once, found `{name}`"));
            }
        }
        if !weights.is_empty() && weights.len() != names.len() {
            faults.push(format!(
                "objective_weights: one for each of {} objectives, found {}",
                names.len(),
                weights.len()
            ));
        }
        for (n, weight) in weights.iter().enumerate() {
            if !(1e-6..=1e6).contains(weight) {
                faults.push(format!("objective_weights[{n}]: is between 1e-6 and 1e6, found {weight}"));
            }
        }
        faults
    }

    /// What is wrong with it for a schema, each fault naming its key.
    pub fn schema_faults(&self, schema: &Schema) -> Vec<String> {
        let HistoryArchitecture { pooling, heads, .. } = self.history;
        let Some((name, max_length)) = schema.history().filter(|_| pooling != HistoryPooling::Mean) else {
            return Vec::new();
        };
        let mut faults = Vec::new();
        if max_length > ENCODED_LENGTH_LIMIT {
            faults.push(format!(
                "user.feature `{name}`: max_length is at most {ENCODED_LENGTH_LIMIT} under a history.pooling other than \"mean\", found {max_length}"
            ));
        }
        let dim = self.item_dim(schema, name);
        match pooling {
            HistoryPooling::Attention | HistoryPooling::Transformer if !dim.is_multiple_of(heads.max(1)) => {
                faults.push(format!("history.heads: divides the length of the items' rows, {dim}, found {heads}"));
            }
            HistoryPooling::Recency if dim * heads > DIM_LIMIT => {
                let found = dim * heads;
                faults.push(format!("history.heads: as many rows have at most {DIM_LIMIT} numbers, found {found}"));
            }
            _ => {}
        }
        faults
    }

    /// How long the rows of histories are.
    fn item_dim(&self, schema: &Schema, history: &str) -> usize {
        let id = schema.item.features.iter().find(|f| matches!(f.kind, FeatureKind::Id { .. }));
        match id {
            Some(id) => self.dims.of(Side::Item, &id.name, self.dims.id),
            None => self.dims.of(Side::User, history, self.dims.id),
        }
    }

    /// The shape of a side's tower.
    pub fn tower(&self, layout: &Layout, side: Side) -> TowerShape {
        TowerShape {
            features: layout.slots(side),
            hidden: self.hidden.clone(),
            perceptron: !self.hidden.is_empty(),
            embedding_dim: self.embedding_dim,
            activation: self.activation,
            residual: self.residual,
            cross_layers: self.cross_layers,
            feature_gate: self.feature_gate,
            objectives: self.objectives.len().max(1),
        }
    }

    /// The shape of a side's tower that was stored: before format 2 there was an output layer without hidden ones as well.
    pub(crate) fn stored_tower(&self, layout: &Layout, side: Side, has: impl Fn(&str) -> bool) -> TowerShape {
        let shape = self.tower(layout, side);
        TowerShape { perceptron: shape.perceptron || has("layer0.weight"), ..shape }
    }

    /// The shape of the encoder of histories of rows of this length.
    pub(crate) fn history_shape(&self, dim: usize, max_length: usize) -> HistoryShape {
        let HistoryArchitecture { pooling, heads, blocks, feed_forward } = self.history;
        HistoryShape { pooling, heads, blocks, feed_forward, dim, max_length }
    }

    /// Every weight of a side, those of the history encoder among the user's.
    pub fn weights(&self, layout: &Layout, side: Side) -> Vec<WeightSpec> {
        self.stored_weights(layout, side, |_| false)
    }

    /// The same of weights that were stored, see [`Self::stored_tower`].
    pub(crate) fn stored_weights(&self, layout: &Layout, side: Side, has: impl Fn(&str) -> bool) -> Vec<WeightSpec> {
        let mut weights = self.stored_tower(layout, side, has).weights();
        if let (Side::User, Some(history)) = (side, layout.history()) {
            weights.extend(history.shape.weights());
        }
        weights
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
