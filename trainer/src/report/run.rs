//! The report of one run, as plain data.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

use super::run_page;
use crate::summary::Metrics;

/// What one run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// What was trained on what, for a person.
    pub title: String,
    /// The model version, as `space/revision`.
    pub model_version: String,
    /// When the run ended, RFC 3339.
    pub created: String,
    /// The seed.
    pub seed: u64,
    /// The whole configuration, as TOML.
    pub config_toml: String,
    /// Test metrics of the model, which is the first, and of the baselines.
    pub rankers: Vec<RankerMetrics>,
    /// How many queries these are the means over.
    pub queries: u64,
    /// What was recorded during training.
    pub curves: Vec<Curve>,
    /// The same metrics over parts of the queries; a group's rows are neighbours.
    pub slices: Vec<SliceRow>,
    /// The sources of negatives.
    pub negatives: Vec<SourceRow>,
    /// How often items were drawn as negatives.
    pub calibration: Vec<CalibrationPoint>,
    /// A few users, and what is recalled for them.
    pub users: Vec<UserExample>,
    /// Seconds by stage, in the order in which the stages ran.
    pub stages: Vec<(String, f64)>,
    /// Whatever a reader must know before trusting the figures.
    pub warnings: Vec<String>,
}

/// One ranker's metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankerMetrics {
    /// `model`, `popularity`, `item_knn`, `ease`.
    pub ranker: String,
    /// By name, such as `recall_at_20`.
    pub metrics: Metrics,
}

/// One figure over the steps of training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Such as `training loss`, `validation recall_at_20`, `temperature`, `learning rate`.
    pub name: String,
    /// Step and value, by ascending step.
    pub points: Vec<(f64, f64)>,
}

/// Metrics over some of the queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SliceRow {
    /// What the queries are divided by, such as `popularity decile`.
    pub group: String,
    /// Which of them these are, such as `d1`.
    pub name: String,
    /// How many.
    pub queries: u64,
    /// By ranker, in the order of [`RunReport::rankers`]; empty without queries.
    pub rankers: Vec<RankerMetrics>,
}

/// One source of negatives. Shares are in 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceRow {
    /// Its name in `[negatives]`.
    pub source: String,
    /// Its share of the negatives, as configured.
    pub target_share: f64,
    /// Its share of the negatives that the loss met, over the whole run.
    pub realised_share: f64,
    /// Its share of the negatives' part of the loss.
    pub loss_share: f64,
    /// The estimated share of its negatives that turn positive later, where it was estimated.
    pub estimated_false_negative_rate: Option<f64>,
    /// The share of its draws that were accidental hits, and so were masked.
    pub hits_masked_share: f64,
}

/// Items that a sampler should draw equally often, and how often it did; both per draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// By the configured mixture.
    pub expected_frequency: f64,
    /// As counted.
    pub observed_frequency: f64,
}

/// One user of the test queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserExample {
    /// The id.
    pub user: String,
    /// Titles of the latest items of the history, the newest first.
    pub history: Vec<String>,
    /// Titles of the first relevant items.
    pub relevant: Vec<String>,
    /// How many relevant items there are.
    pub relevant_count: usize,
    /// The first candidates, the best first.
    pub recalled: Vec<RecalledItem>,
}

/// One candidate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecalledItem {
    /// Its title, or its id.
    pub title: String,
    /// The cosine of user and item.
    pub score: f64,
    /// Whether it is relevant.
    pub hit: bool,
}

impl RunReport {
    /// Writes the page.
    pub fn write_html(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(run_page::page(self).into_string().as_bytes())
    }

    /// The seconds of all stages.
    pub(super) fn seconds(&self) -> f64 {
        self.stages.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Slices by group, in the order of the first row of each.
    pub(super) fn groups(&self) -> Vec<(&str, Vec<&SliceRow>)> {
        let mut groups: Vec<(&str, Vec<&SliceRow>)> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.slices {
            let place = *places.entry(&row.group).or_insert(groups.len());
            if place == groups.len() {
                groups.push((&row.group, Vec::new()));
            }
            groups[place].1.push(row);
        }
        groups
    }
}
