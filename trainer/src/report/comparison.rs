//! The report of several recipes under several seeds, as plain data.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Deserializer, Serialize};

use super::{comparison_page, run::SourceRow};
use crate::summary::Metrics;

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComparisonReport {
    /// What was compared on what, for a person.
    pub title: String,
    /// When it ended, RFC 3339.
    pub created: String,
    /// The seeds, in the order of each recipe's figures.
    pub seeds: Vec<u64>,
    /// Which metrics are shown, the one to judge by first.
    pub metrics: Vec<String>,
    /// What was compared.
    pub recipes: Vec<Recipe>,
    /// Test metrics of ranking by popularity under the first seed, to measure all recipes by; empty if it is not known.
    #[serde(default)]
    pub popularity: Metrics,
    /// The configuration that all share, as TOML.
    pub config_toml: String,
    /// Whatever a reader must know before trusting the figures.
    pub warnings: Vec<String>,
}

/// One recipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What it does otherwise than the others.
    pub description: String,
    /// What it states otherwise than the configuration that all share, as TOML.
    #[serde(default)]
    pub config_toml: String,
    /// Test metrics by name: one figure per seed; of a run without a result NaN, which is `null` in JSON.
    #[serde(deserialize_with = "figures")]
    pub figures: BTreeMap<String, Vec<f64>>,
    /// The sources of negatives, of the first seed.
    pub negatives: Vec<SourceRow>,
    /// Seconds of training and evaluation, per seed.
    pub seconds: Vec<f64>,
    /// Of each run without a result, its seed and why.
    #[serde(default)]
    pub failures: Vec<String>,
}

/// Figures of several seeds in brief.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The sample's standard deviation; none of a single figure.
    pub standard_deviation: Option<f64>,
}

impl ComparisonReport {
    /// Writes the page.
    pub fn write_html(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(comparison_page::page(self).into_string().as_bytes())
    }

    /// The recipe with the highest mean.
    pub fn best(&self, metric: &str) -> Option<usize> {
        let means = self.recipes.iter().enumerate().filter_map(|(at, recipe)| Some((at, recipe.spread(metric)?.mean)));
        means.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|(at, _)| at)
    }
}

impl Recipe {
    /// A metric's, over the finite figures; none without any.
    pub fn spread(&self, metric: &str) -> Option<Spread> {
        Spread::of(self.figures.get(metric)?)
    }
}

impl Spread {
    /// Of the finite figures; none without any.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let figures: Vec<f64> = figures.iter().copied().filter(|figure| figure.is_finite()).collect();
        let count = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / count;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        (!figures.is_empty()).then(|| Self {
            mean,
            min: figures.iter().copied().fold(f64::INFINITY, f64::min),
            max: figures.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            standard_deviation: (figures.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        })
    }
}

fn figures<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Vec<f64>>, D::Error> {
    let figures: BTreeMap<String, Vec<Option<f64>>> = Deserialize::deserialize(from)?;
    let of_seeds = |values: Vec<Option<f64>>| values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
    Ok(figures.into_iter().map(|(name, values)| (name, of_seeds(values))).collect())
}
