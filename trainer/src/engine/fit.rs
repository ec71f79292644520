//! [`fit`]: the loop over steps. While one batch is learned from, the next is put together.

use std::time::{Duration, Instant};

use candle_core::Var;
use pagoda_model::two_tower::TwoTower;

use super::{
    Encoded,
    batches::{Batch, Batcher},
    checkpoint::{Checkpoint, CheckpointStore, Progressed},
    columns::ColumnsByItem,
    ledger::{CalibrationPoint, Ledger, SourceFigures},
    lists::Lists,
    private::{PrivateSources, exposed_items},
    record::{Curves, Point, Record},
    schedule::Schedule,
    snapshot::Snapshot,
    sources::{Mixture, NegativeSampler},
    stepper::{StepPlan, Stepper},
};
use crate::{
    config::{Examples as Unit, TrainConfig},
    data::{Data, Examples, Part, Tally},
    error::TrainError,
    mining::HardPools,
    progress::Progress,
    train::cpu_time,
};

/// Examples are shuffled within so many rows of the log: about 0.4 GB.
const WINDOW_ROWS: u64 = 16 << 20;
/// The loss's shares by source are measured every so many steps.
const MEASURE_EVERY: u64 = 16;
/// Above this mean cosine of a batch's items, all vectors are alike.
const COLLAPSED_COSINE: f32 = 0.98;

/// What is fitted to, and how.
pub(crate) struct FitTask<'a> {
    pub(crate) data: &'a Data,
    pub(crate) encoded: &'a Encoded,
    pub(crate) config: &'a TrainConfig,
    /// The parts of the log that are learned from, and what was counted of them.
    pub(crate) keep: fn(Part) -> bool,
    pub(crate) tally: &'a Tally,
    pub(crate) hard: Option<&'a HardPools>,
    /// How many epochs there are; None: as configured.
    pub(crate) epochs: Option<f64>,
    /// Measures a model on the validation split: recall_at_20.
    pub(crate) validate: Option<&'a Validate<'a>>,
    pub(crate) checkpoints: Option<&'a CheckpointStore>,
}

/// Measures a model; higher is better.
pub(crate) type Validate<'a> = dyn Fn(&TwoTower) -> Result<f64, TrainError> + 'a;

/// What fitting did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) examples: u64,
    /// Steps taken, and after how many the model was that is kept.
    pub(crate) steps: u64,
    pub(crate) kept_steps: u64,
    pub(crate) kept_epochs: f64,
    /// Of the steps alone, in this process: on the wall's clock, and of all processors.
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// In this process.
    pub(crate) examples_per_s: f64,
    /// The mean loss at the end.
    pub(crate) loss: f32,
    pub(crate) temperature: f32,
    pub(crate) curves: Curves,
    pub(crate) negatives: Vec<SourceFigures>,
    pub(crate) calibration: Vec<CalibrationPoint>,
}

/// Fits a model in place. Where it is validated, the best one is kept.
pub(crate) fn fit(
    model: &mut TwoTower,
    variables: Vec<Var>,
    task: &FitTask<'_>,
    progress: &mut dyn Progress,
) -> Result<Fitted, TrainError> {
    let mut run = Run::new(model, variables, task)?;
    run.resume(model)?;
    let (started, cpu_started) = (Instant::now(), cpu_time());
    while run.step < run.schedule.steps && !run.is_done() {
        run.step(model, progress)?;
    }
    run.seconds = started.elapsed().as_secs_f64();
    run.cpu_seconds = cpu_time().saturating_sub(cpu_started).as_secs_f64();
    run.finish(model)
}

/// A run under way.
struct Run<'a> {
    task: &'a FitTask<'a>,
    schedule: Schedule,
    mixture: Mixture,
    feed: Feed<'a>,
    stepper: Stepper<'a>,
    record: Record,
    ledger: Ledger,
    validated: Validated,
    /// The steps done.
    step: u64,
    /// Of the steps.
    seconds: f64,
    cpu_seconds: f64,
    checkpointed: Instant,
}

/// Makes batches, one ahead.
struct Feed<'a> {
    examples: Examples<'a>,
    batcher: Batcher<'a>,
    /// The batch of the step that comes next, once it is there.
    next: Option<Batch>,
}

/// The best model so far by validation.
#[derive(Default)]
struct Validated {
    best: Option<(f64, u64, Snapshot)>,
    /// Validations since then.
    worse: u32,
}

impl<'a> Run<'a> {
    fn new(model: &TwoTower, variables: Vec<Var>, task: &'a FitTask<'a>) -> Result<Self, TrainError> {
        task.check_objectives()?;
        let (examples, rows_each) = task.examples()?;
        let schedule = Schedule::new(task.config, examples.per_epoch(), rows_each, task.epochs);
        let rows = (schedule.per_step as f64 * rows_each).round() as usize;
        let mixture = Mixture::new(&task.config.negatives, rows.max(2));
        let feed = Feed { examples, batcher: task.batcher(mixture)?, next: None };
        let record = Record::new(schedule.steps, Curves::default(), 0, Vec::new());
        Ok(Self {
            stepper: Stepper::new(model, variables, task.config, mixture.cache),
            ledger: Ledger::new(task.data.catalog.len()),
            validated: Validated::default(),
            seconds: 0.0,
            cpu_seconds: 0.0,
            checkpointed: Instant::now(),
            step: 0,
            schedule,
            mixture,
            feed,
            record,
            task,
        })
    }

    /// Takes up the last checkpoint, if there is one.
    fn resume(&mut self, model: &mut TwoTower) -> Result<(), TrainError> {
        let Some(mut checkpoint) = self.task.checkpoints.map(CheckpointStore::read).transpose()?.flatten() else {
            return Ok(());
        };
        let state = checkpoint.restore(model, &mut self.stepper)?;
        self.step = state.step;
        self.record = Record::new(self.schedule.steps, state.curves, state.examples, state.losses);
        self.ledger = state.ledger;
        self.feed.batcher.cache = state.cached_items;
        self.validated = Validated { best: checkpoint.best(state.best, model)?, worse: state.worse };
        self.feed.examples.skip_to(0, self.step * self.schedule.per_step as u64);
        Ok(())
    }

    fn step(&mut self, model: &mut TwoTower, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let (step, schedule) = (self.step, &self.schedule);
        let batch = match self.feed.next.take() {
            Some(batch) => batch,
            None => self.feed.batch(schedule, step)?,
        };
        // A checkpoint holds the feed's state before it has gone ahead.
        let checkpoint_due = self.task.checkpoints.is_some_and(|_| self.checkpointed.elapsed() >= self.every());
        let cached_items = if checkpoint_due { self.feed.batcher.cache.clone() } else { Vec::new() };
        let measured = step.is_multiple_of(MEASURE_EVERY);
        let plan = StepPlan { step, rate_share: schedule.rate_share(step), measured };
        let (stepper, feed) = (&mut self.stepper, &mut self.feed);
        let (stepped, next) = rayon::join(
            || stepper.step(model, &batch, plan),
            || (step + 1 < schedule.steps).then(|| feed.batch(schedule, step + 1)).transpose(),
        );
        let stepped = stepped?;
        self.feed.next = next?;
        self.step += 1;
        self.ledger.record(&batch);
        if measured {
            self.ledger.record_masses(&batch, &stepped.masses);
        }
        let point = Point {
            step,
            rows: batch.rows(),
            loss: stepped.loss,
            temperature: self.stepper.temperature.value(),
            learning_rate: plan.rate_share * f64::from(self.task.config.training.row_learning_rate),
        };
        if self.record.is_point(step) && stepped.alike > COLLAPSED_COSINE && batch.rows() > 8 {
            return Err(TrainError::Collapsed { step, mean_cosine: stepped.alike });
        }
        self.validate(model)?;
        self.record.push(&point, progress);
        if checkpoint_due {
            self.checkpoint(model, cached_items)?;
        }
        Ok(())
    }

    fn every(&self) -> Duration {
        Duration::from_secs(self.task.config.checkpoint.every_seconds)
    }

    fn validate(&mut self, model: &TwoTower) -> Result<(), TrainError> {
        let Some(validate) = self.task.validate else { return Ok(()) };
        if !self.step.is_multiple_of(self.schedule.validate_every) && self.step != self.schedule.steps {
            return Ok(());
        }
        let recall = validate(model)?;
        self.record.curves.validation.push((self.step, recall));
        let better = self.validated.best.as_ref().is_none_or(|&(best, ..)| recall > best);
        if better {
            self.validated = Validated { best: Some((recall, self.step, Snapshot::of(model)?)), worse: 0 };
        } else {
            self.validated.worse += 1;
        }
        Ok(())
    }

    /// Whether patience is at its end.
    fn is_done(&self) -> bool {
        let patience = self.task.config.training.patience;
        patience > 0 && self.validated.worse >= patience
    }

    fn checkpoint(&mut self, model: &TwoTower, cached_items: Vec<u32>) -> Result<(), TrainError> {
        let Some(store) = self.task.checkpoints else { return Ok(()) };
        let state = Progressed {
            step: self.step,
            examples: self.record.examples,
            curves: self.record.curves.clone(),
            losses: self.record.losses.clone(),
            ledger: self.ledger.clone(),
            cached_items,
            best: self.validated.best.as_ref().map(|&(recall, step, _)| (recall, step)),
            worse: self.validated.worse,
            temperature: self.stepper.temperature.state(),
        };
        let best = self.validated.best.as_ref().map(|(_, _, snapshot)| snapshot);
        store.write(&Checkpoint::of(model, &self.stepper, &state, best)?)?;
        self.checkpointed = Instant::now();
        Ok(())
    }

    fn finish(self, model: &mut TwoTower) -> Result<Fitted, TrainError> {
        if self.ledger.has_nothing() {
            let fault = "every negative that was drawn is a known positive of its user, or none was drawn: there is nothing to tell positives from; see [negatives]";
            return Err(TrainError::TooLittleData(fault.into()));
        }
        let examples_per_s = self.record.examples_per_s();
        let kept_steps = match self.validated.best {
            Some((_, step, best)) => {
                best.restore(model)?;
                step
            }
            None => self.step,
        };
        Ok(Fitted {
            examples: self.record.examples,
            steps: self.step,
            kept_steps,
            kept_epochs: self.schedule.epochs(kept_steps),
            seconds: self.seconds,
            cpu_seconds: self.cpu_seconds,
            examples_per_s,
            loss: self.record.final_loss(),
            temperature: self.stepper.temperature.value(),
            negatives: self.ledger.figures(&self.mixture),
            calibration: self.ledger.calibration(&self.feed.batcher.sampler),
            curves: self.record.curves,
        })
    }
}

impl Feed<'_> {
    fn batch(&mut self, schedule: &Schedule, step: u64) -> Result<Batch, TrainError> {
        let examples = self.examples.next(schedule.per_step)?;
        let batch = self.batcher.batch(&examples, step, schedule.hard_share(step));
        if batch.rows() > 0 {
            return Ok(batch);
        }
        Err(TrainError::TooLittleData(format!(
            "the {} sequences of step {step} have no item to predict from those before it: they are of one item, all of one time, \
             or of items that are not in the vocabulary; see training.batch_size, training.history_dropout and vocabulary.min_count",
            examples.len()
        )))
    }
}

impl<'a> FitTask<'a> {
    /// The examples, and about how many rows each of them brings.
    fn examples(&self) -> Result<(Examples<'a>, f64), TrainError> {
        let (log, seed) = (&self.data.log, self.config.seed);
        match self.config.training.examples {
            Unit::Interactions => Ok((Examples::new(log, self.keep, seed, WINDOW_ROWS)?, 1.0)),
            Unit::Sequences => {
                let examples = Examples::of_timelines(log, self.keep, seed, WINDOW_ROWS)?;
                let length = self.encoded.history_length() as u32;
                let users = self.tally.users.iter().filter(|&&count| count > 0);
                let rows: u64 = users.map(|&count| u64::from((count - 1).min(length))).sum();
                let each = rows as f64 / examples.per_epoch() as f64;
                Ok((examples, each.max(1e-3)))
            }
        }
    }

    fn batcher(&self, mixture: Mixture) -> Result<Batcher<'a>, TrainError> {
        let config = self.config;
        let met = (0..).zip(&self.data.first_met).filter(|&(_, &met)| met <= self.tally.end);
        let eligible = met.map(|(item, _)| item).collect();
        Ok(Batcher {
            encoded: self.encoded,
            split: self.data.schema.interactions.split,
            event_weights: self.event_weights(),
            sampler: NegativeSampler::new(&self.tally.items, eligible, &config.negatives),
            private: PrivateSources::new(self.hard, self.exposed(&mixture)?, self.data.catalog.len()),
            columns: ColumnsByItem::new(self.data.catalog.len()),
            cache: Vec::new(),
            mixture,
            config,
        })
    }

    /// An objective without a positive would learn nothing, whatever its loss.
    fn check_objectives(&self) -> Result<(), TrainError> {
        let weights = self.event_weights();
        let learned = |weights: &[f32]| weights.iter().zip(&self.tally.events).any(|(&w, &count)| w > 0.0 && count > 0);
        let nothing = self.config.objectives.iter().zip(&weights).filter(|(_, weights)| !learned(weights));
        let nothing =
            nothing.map(|((name, objective), _)| format!("objectives.{name} ({})", objective.events.join(", ")));
        let nothing: Vec<String> = nothing.collect();
        if nothing.is_empty() {
            return Ok(());
        }
        let (positives, column) = (self.tally.events.iter().sum::<u64>(), &self.data.schema.interactions.event);
        Err(TrainError::TooLittleData(format!(
            "of {positives} positives to learn from none is of {}; does the log have the column `{column}`?",
            nothing.join(" or ")
        )))
    }

    /// By objective, what a positive of each event weighs; without objectives, what the schema says.
    fn event_weights(&self) -> Vec<Vec<f32>> {
        let weights = &self.data.event_weights;
        if self.config.objectives.is_empty() {
            return vec![weights.clone()];
        }
        let events: Vec<&String> = self.data.schema.interactions.events.keys().collect();
        let counts =
            |objective: &[String], place: usize| events.get(place).is_some_and(|event| objective.contains(event));
        let of = |objective: &crate::config::ObjectiveConfig| {
            let weight = |(place, &weight)| if counts(&objective.events, place) { weight } else { 0.0 };
            weights.iter().enumerate().map(weight).collect()
        };
        self.config.objectives.values().map(of).collect()
    }

    fn exposed(&self, mixture: &Mixture) -> Result<Lists<u32>, TrainError> {
        if mixture.exposed <= 0.0 {
            return Ok(Lists::new());
        }
        let users = self.data.users.len();
        let mut all: Vec<Vec<u32>> = vec![Vec::new(); users];
        for partition in 0..self.data.log.partitions() {
            let positives = self.data.log.load(partition)?.retain(self.keep);
            let exposed = self.data.log.load_exposed(partition)?.retain(self.keep);
            let lists = exposed_items(users, &exposed, &positives);
            for (user, list) in all.iter_mut().enumerate() {
                list.extend_from_slice(lists.list(user));
            }
        }
        Ok(all.into_iter().collect())
    }
}
