//! What a run reports: figures that are true of the very model that it returns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;

/// `recall_at_{20,50,100,500}`, `ndcg_at_{20,100}` and, over all queries, `coverage_at_100`.
pub type Metrics = BTreeMap<String, f64>;

/// The summary of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The model version, as `space/revision`.
    pub model_version: String,
    /// The evaluation of the model.
    #[serde(flatten)]
    pub evaluation: EvaluationSummary,
    /// Seconds per stage: `read`, `encode`, `train`, `evaluate`.
    pub seconds: BTreeMap<String, f64>,
    /// Training examples per second of the stage `train`.
    pub examples_per_s: f64,
    /// How many examples were trained on, repetitions counted.
    pub examples: u64,
    /// The mean loss of the last tenth of the steps.
    pub loss: f32,
    /// The configuration.
    pub config: TrainConfig,
    /// The seed.
    pub seed: u64,
}

/// The evaluation of a model: over the full catalog, items already seen removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSummary {
    /// The model's.
    pub metrics: Metrics,
    /// Those of ranking by the number of training positives, by the same protocol.
    pub popularity: Metrics,
    /// The same of parts of the queries: `cold_users` (without history), `cold_items` (a relevant item without training positives).
    pub slices: BTreeMap<String, Slice>,
    /// What was counted.
    pub counts: Counts,
}

/// The metrics of some of the queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// How many there were.
    pub queries: u64,
    /// The model's; empty without queries.
    pub metrics: Metrics,
    /// Popularity's.
    pub popularity: Metrics,
}

/// What the data held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Users in the log.
    pub users: u64,
    /// Items of the table and the log.
    pub items: u64,
    /// Positives trained on.
    pub train_positives: u64,
    /// Positives kept for testing.
    pub test_positives: u64,
    /// Test positives of items that their user had already; they are no queries.
    pub repeats: u64,
    /// Queries evaluated.
    pub queries: u64,
    /// Rows of all tables that were left out as bad.
    pub bad_rows: u64,
}
