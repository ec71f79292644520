//! One tower: a feature gate, cross layers, a multi-layer perceptron with a linear skip, then L2 normalisation.
//!
//! c = cross(gate(x)), y = MLP(c) + c S, embedding = y / sqrt(|y|^2 + 1e-12). Each part but the skip may be absent; without hidden
//! layers y = c S + b. The skip S lets an id row reach the embedding without passing the hidden layers, which learn ids slowly; it
//! begins as the identity on the rows of ids and histories ([`TowerShape::weights`]). Of several objectives, each has an equal slice of
//! y that is normalised by itself and scaled by 1 / sqrt(objectives), so that the whole has norm 1.

mod cross;
mod gate;
mod shape;

use std::collections::BTreeMap;

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

pub use self::shape::{FeatureSlot, TowerShape};
use self::{cross::Cross, gate::Gate};
use crate::{
    dropout::Dropout,
    initial::WeightSpec,
    ops::{add_bias, bias_relu},
};

const NORM_EPSILON: f64 = 1e-12;

/// What follows each hidden layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x Phi(x), by its tanh approximation.
    Gelu,
}

/// One tower's weights.
#[derive(Clone, Debug)]
pub struct Tower {
    gate: Option<Gate>,
    cross: Vec<Cross>,
    /// The hidden layers.
    hidden: Vec<(Tensor, Tensor)>,
    /// The output layer; its bias alone where there are no hidden layers.
    output: (Option<Tensor>, Tensor),
    skip: Tensor,
    activation: Activation,
    residual: bool,
    objectives: usize,
    weights: BTreeMap<String, Tensor>,
}

impl Tower {
    /// Takes the weights by the names of [`TowerShape::weights`]; a missing one or a wrong shape is an error.
    pub fn new(shape: &TowerShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let specs = shape.weights();
        let weights = checked(&specs, weights)?;
        let layer =
            |n: usize| (weights[&format!("layer{n}.weight")].clone(), weights[&format!("layer{n}.bias")].clone());
        let output = if shape.perceptron {
            let (weight, bias) = layer(shape.hidden.len());
            (Some(weight), bias)
        } else {
            (None, weights["bias"].clone())
        };
        Ok(Self {
            gate: shape.feature_gate.then(|| Gate::new(&shape.features, &weights)).transpose()?,
            cross: (0..shape.cross_layers).map(|n| Cross::new(n, &weights)).collect(),
            hidden: (0..shape.hidden.len()).map(layer).collect(),
            output,
            skip: weights["skip"].clone(),
            activation: shape.activation,
            residual: shape.residual,
            objectives: shape.objectives.max(1),
            weights,
        })
    }

    /// `[batch, input_dim]` to `[batch, embedding_dim]`, each row of norm 1 (0 for a row that is exactly 0, never NaN).
    pub fn forward(&self, x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let mut x = match &self.gate {
            Some(gate) => gate.forward(x)?,
            None => x.clone(),
        };
        if !self.cross.is_empty() {
            x = cross::forward(&self.cross, &x)?;
        }
        self.normalise(&self.output(&x, dropout)?)
    }

    /// The weights by the names of [`TowerShape::weights`].
    pub fn weights(&self) -> BTreeMap<String, Tensor> {
        self.weights.clone()
    }

    fn output(&self, x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let skipped = x.matmul(&self.skip)?;
        let sum = match &self.output.0 {
            Some(weight) => (self.last_hidden(x, dropout)?.matmul(weight)? + skipped)?,
            None => skipped,
        };
        add_bias(&sum, &self.output.1)
    }

    /// h = act(W h + b), plus h where widths are equal and residuals are wanted.
    fn last_hidden(&self, x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let mut hidden = x.clone();
        for (n, (weight, bias)) in self.hidden.iter().enumerate() {
            let activated = dropout.apply(&self.activated(&hidden.matmul(weight)?, bias)?)?;
            let adds = self.residual && n > 0 && activated.dims() == hidden.dims();
            hidden = if adds { (activated + hidden)? } else { activated };
        }
        Ok(hidden)
    }

    fn activated(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::Relu => bias_relu(x, bias),
            Activation::Gelu => add_bias(x, bias)?.gelu(),
        }
    }

    fn normalise(&self, y: &Tensor) -> Result<Tensor> {
        if self.objectives == 1 {
            return l2_normalise(y);
        }
        let (batch, dim) = y.dims2()?;
        let slices = l2_normalise(&y.reshape((batch, self.objectives, dim / self.objectives))?)?;
        (slices / (self.objectives as f64).sqrt())?.reshape((batch, dim))
    }
}

/// The weights of the specifications, each of its shape.
pub(crate) fn checked(specs: &[WeightSpec], weights: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let mut checked = BTreeMap::new();
    for WeightSpec { name, shape, .. } in specs {
        match weights.get(name) {
            Some(weight) if weight.dims() == shape.as_slice() => drop(checked.insert(name.clone(), weight.clone())),
            found => {
                let found = found.map(|t| t.dims().to_vec());
                candle_core::bail!("tower weight `{name}`: expected shape {shape:?}, found {found:?}")
            }
        }
    }
    Ok(checked)
}

/// y / sqrt(|y|^2 + 1e-12), along the last dimension.
fn l2_normalise(y: &Tensor) -> Result<Tensor> {
    let norm = (y.sqr()?.sum_keepdim(D::Minus1)? + NORM_EPSILON)?.sqrt()?;
    y.broadcast_div(&norm)
}

#[cfg(test)]
mod tests;
