//! The feature gate: squeeze-and-excitation over features (SENet in Huang et al., `FiBiNET`, RecSys 2019).
//!
//! z_f = mean of feature f's numbers, a = 2 sigmoid(relu(z W0 + b0) W1 + b1), and feature f's numbers are multiplied by a_f.
//! The factor 2 makes a gate of weights near 0 the identity.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::FeatureSlot;
use crate::ops::{add_bias, bias_relu};

#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// `[input_dim, features]`: 1 / dim where a number belongs to the feature.
    squeeze: Tensor,
    /// `[features, input_dim]`: 1 where a number belongs to the feature.
    expand: Tensor,
    layers: [(Tensor, Tensor); 2],
}

impl Gate {
    pub(super) fn new(features: &[FeatureSlot], weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let owners = features.iter().enumerate().flat_map(|(f, slot)| std::iter::repeat_n((f, slot.dim), slot.dim));
        let owners: Vec<(usize, usize)> = owners.collect();
        let (width, count) = (owners.len(), features.len());
        let (mut squeeze, mut expand) = (vec![0f32; width * count], vec![0f32; width * count]);
        for (i, (f, dim)) in owners.into_iter().enumerate() {
            squeeze[i * count + f] = 1.0 / dim as f32;
            expand[f * width + i] = 1.0;
        }
        let layer = |n: usize| (weights[&format!("gate{n}.weight")].clone(), weights[&format!("gate{n}.bias")].clone());
        Ok(Self {
            squeeze: Tensor::from_vec(squeeze, (width, count), &Device::Cpu)?,
            expand: Tensor::from_vec(expand, (count, width), &Device::Cpu)?,
            layers: [layer(0), layer(1)],
        })
    }

    /// `[batch, input_dim]` to the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [(weight0, bias0), (weight1, bias1)] = &self.layers;
        let hidden = bias_relu(&x.matmul(&self.squeeze)?.matmul(weight0)?, bias0)?;
        let logits = add_bias(&hidden.matmul(weight1)?, bias1)?;
        x * (sigmoid(&logits)? * 2.0)?.matmul(&self.expand)?
    }
}

/// (1 + tanh(x / 2)) / 2, which has a gradient and never overflows.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? + 1.0)? * 0.5
}
