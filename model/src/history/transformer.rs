//! A causal transformer over a history (Kang and `McAuley`, `SASRec`, ICDM 2018), with layer norms before the sublayers, where
//! they make training steadier (Xiong et al., ICML 2020).

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::{HistoryShape, POSITION_DEVIATION, attention::Heads};
use crate::{
    dropout::Dropout,
    initial::{Initial, WeightSpec},
    ops::{add_bias, bias_relu, layer_norm},
};

/// x = rows + positions; blocks; layer norm.
#[derive(Clone, Debug)]
pub(super) struct Transformer {
    /// `[max_length, dim]`, counted from the oldest item of the (cut) history.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Pair,
}

/// x += drop(heads(norm(x)) W + b); x += drop(relu-layer of norm(x)).
#[derive(Clone, Debug)]
struct Block {
    attention_norm: Pair,
    heads: Heads,
    output: Pair,
    feed_forward_norm: Pair,
    feed_forward: [Pair; 2],
}

/// A matrix or a gain, and a bias.
type Pair = (Tensor, Tensor);

/// See [`HistoryShape::weights`].
pub(super) fn weights(shape: &HistoryShape) -> Vec<WeightSpec> {
    let positions =
        WeightSpec::new("history.positions", &[shape.max_length, shape.dim], Initial::Normal(POSITION_DEVIATION));
    let blocks = (0..shape.blocks).flat_map(|n| block_weights(&format!("history.block{n}"), shape));
    [positions].into_iter().chain(blocks).chain(norm("history.norm", shape.dim)).collect()
}

fn block_weights(prefix: &str, shape: &HistoryShape) -> Vec<WeightSpec> {
    let (dim, wide) = (shape.dim, shape.feed_forward);
    let mut weights = norm(&format!("{prefix}.attention_norm"), dim);
    weights.extend(Heads::specs(prefix, shape, Initial::Normal((1.0 / dim as f32).sqrt())));
    weights.extend(layer(&format!("{prefix}.output"), [dim, dim], small(dim)));
    weights.extend(norm(&format!("{prefix}.feed_forward_norm"), dim));
    weights.extend(layer(&format!("{prefix}.feed_forward0"), [dim, wide], Initial::Normal((2.0 / dim as f32).sqrt())));
    weights.extend(layer(&format!("{prefix}.feed_forward1"), [wide, dim], small(wide)));
    weights
}

fn norm(name: &str, dim: usize) -> Vec<WeightSpec> {
    vec![
        WeightSpec::new(format!("{name}.gain"), &[dim], Initial::Constant(1.0)),
        WeightSpec::new(format!("{name}.bias"), &[dim], Initial::Constant(0.0)),
    ]
}

fn layer(name: &str, dims: [usize; 2], initial: Initial) -> Vec<WeightSpec> {
    vec![
        WeightSpec::new(format!("{name}.weight"), &dims, initial),
        WeightSpec::new(format!("{name}.bias"), &dims[1..], Initial::Constant(0.0)),
    ]
}

/// Of what is added to the rows: about as large as they are at first, of which the standard deviation is 0.1.
fn small(inputs: usize) -> Initial {
    Initial::Normal(0.1 / (inputs as f32).sqrt())
}

impl Transformer {
    pub(super) fn new(shape: &HistoryShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let blocks: Result<Vec<Block>> =
            (0..shape.blocks).map(|n| Block::new(&format!("history.block{n}"), shape, weights)).collect();
        let positions = weights["history.positions"].clone();
        Ok(Self { positions, blocks: blocks?, norm: pair(weights, "history.norm", "gain") })
    }

    /// `[n, length, dim]` to the same.
    pub(super) fn forward(&self, rows: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let (n, length, dim) = rows.dims3()?;
        // Sequences are rows here, so that the positions are their bias.
        let positions = self.positions.narrow(0, 0, length)?.reshape(length * dim)?;
        let placed = add_bias(&rows.reshape((n, length * dim))?, &positions)?.reshape((n, length, dim))?;
        let mut x = dropout.apply(&placed)?;
        for block in &self.blocks {
            x = block.forward(&x, dropout)?;
        }
        layer_norm(&x, &self.norm.0, &self.norm.1)
    }
}

impl Block {
    fn new(prefix: &str, shape: &HistoryShape, weights: &BTreeMap<String, Tensor>) -> Result<Self> {
        let pair = |name: &str, first| pair(weights, &format!("{prefix}.{name}"), first);
        Ok(Self {
            attention_norm: pair("attention_norm", "gain"),
            heads: Heads::new(prefix, shape, weights)?,
            output: pair("output", "weight"),
            feed_forward_norm: pair("feed_forward_norm", "gain"),
            feed_forward: [pair("feed_forward0", "weight"), pair("feed_forward1", "weight")],
        })
    }

    fn forward(&self, x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
        let (n, length, dim) = x.dims3()?;
        let normed = layer_norm(x, &self.attention_norm.0, &self.attention_norm.1)?;
        let attended = self.heads.forward(&normed, None, dropout)?.matmul(&self.output.0)?;
        let attended = dropout.apply(&add_bias(&attended, &self.output.1)?)?;
        let x = (x.reshape((n * length, dim))? + attended)?;
        let normed = layer_norm(&x, &self.feed_forward_norm.0, &self.feed_forward_norm.1)?;
        let [(weight0, bias0), (weight1, bias1)] = &self.feed_forward;
        let wide = dropout.apply(&bias_relu(&normed.matmul(weight0)?, bias0)?)?;
        let fed = dropout.apply(&add_bias(&wide.matmul(weight1)?, bias1)?)?;
        (x + fed)?.reshape((n, length, dim))
    }
}

fn pair(weights: &BTreeMap<String, Tensor>, name: &str, first: &str) -> Pair {
    (weights[&format!("{name}.{first}")].clone(), weights[&format!("{name}.bias")].clone())
}
