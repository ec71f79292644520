//! Passes through a tower, forward and backward, in shards of entities that the threads share. Shards are of sizes that follow from the
//! batch alone and are summed in their order, so that the result does not depend on the number of threads.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};
use pagoda_model::{
    Side,
    dropout::Dropout,
    features::EncodedBatch,
    two_tower::{HistoryPooling, TwoTower},
};
use rayon::prelude::*;

use super::{lists::Lists, rows::InputGradient};
use crate::{data::mixed, tensors};

/// Entities of a shard without sequences.
const SHARD_ENTITIES: usize = 256;
/// Positions of a shard of sequences, about, padding counted.
const SHARD_POSITIONS: usize = 1024;

/// Entities of one side on their way through a tower.
pub(super) struct PassInput<'a> {
    pub(super) side: Side,
    pub(super) entities: &'a EncodedBatch,
    /// Of sequences: by entity, the positions whose vectors are wanted, from 0; None: the vector of an empty history. Without it, each
    /// entity has one output.
    pub(super) positions: Option<&'a Lists<Option<u32>>>,
    /// Drops numbers in hidden layers; each shard has masks of its own.
    pub(super) dropout: f64,
    pub(super) seed: u64,
}

/// One shard on its way through a tower.
pub(super) struct Pass {
    entities: Range<usize>,
    /// `[entities, input_dim]`.
    flat: Var,
    /// `[entities, length, dim]`.
    sequence: Option<Var>,
    /// `[outputs, embedding_dim]`.
    output: Tensor,
}

/// The gradients of one shard's input.
pub(super) struct ShardGradient {
    entities: Range<usize>,
    flat: Vec<f32>,
    /// And the length of its sequences.
    sequence: Option<(Vec<f32>, usize)>,
}

/// The gradients of one tower.
pub(super) struct TowerGradient {
    pub(super) shards: Vec<ShardGradient>,
    /// By weight, where it has one.
    pub(super) weights: GradStore,
}

impl PassInput<'_> {
    /// Gathers the entities' rows and passes them through their tower.
    pub(super) fn forward(&self, model: &TwoTower) -> Result<Vec<Pass>> {
        let shards = self.shards(model);
        shards.into_par_iter().map(|entities| self.forward_one(model, entities)).collect()
    }

    fn shards(&self, model: &TwoTower) -> Vec<Range<usize>> {
        let size = match model.layout.history().filter(|_| self.has_sequences(model)) {
            Some(place) => (SHARD_POSITIONS / self.longest(place.column, place.rows_per_item)).max(1),
            None => SHARD_ENTITIES,
        };
        let count = self.entities.len();
        (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
    }

    fn longest(&self, column: usize, rows_per_item: usize) -> usize {
        let column = &self.entities.columns()[column];
        (0..self.entities.len()).map(|i| column.bag(i).len() / rows_per_item).max().unwrap_or(0).max(1)
    }

    fn has_sequences(&self, model: &TwoTower) -> bool {
        self.side == Side::User && (self.positions.is_some() || encodes_sequences(model))
    }

    fn forward_one(&self, model: &TwoTower, entities: Range<usize>) -> Result<Pass> {
        let dropout = Dropout::new(self.dropout, mixed(&[self.seed, self.side.index() as u64, entities.start as u64]));
        let shape = (entities.len(), model.layout.input_dim(self.side));
        let rows = model.gather_rows(self.side, self.entities, entities.clone());
        let flat = Var::from_vec(rows, shape, &Device::Cpu)?;
        let tower = &model.towers[self.side.index()];
        if !self.has_sequences(model) {
            let output = tower.forward(flat.as_tensor(), &dropout)?;
            return Ok(Pass { entities, flat, sequence: None, output });
        }
        let Some((history, sequences)) =
            model.history.as_ref().zip(model.gather_sequences(self.entities, entities.clone()))
        else {
            candle_core::bail!("sequences need a schema with a history");
        };
        let sequence = Var::from_slice(&sequences.rows, sequences.shape(), &Device::Cpu)?;
        let encoded = history.encode_positions(sequence.as_tensor(), &dropout)?;
        let (owners, places) = match self.positions {
            None => (None, sequences.last_positions()),
            Some(positions) => {
                let (owners, places) = outputs_of(positions, &entities, sequences.length);
                (Some(Tensor::new(owners, &Device::Cpu)?), places)
            }
        };
        let vectors = history.select(&encoded, &places)?;
        let owned = match owners {
            None => flat.as_tensor().clone(),
            Some(owners) => flat.index_select(&owners, 0)?,
        };
        let output = tower.forward(&model.join(&owned, &vectors)?, &dropout)?;
        Ok(Pass { entities, flat, sequence: Some(sequence), output })
    }
}

/// Whether the gather leaves histories to the history encoder.
fn encodes_sequences(model: &TwoTower) -> bool {
    model.history.as_ref().is_some_and(|history| history.shape().pooling != HistoryPooling::Mean)
}

/// For each output of a shard, its entity and its position, both within the shard.
fn outputs_of(positions: &Lists<Option<u32>>, entities: &Range<usize>, length: usize) -> (Vec<u32>, Vec<Option<u32>>) {
    let (mut owners, mut places) = (Vec::new(), Vec::new());
    for (local, entity) in (0..).zip(entities.clone()) {
        for position in positions.list(entity) {
            owners.push(local);
            places.push(position.map(|p| local * length as u32 + p));
        }
    }
    (owners, places)
}

/// All outputs, `[outputs, embedding_dim]`.
pub(super) fn outputs(passes: &[Pass]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for pass in passes {
        tensors::read(&pass.output, |values| all.extend_from_slice(values))?;
    }
    Ok(all)
}

/// The gradients that follow from those of the outputs, `d_outputs`: `[outputs, embedding_dim]`.
pub(super) fn backward(passes: &[Pass], d_outputs: &[f32], variables: &[Var]) -> Result<TowerGradient> {
    let mut rest = d_outputs;
    let mut tasks = Vec::with_capacity(passes.len());
    for pass in passes {
        let (d_output, behind) = rest.split_at(pass.output.elem_count());
        tasks.push((pass, d_output));
        rest = behind;
    }
    let shards: Result<Vec<(ShardGradient, GradStore)>> =
        tasks.into_par_iter().map(|(pass, d_output)| pass.backward(d_output)).collect();
    let (mut gradients, mut sum) = (Vec::new(), None);
    for (shard, weights) in shards? {
        gradients.push(shard);
        sum = Some(match sum {
            None => weights,
            Some(sum) => joined(sum, weights, variables)?,
        });
    }
    let Some(weights) = sum else { candle_core::bail!("a batch is never empty") };
    Ok(TowerGradient { shards: gradients, weights })
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

impl Pass {
    /// The gradient of the surrogate sum(output d_output) with respect to anything behind the output is that of the loss.
    fn backward(&self, d_output: &[f32]) -> Result<(ShardGradient, GradStore)> {
        let d_output = Tensor::from_slice(d_output, self.output.shape(), &Device::Cpu)?;
        let weights = (&self.output * d_output)?.sum_all()?.backward()?;
        let of = |input: &Var| weights.get(input).map_or_else(|| Ok(vec![0.0; input.elem_count()]), flat);
        let sequence = match &self.sequence {
            None => None,
            Some(sequence) => Some((of(sequence)?, sequence.dim(1)?)),
        };
        Ok((ShardGradient { entities: self.entities.clone(), flat: of(&self.flat)?, sequence }, weights))
    }
}

impl ShardGradient {
    /// As the rows' optimiser takes it.
    pub(super) fn of<'a>(&'a self, side: Side, batch: &'a EncodedBatch) -> InputGradient<'a> {
        let sequence = self.sequence.as_ref().map(|(values, length)| (values.as_slice(), *length));
        InputGradient { side, batch, entities: self.entities.clone(), flat: &self.flat, sequence }
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
