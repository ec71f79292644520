//! [`fit`]: the loop over batches.

use std::time::Instant;

use candle_core::Var;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use pagoda_model::{Side, two_tower::TwoTower};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{
    Encoded,
    adagrad::{InputGradient, RowAdagrad},
    batches::{Batch, Batcher, ColumnsByItem},
    loss::{LossInput, LossOutput, sampled_softmax},
    passes::{Pass, backward, forward, joined, outputs},
    sampling::NegativeSampler,
};
use crate::{
    config::TrainingConfig,
    data::{Data, Positive, Timelines},
    error::TrainError,
    progress::{Progress, Report, Stage},
};

/// Reports of the stage, at most about so many.
const REPORTS: u64 = 200;

/// What fitting did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) examples: u64,
    pub(crate) seconds: f64,
    /// The mean loss of the last tenth of the steps.
    pub(crate) loss: f32,
}

/// Fits a model to the training positives of the data, in place.
pub(crate) fn fit(
    model: &mut TwoTower,
    variables: Vec<Var>,
    task: &FitTask<'_>,
    rng: &mut ChaCha8Rng,
    progress: &mut dyn Progress,
) -> Result<Fitted, TrainError> {
    let examples: Vec<Position> = task.examples();
    let plan = Plan::new(examples.len(), task.config);
    let mut batcher = task.batcher(plan.batch);
    let mut steps = Stepper::new(model, variables, task.config, task.temperature)?;
    let mut record = Record::new(plan.steps);
    let mut order = Order::new(examples);
    for step in 0..plan.steps {
        let batch = batcher.batch(&order.next(plan.batch, &task.data.positives, rng), rng);
        let loss = steps.step(model, &batch, plan.rate_share(step, task.config), step)?;
        record.push(loss, step, plan.batch, progress);
    }
    Ok(record.finish(plan.batch))
}

type Position = u32;

/// What is fitted to.
pub(crate) struct FitTask<'a> {
    pub(crate) data: &'a Data,
    pub(crate) encoded: &'a Encoded,
    /// Training positives only.
    pub(crate) timelines: &'a Timelines,
    pub(crate) config: &'a TrainingConfig,
    pub(crate) uniform_negatives: usize,
    pub(crate) temperature: f32,
}

impl<'a> FitTask<'a> {
    fn examples(&self) -> Vec<Position> {
        (0..).zip(&self.data.positives).filter(|(_, p)| !p.test).map(|(i, _)| i).collect()
    }

    fn batcher(&self, batch: usize) -> Batcher<'a> {
        let mut counts = vec![0; self.data.catalog.len()];
        let train = || self.data.positives.iter().filter(|p| !p.test);
        train().for_each(|p| counts[p.item as usize] += 1);
        let end = train().map(|p| p.timestamp).max().unwrap_or(i64::MIN);
        let eligible = (0..).zip(&self.data.first_met).filter(|&(_, &met)| met <= end).map(|(item, _)| item).collect();
        Batcher {
            encoded: self.encoded,
            timelines: self.timelines,
            sampler: NegativeSampler::new(&counts, eligible, batch, self.uniform_negatives),
            split: self.data.schema.interactions.split,
            config: self.config,
            columns: ColumnsByItem::new(self.data.catalog.len()),
        }
    }
}

struct Plan {
    batch: usize,
    steps: u64,
}

impl Plan {
    fn new(examples: usize, config: &TrainingConfig) -> Self {
        let batch = config.batch_size.min(examples);
        let total = (examples as u64 * u64::from(config.epochs)).min(config.examples_max);
        Self { batch, steps: total.div_ceil(batch as u64).max(1) }
    }

    /// From 1 linearly to the final share.
    fn rate_share(&self, step: u64, config: &TrainingConfig) -> f64 {
        let done = step as f64 / (self.steps.max(2) - 1) as f64;
        1.0 + done * (config.final_learning_rate_share - 1.0)
    }
}

/// Shuffled passes over the examples, one after another.
struct Order {
    examples: Vec<Position>,
    next: usize,
}

impl Order {
    fn new(examples: Vec<Position>) -> Self {
        Self { next: examples.len(), examples }
    }

    fn next(&mut self, batch: usize, positives: &[Positive], rng: &mut ChaCha8Rng) -> Vec<Positive> {
        if self.next + batch > self.examples.len() {
            self.examples.shuffle(rng);
            self.next = 0;
        }
        let taken = &self.examples[self.next..self.next + batch];
        self.next += batch;
        taken.iter().map(|&i| positives[i as usize]).collect()
    }
}

/// One optimiser for the rows, one for the weights.
struct Stepper {
    rows: RowAdagrad,
    variables: Vec<Var>,
    weights: AdamW,
    row_rate: f32,
    weight_rate: f64,
    temperature: f32,
}

impl Stepper {
    fn new(
        model: &TwoTower,
        variables: Vec<Var>,
        config: &TrainingConfig,
        temperature: f32,
    ) -> candle_core::Result<Self> {
        let parameters =
            ParamsAdamW { lr: config.tower_learning_rate, weight_decay: config.weight_decay, ..ParamsAdamW::default() };
        Ok(Self {
            rows: RowAdagrad::new(&model.tables),
            weights: AdamW::new(variables.clone(), parameters)?,
            variables,
            row_rate: config.row_learning_rate,
            weight_rate: config.tower_learning_rate,
            temperature,
        })
    }

    /// Forward, loss, backward, update; the loss before the update.
    fn step(&mut self, model: &mut TwoTower, batch: &Batch, rate_share: f64, step: u64) -> Result<f32, TrainError> {
        let users = forward(model, Side::User, &batch.users)?;
        let items = forward(model, Side::Item, &batch.items)?;
        let output = self.loss(&users, &items, batch, step)?;
        let users = backward(&users, &output.d_users, &self.variables)?;
        let items = backward(&items, &output.d_items, &self.variables)?;
        self.weights.set_learning_rate(self.weight_rate * rate_share);
        self.weights.step(&joined(users.weights, items.weights, &self.variables)?)?;
        let gradients = [
            InputGradient { side: Side::User, batch: &batch.users, values: &users.input },
            InputGradient { side: Side::Item, batch: &batch.items, values: &items.input },
        ];
        self.rows.step(&mut model.tables, &model.layout, &gradients, self.row_rate * rate_share as f32);
        Ok(output.loss)
    }

    fn loss(&self, users: &[Pass], items: &[Pass], batch: &Batch, step: u64) -> Result<LossOutput, TrainError> {
        let (users, items, dim) = (outputs(users)?, outputs(items)?, users[0].output.dim(1)?);
        let output = sampled_softmax(&LossInput {
            users: &users,
            items: &items,
            dim,
            weights: &batch.weights,
            log_q: &batch.log_q,
            hits: &batch.hits,
            temperature: self.temperature,
        })?;
        if output.loss.is_finite() {
            return Ok(output);
        }
        Err(TrainError::Diverged { step, loss: output.loss, user_max: largest(&users), item_max: largest(&items) })
    }
}

/// The largest size of a component; NaN if there is one.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max: f32, v| if v.is_nan() || max.is_nan() { f32::NAN } else { max.max(v.abs()) })
}

struct Record {
    losses: Vec<f32>,
    total: u64,
    started: Instant,
}

impl Record {
    fn new(total: u64) -> Self {
        Self { losses: Vec::new(), total, started: Instant::now() }
    }

    fn push(&mut self, loss: f32, step: u64, batch: usize, progress: &mut dyn Progress) {
        self.losses.push(loss);
        let every = self.total.div_ceil(REPORTS);
        let done = step + 1;
        if done.is_multiple_of(every) || done == self.total {
            let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
            let examples_per_s = Some((done * batch as u64) as f64 / seconds);
            let loss = Some(mean_of_last(&self.losses, every as usize));
            progress.report(&Report { stage: Stage::Train, step: done, total: self.total, loss, examples_per_s });
        }
    }

    fn finish(self, batch: usize) -> Fitted {
        let examples = self.losses.len() as u64 * batch as u64;
        let loss = mean_of_last(&self.losses, self.losses.len().div_ceil(10));
        Fitted { examples, seconds: self.started.elapsed().as_secs_f64(), loss }
    }
}

fn mean_of_last(losses: &[f32], count: usize) -> f32 {
    let last = &losses[losses.len() - count.clamp(1, losses.len())..];
    last.iter().sum::<f32>() / last.len() as f32
}
