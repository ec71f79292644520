//! The demo's numbers.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use pagoda_trainer::{EvaluationSummary, Metrics};
use serde::Serialize;

use super::{born::Born, latency::Latencies, pairs};
use crate::output::say;

/// What `--summary` writes. Absent figures were not reached.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) recall_at_100: Option<f64>,
    pub(super) popularity_recall_at_100: Option<f64>,
    pub(super) ann_recall_at_100: Option<f64>,
    /// One caller, k = 100.
    pub(super) recall_p50_ms: Option<f64>,
    pub(super) recall_p99_ms: Option<f64>,
    pub(super) born: Option<Born>,
    /// Wall seconds a stage.
    pub(super) seconds: BTreeMap<&'static str, f64>,
}

impl Summary {
    /// Takes the figures of the trained model and of popularity from the training's summary.
    pub(super) fn take_metrics(&mut self, evaluation: &EvaluationSummary) -> Result<()> {
        let figure = |of: &Metrics| of.get("recall_at_100").copied().context("the evaluation has no recall_at_100");
        self.recall_at_100 = Some(figure(&evaluation.metrics)?);
        self.popularity_recall_at_100 = Some(figure(&evaluation.popularity)?);
        Ok(())
    }

    pub(super) fn take_latencies(&mut self, latencies: &[Latencies]) {
        let alone = latencies.iter().find(|l| l.callers == 1);
        self.recall_p50_ms = alone.map(|l| l.p50_ms);
        self.recall_p99_ms = alone.map(|l| l.p99_ms);
    }

    /// Prints where the time went.
    pub(super) fn say(&self) {
        let order = ["generate", "train", "start", "refresh", "born", "latency", "total"];
        let rows = order.iter().filter_map(|s| self.seconds.get(s).map(|t| vec![(*s).to_owned(), format!("{t:.1}")]));
        say("");
        say(pairs(rows.collect(), ["stage", "seconds"]));
    }
}
