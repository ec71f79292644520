//! [`Stepper`]: one step of learning: towers forward, loss, towers backward, rows and weights moved.

use std::borrow::Cow;

use candle_core::Var;
use pagoda_model::{Side, two_tower::TwoTower};
use rayon::prelude::*;

use super::{
    adamw::AdamW,
    batches::Batch,
    cache::EmbeddingCache,
    loss::{LogQValues, LossInput, LossOutput, LossSettings, loss},
    passes::{Pass, PassInput, TowerGradient, backward, joined, outputs},
    rows::{InputGradient, RowOptimiser},
    temperature::Temperature,
};
use crate::{config::TrainConfig, error::TrainError};

/// Numbers that one task adds.
const ADDED_AT_ONCE: usize = 1 << 14;

/// The optimisers and what else is learned.
pub(super) struct Stepper<'a> {
    pub(super) rows: RowOptimiser,
    pub(super) weights: AdamW,
    pub(super) temperature: Temperature,
    pub(super) cache: EmbeddingCache,
    config: &'a TrainConfig,
    /// By objective: its share in the loss.
    objectives: Vec<f32>,
}

/// What a step was.
pub(super) struct Stepped {
    /// Before the update.
    pub(super) loss: f32,
    /// The mean cosine of two items of the batch.
    pub(super) alike: f32,
    /// See [`LossOutput::masses`].
    pub(super) masses: Vec<f64>,
}

/// How a step is taken.
#[derive(Clone, Copy)]
pub(super) struct StepPlan {
    /// Its number, from 0.
    pub(super) step: u64,
    /// The share of the learning rates.
    pub(super) rate_share: f64,
    /// Whether the loss's shares by source are measured.
    pub(super) measured: bool,
}

/// A batch and its passes through both towers.
struct Passes<'a> {
    batch: &'a Batch,
    users: &'a [Pass],
    items: &'a [Pass],
}

/// The outputs of both towers: `[rows, dim]`, of all items of the batch `[items, dim]`, and cached ones `[cached, dim]`.
struct Outputs {
    users: Vec<f32>,
    items: Vec<f32>,
    cached: Vec<f32>,
    dim: usize,
}

/// Gradients of the same shapes.
struct OutputGradients {
    loss: f32,
    users: Vec<f32>,
    items: Vec<f32>,
    temperature: f32,
    masses: Vec<f64>,
}

impl<'a> Stepper<'a> {
    /// Nothing learned yet.
    pub(super) fn new(model: &TwoTower, variables: Vec<Var>, config: &'a TrainConfig, cache: usize) -> Self {
        let training = &config.training;
        let weights = config.objective_weights();
        Self {
            rows: RowOptimiser::new(training.row_optimizer, &model.tables),
            weights: AdamW::new(variables, training.weight_decay, training.gradient_norm_max),
            temperature: Temperature::new(&config.loss),
            cache: EmbeddingCache::new(cache, config.model.embedding_dim),
            objectives: if weights.is_empty() { vec![1.0] } else { weights },
            config,
        }
    }

    /// Forward, loss, backward, update.
    pub(super) fn step(&mut self, model: &mut TwoTower, batch: &Batch, plan: StepPlan) -> Result<Stepped, TrainError> {
        let (users, items) = rayon::join(
            || self.input(Side::User, batch, plan).forward(model),
            || self.input(Side::Item, batch, plan).forward(model),
        );
        let (users, items) = (users?, items?);
        let outputs = Outputs {
            users: outputs(&users)?,
            items: outputs(&items)?,
            cached: self.cache.values().to_vec(),
            dim: self.config.model.embedding_dim,
        };
        let gradients = self.gradients(&outputs, batch, plan)?;
        if !gradients.loss.is_finite() {
            let (user_max, item_max) = (largest(&outputs.users), largest(&outputs.items));
            return Err(TrainError::Diverged { step: plan.step, loss: gradients.loss, user_max, item_max });
        }
        let positives = &outputs.items[..batch.rows() * outputs.dim];
        self.cache.push(positives);
        let passes = Passes { users: &users, items: &items, batch };
        self.update(model, &passes, &gradients, plan.rate_share)?;
        let alike = mean_cosine(&outputs.items, outputs.dim);
        Ok(Stepped { loss: gradients.loss, alike, masses: gradients.masses })
    }

    fn input<'b>(&self, side: Side, batch: &'b Batch, plan: StepPlan) -> PassInput<'b> {
        let (entities, positions) = match side {
            Side::User => (&batch.users, batch.positions.as_ref()),
            Side::Item => (&batch.items, None),
        };
        let seed = crate::data::mixed(&[self.config.seed, plan.step, 1]);
        PassInput { side, entities, positions, dropout: self.config.training.dropout, seed }
    }

    /// The sum over objectives, each with its part of the embeddings and its own positives.
    fn gradients(&self, outputs: &Outputs, batch: &Batch, plan: StepPlan) -> Result<OutputGradients, TrainError> {
        let count = self.objectives.len();
        if count == 1 {
            return self.objective(outputs, batch, &batch.weights[0], plan);
        }
        let total: f32 = self.objectives.iter().sum();
        let mut sum = OutputGradients {
            loss: 0.0,
            users: vec![0.0; outputs.users.len()],
            items: vec![0.0; outputs.items.len()],
            temperature: 0.0,
            masses: Vec::new(),
        };
        for (number, (weight, row_weights)) in self.objectives.iter().zip(&batch.weights).enumerate() {
            let part = Slice { number, count, dim: outputs.dim };
            let slice = Outputs {
                users: part.taken(&outputs.users),
                items: part.taken(&outputs.items),
                cached: part.taken(&outputs.cached),
                dim: outputs.dim / count,
            };
            let gradients = self.objective(&slice, batch, row_weights, plan)?;
            let share = weight / total;
            sum.loss += share * gradients.loss;
            sum.temperature += share * gradients.temperature;
            part.put(&mut sum.users, &gradients.users, share);
            part.put(&mut sum.items, &gradients.items, share);
            sum.masses.resize(gradients.masses.len(), 0.0);
            sum.masses.iter_mut().zip(&gradients.masses).for_each(|(s, m)| *s += f64::from(share) * m);
        }
        Ok(sum)
    }

    fn objective(
        &self,
        outputs: &Outputs,
        batch: &Batch,
        weights: &[f32],
        plan: StepPlan,
    ) -> Result<OutputGradients, TrainError> {
        let Outputs { users, items, cached, dim } = outputs;
        let dim = *dim;
        let (rows, sampled) = (batch.rows(), batch.sampled);
        let first = if batch.in_batch { 0 } else { rows };
        let learned = rows + sampled - first;
        let drawn = &items[first * dim..(rows + sampled) * dim];
        let columns = if cached.is_empty() { Cow::Borrowed(drawn) } else { Cow::Owned([drawn, cached].concat()) };
        let settings = LossSettings::new(&self.config.loss, self.temperature.value());
        let zeros = if settings.corrects() { None } else { Some(vec![0.0; rows.max(columns.len() / dim)]) };
        let log_q = match &zeros {
            None => LogQValues {
                positives: &batch.log_q.positives,
                columns: &batch.log_q.columns,
                private: &batch.log_q.private,
            },
            Some(zeros) => LogQValues {
                positives: &zeros[..rows],
                columns: &zeros[..columns.len() / dim],
                private: &batch.log_q.private,
            },
        };
        let output = loss(&LossInput {
            dim,
            users,
            positives: &items[..rows * dim],
            columns: &columns,
            learned_columns: learned,
            private: &items[(rows + sampled) * dim..],
            private_rows: &batch.private,
            weights,
            log_q,
            masked: &batch.masked,
            adjusted: &batch.adjusted,
            settings,
            segments: if plan.measured { &batch.segments } else { &[] },
        })?;
        Ok(assembled(output, first * dim))
    }

    fn update(
        &mut self,
        model: &mut TwoTower,
        passes: &Passes<'_>,
        gradients: &OutputGradients,
        rate_share: f64,
    ) -> Result<(), TrainError> {
        let Passes { users, items, batch } = *passes;
        let variables = self.weights.variables();
        let (of_users, of_items) = rayon::join(
            || backward(users, &gradients.users, variables),
            || backward(items, &gradients.items, variables),
        );
        let (TowerGradient { shards: user_shards, weights }, TowerGradient { shards: item_shards, weights: more }) =
            (of_users?, of_items?);
        let weights = joined(weights, more, variables)?;
        let training = &self.config.training;
        let tower_rate = training.tower_learning_rate * rate_share;
        self.temperature.step(gradients.temperature, tower_rate);
        let of_users = user_shards.iter().map(|shard| shard.of(Side::User, &batch.users));
        let of_items = item_shards.iter().map(|shard| shard.of(Side::Item, &batch.items));
        let inputs: Vec<InputGradient<'_>> = of_users.chain(of_items).collect();
        let rate = training.row_learning_rate * rate_share as f32;
        let (of_weights, ()) = rayon::join(
            || self.weights.step(&weights, tower_rate),
            || self.rows.step(&mut model.tables, &model.layout, &inputs, rate),
        );
        Ok(of_weights?)
    }
}

/// Items' gradients in the order of the batch's items: the positives' own and what they have as columns, the sampled, the private.
fn assembled(output: LossOutput, columns_at: usize) -> OutputGradients {
    let LossOutput { loss, d_users, d_positives, d_columns, d_private, d_temperature, masses } = output;
    let mut items = d_positives;
    items.resize(columns_at + d_columns.len(), 0.0);
    let chunks = items[columns_at..].par_chunks_mut(ADDED_AT_ONCE).zip(d_columns.par_chunks(ADDED_AT_ONCE));
    chunks.for_each(|(to, d)| to.iter_mut().zip(d).for_each(|(to, d)| *to += d));
    items.extend(d_private);
    OutputGradients { loss, users: d_users, items, temperature: d_temperature, masses }
}

/// One objective's part of every embedding of `dim` numbers.
#[derive(Clone, Copy)]
struct Slice {
    number: usize,
    count: usize,
    dim: usize,
}

impl Slice {
    /// The parts, of norm 1: a part of the whole has the norm 1 / sqrt(count).
    fn taken(self, embeddings: &[f32]) -> Vec<f32> {
        let (width, scale) = (self.dim / self.count, (self.count as f32).sqrt());
        let parts = embeddings.chunks_exact(self.dim).flat_map(|e| &e[self.number * width..(self.number + 1) * width]);
        parts.map(|v| v * scale).collect()
    }

    /// Adds the parts' gradients, times a share, to those of the whole.
    fn put(self, to: &mut [f32], gradients: &[f32], share: f32) {
        let (width, scale) = (self.dim / self.count, share * (self.count as f32).sqrt());
        let at = self.number * width;
        for (to, gradient) in to.chunks_exact_mut(self.dim).zip(gradients.chunks_exact(width)) {
            to[at..at + width].iter_mut().zip(gradient).for_each(|(to, g)| *to += scale * g);
        }
    }
}

/// The mean cosine of two of the unit rows of `[rows, dim]`, itself included: the squared norm of their mean.
fn mean_cosine(rows: &[f32], dim: usize) -> f32 {
    let mut mean = vec![0.0; dim];
    rows.chunks_exact(dim).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v));
    let count = (rows.len() / dim).max(1) as f32;
    mean.iter().map(|m| (m / count).powi(2)).sum()
}

/// The largest size of a component; NaN if there is one.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max: f32, v| if v.is_nan() || max.is_nan() { f32::NAN } else { max.max(v.abs()) })
}
