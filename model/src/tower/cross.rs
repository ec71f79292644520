//! Cross layers of DCN-v2 (Wang et al., WWW 2021): products of features, of one degree more with each layer.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use crate::ops::add_bias;

/// One layer: W `[input_dim, input_dim]` and b `[input_dim]`.
#[derive(Clone, Debug)]
pub(super) struct Cross {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Cross {
    pub(super) fn new(n: usize, weights: &BTreeMap<String, Tensor>) -> Self {
        let weight = |part| weights[&format!("cross{n}.{part}")].clone();
        Self { weight: weight("weight"), bias: weight("bias") }
    }
}

/// x_{l+1} = x_0 * (x_l W + b) + x_l, all `[batch, input_dim]`.
pub(super) fn forward(layers: &[Cross], x0: &Tensor) -> Result<Tensor> {
    let mut x = x0.clone();
    for Cross { weight, bias } in layers {
        x = ((x0 * add_bias(&x.matmul(weight)?, bias)?)? + x)?;
    }
    Ok(x)
}
