//! Passes through a tower, forward and backward, in shards of rows that the threads share. Shards are of one size and are
//! summed in their order, so that the result does not depend on the number of threads.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};
use pagoda_model::{Side, features::EncodedBatch, two_tower::TwoTower};
use rayon::prelude::*;

/// Rows of a shard.
const SHARD: usize = 256;

/// One shard on its way through a tower.
pub(super) struct Pass {
    /// `[rows, input_dim]`.
    input: Var,
    /// `[rows, embedding_dim]`.
    pub(super) output: Tensor,
}

/// The gradients of one tower.
pub(super) struct TowerGradient {
    /// `[batch, input_dim]`.
    pub(super) input: Vec<f32>,
    /// By weight, where it has one.
    pub(super) weights: GradStore,
}

/// Gathers a batch's rows and passes them through its tower.
pub(super) fn forward(model: &TwoTower, side: Side, batch: &EncodedBatch) -> Result<Vec<Pass>> {
    let starts: Vec<usize> = (0..batch.len()).step_by(SHARD).collect();
    let width = model.layout.input_dim(side);
    let pass = |range: Range<usize>| {
        let input = Var::from_vec(model.gather_rows(side, batch, range.clone()), (range.len(), width), &Device::Cpu)?;
        let output = model.towers[side.index()].forward(input.as_tensor())?;
        Ok(Pass { input, output })
    };
    starts.into_par_iter().map(|start| pass(start..(start + SHARD).min(batch.len()))).collect()
}

/// All outputs, `[batch, embedding_dim]`.
pub(super) fn outputs(passes: &[Pass]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for pass in passes {
        all.extend(flat(&pass.output)?);
    }
    Ok(all)
}

/// The gradients that follow from those of the outputs, `d_outputs`: `[batch, embedding_dim]`.
pub(super) fn backward(passes: &[Pass], d_outputs: &[f32], variables: &[Var]) -> Result<TowerGradient> {
    let dim = passes[0].output.dim(1)?;
    let shards = passes.par_iter().zip(d_outputs.par_chunks(SHARD * dim));
    let shards: Result<Vec<TowerGradient>> = shards.map(|(pass, d_output)| backward_one(pass, d_output)).collect();
    let mut shards = shards?.into_iter();
    let Some(mut sum) = shards.next() else { candle_core::bail!("a batch is never empty") };
    for shard in shards {
        sum.input.extend(shard.input);
        sum.weights = joined(sum.weights, shard.weights, variables)?;
    }
    Ok(sum)
}

/// The sum of two stores, over the variables.
pub(super) fn joined(mut a: GradStore, b: GradStore, variables: &[Var]) -> Result<GradStore> {
    for variable in variables {
        if let Some(gradient) = b.get(variable) {
            let sum = a.get(variable).map_or_else(|| Ok(gradient.clone()), |other| other + gradient)?;
            a.insert(variable, sum);
        }
    }
    Ok(a)
}

/// The gradient of the surrogate sum(output d_output) with respect to anything behind the output is that of the loss.
fn backward_one(pass: &Pass, d_output: &[f32]) -> Result<TowerGradient> {
    let d_output = Tensor::from_slice(d_output, pass.output.shape(), &Device::Cpu)?;
    let weights = (&pass.output * d_output)?.sum_all()?.backward()?;
    match weights.get(&pass.input) {
        Some(input) => Ok(TowerGradient { input: flat(input)?, weights }),
        None => candle_core::bail!("the input of a tower has no gradient"),
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
