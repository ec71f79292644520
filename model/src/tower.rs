//! One tower: a multi-layer perceptron with a linear skip, then L2 normalisation.
//!
//! y = MLP(x) + x S, embedding = y / sqrt(|y|^2 + 1e-12). The skip S lets an id row reach the embedding without passing
//! the hidden layers, which learn ids slowly; it begins as the identity on the rows of ids and histories (see the trainer).

use std::collections::BTreeMap;

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

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

/// The shape of one tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerShape {
    /// The width of the input.
    pub input_dim: usize,
    /// The widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// The width of the output.
    pub embedding_dim: usize,
    /// What follows each hidden layer.
    pub activation: Activation,
}

impl TowerShape {
    /// Every weight's name and shape: `layer{n}.weight` `[in, out]`, `layer{n}.bias` `[out]`, `skip` `[input_dim, embedding_dim]`.
    pub fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let widths: Vec<usize> =
            [self.input_dim].into_iter().chain(self.hidden.iter().copied()).chain([self.embedding_dim]).collect();
        let layers = widths.windows(2).enumerate().flat_map(|(n, w)| {
            [(format!("layer{n}.weight"), vec![w[0], w[1]]), (format!("layer{n}.bias"), vec![w[1]])]
        });
        layers.chain([("skip".to_owned(), vec![self.input_dim, self.embedding_dim])]).collect()
    }
}

/// One tower's weights.
#[derive(Clone, Debug)]
pub struct Tower {
    layers: Vec<(Tensor, Tensor)>,
    skip: Tensor,
    activation: Activation,
}

impl Tower {
    /// Takes the weights by the names of [`TowerShape::weights`]; a missing one or a wrong shape is an error.
    pub fn new(shape: &TowerShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        for (name, expected) in shape.weights() {
            let found = weights.get(&name).map(|t| t.dims().to_vec());
            if found.as_ref() != Some(&expected) {
                candle_core::bail!("tower weight `{name}`: expected shape {expected:?}, found {found:?}");
            }
        }
        let layer =
            |n: usize| (weights[&format!("layer{n}.weight")].clone(), weights[&format!("layer{n}.bias")].clone());
        Ok(Self {
            layers: (0..=shape.hidden.len()).map(layer).collect(),
            skip: weights["skip"].clone(),
            activation: shape.activation,
        })
    }

    /// `[batch, input_dim]` to `[batch, embedding_dim]`, each row of norm 1 (0 for a row that is exactly 0, never NaN).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        l2_normalise(&(self.perceptron(x)? + x.matmul(&self.skip)?)?)
    }

    fn perceptron(&self, x: &Tensor) -> Result<Tensor> {
        let mut hidden = x.clone();
        for (n, (weight, bias)) in self.layers.iter().enumerate() {
            if n > 0 {
                hidden = self.activate(&hidden)?;
            }
            hidden = hidden.matmul(weight)?.broadcast_add(bias)?;
        }
        Ok(hidden)
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::Relu => x.relu(),
            Activation::Gelu => x.gelu(),
        }
    }

    /// The weights by the names of [`TowerShape::weights`].
    pub fn weights(&self) -> BTreeMap<String, Tensor> {
        let layers = self.layers.iter().enumerate().flat_map(|(n, (weight, bias))| {
            [(format!("layer{n}.weight"), weight.clone()), (format!("layer{n}.bias"), bias.clone())]
        });
        layers.chain([("skip".to_owned(), self.skip.clone())]).collect()
    }
}

/// y / sqrt(|y|^2 + 1e-12), row by row of `[batch, dim]`.
fn l2_normalise(y: &Tensor) -> Result<Tensor> {
    let norm = (y.sqr()?.sum_keepdim(D::Minus1)? + NORM_EPSILON)?.sqrt()?;
    y.broadcast_div(&norm)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn shape() -> TowerShape {
        TowerShape { input_dim: 3, hidden: vec![2], embedding_dim: 2, activation: Activation::Relu }
    }

    fn weights(values: f32) -> BTreeMap<String, Tensor> {
        let full = |dims: Vec<usize>| Tensor::full(values, dims, &Device::Cpu).unwrap();
        shape().weights().into_iter().map(|(name, dims)| (name, full(dims))).collect()
    }

    #[test]
    fn a_tower_agrees_with_its_formula() {
        let tower = Tower::new(&shape(), &weights(0.5)).unwrap();
        let x = Tensor::new(&[[1f32, 2.0, 3.0], [-1.0, -1.0, -1.0]], &Device::Cpu).unwrap();
        let y: Vec<Vec<f32>> = tower.forward(&x).unwrap().to_vec2().unwrap();
        // Both outputs are equal by symmetry, so the unit vector is (s, s) / sqrt(2): first row 6.0 > 0, second -1.0 < 0.
        let expected = std::f32::consts::FRAC_1_SQRT_2;
        assert!((y[0][0] - expected).abs() < 1e-6 && (y[0][1] - expected).abs() < 1e-6);
        assert!((y[1][0] + expected).abs() < 1e-6);
    }

    #[test]
    fn a_zero_output_stays_zero_and_is_no_nan() {
        let tower = Tower::new(&shape(), &weights(0.0)).unwrap();
        let y = tower.forward(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), vec![vec![0.0; 2]; 2]);
    }

    #[test]
    fn missing_and_misshapen_weights_are_refused() {
        let mut bad = weights(0.0);
        bad.remove("skip");
        assert!(Tower::new(&shape(), &bad).unwrap_err().to_string().contains("skip"));
        let mut bad = weights(0.0);
        bad.insert("layer0.bias".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        assert!(Tower::new(&shape(), &bad).unwrap_err().to_string().contains("layer0.bias"));
    }
}
