//! What a run reports: figures that are true of the very model that it returns.

use std::collections::BTreeMap;

use pagoda_model::bundle::ModelBundle;
use serde::{Deserialize, Serialize};

use crate::{
    config::TrainConfig,
    engine::{CalibrationPoint, Curves, Fitted, SourceFigures},
    mining::{HardPools, MinedFrom},
    train::Clock,
};

/// `recall_at_{10,20,50,100,500}`, `ndcg_at_{10,20,100}` and, over all queries, `coverage_at_100`.
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
    /// The same of all processors together.
    pub cpu_seconds: BTreeMap<String, f64>,
    /// How many threads trained.
    pub threads: usize,
    /// Training examples per second of the last fit.
    pub examples_per_s: f64,
    /// How many examples the last fit trained on, repetitions counted.
    pub examples: u64,
    /// Steps taken by the last fit, and after how many of them the model was that is kept.
    pub steps: u64,
    /// See there.
    pub kept_steps: u64,
    /// The mean loss at the end.
    pub loss: f32,
    /// What cosines were divided by at the end.
    pub temperature: f32,
    /// The negatives as they really came out, by source.
    pub negatives: Vec<SourceFigures>,
    /// Where mined negatives came from.
    pub mined_from: Vec<MinedFrom>,
    /// How often items were columns, as expected and as it was.
    pub calibration: Vec<CalibrationPoint>,
    /// How the run went.
    pub curves: Curves,
    /// The configuration.
    pub config: TrainConfig,
    /// The seed.
    pub seed: u64,
}

/// What a run brought, but for its model.
pub(crate) struct RunFigures<'a> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) evaluation: EvaluationSummary,
    pub(crate) fitted: Fitted,
    pub(crate) hard: Option<&'a HardPools>,
    pub(crate) clock: Clock,
}

impl Summary {
    pub(crate) fn new(bundle: &ModelBundle, run: RunFigures<'_>) -> Self {
        let RunFigures { config, evaluation, fitted, hard, clock } = run;
        Self {
            model_version: bundle.version().to_string(),
            evaluation,
            seconds: clock.seconds,
            cpu_seconds: clock.cpu_seconds,
            threads: rayon::current_num_threads(),
            examples_per_s: fitted.examples_per_s,
            examples: fitted.examples,
            steps: fitted.steps,
            kept_steps: fitted.kept_steps,
            loss: fitted.loss,
            temperature: fitted.temperature,
            negatives: fitted.negatives,
            mined_from: hard.map(|pools| pools.mined_from().to_vec()).unwrap_or_default(),
            calibration: fitted.calibration,
            curves: fitted.curves,
            config: config.clone(),
            seed: config.seed,
        }
    }
}

/// The evaluation of a model: over the full catalog, items already seen removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSummary {
    /// The model's.
    pub metrics: Metrics,
    /// Those of ranking by the number of training positives, by the same protocol.
    pub popularity: Metrics,
    /// Those of other rankers, likewise: `item_knn`, `ease`.
    pub baselines: BTreeMap<String, Metrics>,
    /// The same of parts of the queries.
    pub slices: Vec<Slice>,
    /// What was counted.
    pub counts: Counts,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

impl EvaluationSummary {
    /// A slice by its group and name.
    pub fn slice(&self, group: &str, name: &str) -> Option<&Slice> {
        self.slices.iter().find(|slice| slice.group == group && slice.name == name)
    }
}

/// The metrics of some of the queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// What queries are divided by: `popularity decile`, `history length`, `cold items`, `cold users`; `objective` where there are any.
    pub group: String,
    /// Which of them: `d1`, `6 to 20`, `cold`.
    pub name: String,
    /// How many there were.
    pub queries: u64,
    /// The model's; empty without queries.
    pub metrics: Metrics,
    /// Popularity's.
    pub popularity: Metrics,
    /// Those of other rankers; for an objective, `objective alone`: ranked by its own part of the embedding.
    pub baselines: BTreeMap<String, Metrics>,
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
    /// Positives kept for validation.
    pub validation_positives: u64,
    /// Positives kept for testing.
    pub test_positives: u64,
    /// Test positives of items that their user had already; they are no queries.
    pub repeats: u64,
    /// Queries evaluated.
    pub queries: u64,
    /// Rows of all tables that were left out as bad.
    pub bad_rows: u64,
    /// Rows of the log that were left out because the items' table does not have their item.
    #[serde(default)]
    pub unknown_item_rows: u64,
}
