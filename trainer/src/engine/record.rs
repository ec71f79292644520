//! [`Record`]: what a run was like, step by step, for progress, the summary and the report.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::progress::{Progress, Report, Stage};

/// Points of a curve, at most about so many.
const POINTS: u64 = 200;

/// Numbers by step.
pub type Points = Vec<(u64, f64)>;

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The mean loss of the steps since the last point.
    pub loss: Points,
    /// recall_at_20 on the validation split.
    pub validation: Points,
    /// What cosines are divided by.
    pub temperature: Points,
    /// The rows' learning rate.
    pub learning_rate: Points,
}

/// The curves so far.
pub(super) struct Record {
    pub(super) curves: Curves,
    /// Examples since the run began, and the losses of the steps since the last point.
    pub(super) examples: u64,
    pub(super) losses: Vec<f32>,
    total: u64,
    started: Instant,
    /// Examples done before this process took over.
    examples_before: u64,
}

/// A step, done.
pub(super) struct Point {
    pub(super) step: u64,
    pub(super) rows: usize,
    pub(super) loss: f32,
    pub(super) temperature: f32,
    pub(super) learning_rate: f64,
}

impl Record {
    /// Of so many steps, going on from what was recorded before.
    pub(super) fn new(total: u64, curves: Curves, examples: u64, losses: Vec<f32>) -> Self {
        Self { curves, examples, losses, total, started: Instant::now(), examples_before: examples }
    }

    /// Whether a step ends with a point.
    pub(super) fn is_point(&self, step: u64) -> bool {
        let done = step + 1;
        done.is_multiple_of(self.total.div_ceil(POINTS)) || done == self.total
    }

    /// Takes down a step.
    pub(super) fn push(&mut self, point: &Point, progress: &mut dyn Progress) {
        self.losses.push(point.loss);
        self.examples += point.rows as u64;
        if !self.is_point(point.step) {
            return;
        }
        let done = point.step + 1;
        let loss = self.losses.iter().sum::<f32>() / self.losses.len() as f32;
        self.losses.clear();
        self.curves.loss.push((done, f64::from(loss)));
        self.curves.temperature.push((done, f64::from(point.temperature)));
        self.curves.learning_rate.push((done, point.learning_rate));
        let examples_per_s = Some(self.examples_per_s());
        let validation = self.curves.validation.last().map(|&(_, recall)| recall);
        let report =
            Report { loss: Some(loss), examples_per_s, validation, ..Report::of(Stage::Train, done, self.total) };
        progress.report(&report);
    }

    /// Of this process, since it began or took over.
    pub(super) fn examples_per_s(&self) -> f64 {
        (self.examples - self.examples_before) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// The mean loss of the last tenth of the points.
    pub(super) fn final_loss(&self) -> f32 {
        let count = self.curves.loss.len();
        let last = &self.curves.loss[count - count.div_ceil(10).min(count)..];
        (last.iter().map(|&(_, loss)| loss).sum::<f64>() / last.len().max(1) as f64) as f32
    }
}
