//! [`TowerShape`]: which weights a tower has, of which shapes, and how they begin.

use super::Activation;
use crate::initial::{IdentityBlock, Initial, WeightSpec};

/// The standard deviation of the output's bias: an embedding of nothing must have a direction.
const OUTPUT_BIAS_DEVIATION: f32 = 0.05;

/// One feature's numbers in the tower's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureSlot {
    /// How many there are.
    pub dim: usize,
    /// How many vectors of the space of item or user ids they are, one behind another; 0: none.
    pub id_vectors: usize,
}

/// The shape of one tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerShape {
    /// The input's features, in their order.
    pub features: Vec<FeatureSlot>,
    /// The widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Whether an output layer stands beside the skip. It does where there are hidden layers; without them only in bundles of format 1.
    pub perceptron: bool,
    /// The width of the output.
    pub embedding_dim: usize,
    /// What follows each hidden layer.
    pub activation: Activation,
    /// Whether a hidden layer that is as wide as the hidden layer before adds its input to its output.
    pub residual: bool,
    /// How many cross layers there are.
    pub cross_layers: usize,
    /// Whether features are scaled by a learned gate.
    pub feature_gate: bool,
    /// Into how many equal slices the output is cut, each normalised by itself; at least 1.
    pub objectives: usize,
}

impl TowerShape {
    /// The width of the input.
    pub fn input_dim(&self) -> usize {
        self.features.iter().map(|f| f.dim).sum()
    }

    /// Every weight, in this order:
    ///
    /// - gate: `gate0.weight` `[features, reduced]`, `gate0.bias`, `gate1.weight` `[reduced, features]`, `gate1.bias`, where reduced is a
    ///   third of the features, at least 1;
    /// - cross layers: `cross{n}.weight` `[input_dim, input_dim]`, `cross{n}.bias`;
    /// - perceptron: `layer{n}.weight` `[in, out]`, `layer{n}.bias` `[out]`, the last one the output's; without hidden layers `bias`
    ///   `[embedding_dim]` alone;
    /// - `skip` `[input_dim, embedding_dim]`: it begins as the identity on the rows of ids and histories, so that a user begins as the mean
    ///   of the items of the history; the output layer begins small, so that the skip leads.
    pub fn weights(&self) -> Vec<WeightSpec> {
        let mut weights = Vec::new();
        if self.feature_gate {
            weights.extend(self.gate());
        }
        weights.extend((0..self.cross_layers).flat_map(|n| self.cross(n)));
        weights.extend(self.layers());
        weights.push(self.skip());
        weights
    }

    fn gate(&self) -> [WeightSpec; 4] {
        let features = self.features.len();
        let reduced = (features / 3).max(1);
        [
            WeightSpec::new("gate0.weight", &[features, reduced], normal(2.0, features)),
            WeightSpec::new("gate0.bias", &[reduced], Initial::Constant(0.0)),
            // Small, so that every gate begins near 1.
            WeightSpec::new("gate1.weight", &[reduced, features], Initial::Normal(0.01)),
            WeightSpec::new("gate1.bias", &[features], Initial::Constant(0.0)),
        ]
    }

    fn cross(&self, n: usize) -> [WeightSpec; 2] {
        let width = self.input_dim();
        [
            WeightSpec::new(format!("cross{n}.weight"), &[width, width], normal(1.0, width)),
            WeightSpec::new(format!("cross{n}.bias"), &[width], Initial::Constant(0.0)),
        ]
    }

    fn layers(&self) -> Vec<WeightSpec> {
        let bias = |name: String| WeightSpec::new(name, &[self.embedding_dim], Initial::Normal(OUTPUT_BIAS_DEVIATION));
        if !self.perceptron {
            return vec![bias("bias".into())];
        }
        let mut weights = Vec::new();
        let mut width = self.input_dim();
        for (n, &next) in self.hidden.iter().enumerate() {
            weights.push(WeightSpec::new(format!("layer{n}.weight"), &[width, next], normal(2.0, width)));
            weights.push(WeightSpec::new(format!("layer{n}.bias"), &[next], Initial::Constant(0.0)));
            width = next;
        }
        let output = format!("layer{}", self.hidden.len());
        weights.push(WeightSpec::new(format!("{output}.weight"), &[width, self.embedding_dim], normal(0.01, width)));
        weights.push(bias(format!("{output}.bias")));
        weights
    }

    fn skip(&self) -> WeightSpec {
        let width = self.input_dim();
        let mut blocks = Vec::new();
        let mut offset = 0;
        for feature in &self.features {
            let dim = feature.dim / feature.id_vectors.max(1);
            let scale = 1.0 / feature.id_vectors as f32;
            blocks.extend((0..feature.id_vectors).map(|n| IdentityBlock { offset: offset + n * dim, dim, scale }));
            offset += feature.dim;
        }
        let deviation = 1.0 / (width as f32).sqrt();
        WeightSpec::new("skip", &[width, self.embedding_dim], Initial::Identities { deviation, blocks })
    }
}

/// The standard deviation sqrt(gain / inputs).
fn normal(gain: f32, inputs: usize) -> Initial {
    Initial::Normal((gain / inputs as f32).sqrt())
}
