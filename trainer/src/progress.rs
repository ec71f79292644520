//! How a run tells of itself; bars and log lines are the caller's.

use serde::Serialize;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the tables.
    Read,
    /// Learning vocabularies and encoding features; steps are entities.
    Encode,
    /// Going on from a checkpoint; reported once, the steps being the batches that were done before.
    Resume,
    /// Fitting; steps are batches.
    Train,
    /// Evaluating; steps are queries.
    Evaluate,
}

/// One report. Within a stage steps rise; the last report of a stage has `step == total`, but for [`Stage::Resume`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What is being done.
    pub stage: Stage,
    /// How far it is.
    pub step: u64,
    /// How far it will go.
    pub total: u64,
    /// The mean loss of the latest steps, while training.
    pub loss: Option<f32>,
    /// Examples per second since the stage began, while training.
    pub examples_per_s: Option<f64>,
    /// The latest recall_at_20 on the validation split, while training.
    pub validation: Option<f64>,
}

/// Hears reports.
pub trait Progress: Send {
    /// Called at most some hundred times a stage, always from one thread, though not that of the caller.
    fn report(&mut self, report: &Report);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _: &Report) {}
}

impl<F: FnMut(&Report) + Send> Progress for F {
    fn report(&mut self, report: &Report) {
        self(report);
    }
}

impl Report {
    /// A report of a stage without a loss.
    pub(crate) fn of(stage: Stage, step: u64, total: u64) -> Self {
        Self { stage, step, total, loss: None, examples_per_s: None, validation: None }
    }
}
