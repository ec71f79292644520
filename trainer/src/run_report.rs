//! The report of a run, from its summary and a few users to look at.

use crate::{
    data::Data,
    error::TrainError,
    evaluation::{ModelRanker, Query},
    report::{CalibrationPoint, Curve, RankerMetrics, RecalledItem, RunReport, SliceRow, SourceRow, UserExample},
    summary::{Metrics, Slice, Summary},
    top::{Ranked, Top},
};

/// Items shown of a history, and of what is recalled.
const SHOWN: usize = 8;
const RECALLED: usize = 10;

/// Users to look at, and what a model recalls for them.
pub(crate) struct ExampleUsers {
    pub(crate) queries: Vec<Query>,
    pub(crate) recalled: Vec<Vec<Ranked>>,
}

/// All of a run that a person wants to see. When it was made, and of what, is for the caller to say.
pub(crate) fn run_report(data: &Data, summary: &Summary, examples: ExampleUsers) -> RunReport {
    let evaluation = &summary.evaluation;
    let baselines = evaluation.baselines.iter().map(|(name, metrics)| ranker(name, metrics));
    RunReport {
        model_version: summary.model_version.clone(),
        seed: summary.seed,
        config_toml: toml::to_string(&summary.config).unwrap_or_default(),
        rankers: [ranker("model", &evaluation.metrics), ranker("popularity", &evaluation.popularity)]
            .into_iter()
            .chain(baselines)
            .collect(),
        queries: evaluation.counts.queries,
        curves: curves(summary),
        slices: evaluation.slices.iter().map(slice).collect(),
        negatives: negatives(summary),
        calibration: calibration(summary),
        users: examples
            .queries
            .iter()
            .zip(&examples.recalled)
            .map(|(query, recalled)| user(data, query, recalled))
            .collect(),
        stages: ["read", "encode", "train", "evaluate"]
            .iter()
            .filter_map(|&stage| Some((stage.to_owned(), *summary.seconds.get(stage)?)))
            .collect(),
        warnings: evaluation.warnings.clone(),
        ..RunReport::default()
    }
}

fn ranker(name: &str, metrics: &Metrics) -> RankerMetrics {
    RankerMetrics { ranker: name.to_owned(), metrics: metrics.clone() }
}

fn curves(summary: &Summary) -> Vec<Curve> {
    let curves = &summary.curves;
    let named = [
        ("training loss", &curves.loss),
        ("validation recall_at_20", &curves.validation),
        ("temperature", &curves.temperature),
        ("learning rate of rows", &curves.learning_rate),
    ];
    let points = |points: &[(u64, f64)]| points.iter().map(|&(step, value)| (step as f64, value)).collect();
    let shown = named.into_iter().filter(|(name, points)| {
        !points.is_empty() && (*name != "temperature" || summary.config.loss.temperature_learned)
    });
    shown.map(|(name, curve)| Curve { name: name.to_owned(), points: points(curve) }).collect()
}

fn slice(slice: &Slice) -> SliceRow {
    let baselines = slice.baselines.iter().map(|(name, metrics)| ranker(name, metrics));
    let rankers = [ranker("model", &slice.metrics), ranker("popularity", &slice.popularity)];
    SliceRow {
        group: slice.group.clone(),
        name: slice.name.clone(),
        queries: slice.queries,
        rankers: if slice.queries == 0 { Vec::new() } else { rankers.into_iter().chain(baselines).collect() },
    }
}

/// The rows of a report's table of sources.
pub(crate) fn negatives(summary: &Summary) -> Vec<SourceRow> {
    let row = |figures: &crate::engine::SourceFigures| SourceRow {
        source: figures.source.name().to_owned(),
        target_share: figures.target_share,
        realised_share: figures.realised_share,
        loss_share: figures.loss_share.unwrap_or_default(),
        estimated_false_negative_rate: figures.estimated_false_negative_rate,
        hits_masked_share: figures.masked_share.unwrap_or_default(),
    };
    summary.negatives.iter().map(row).collect()
}

/// Frequencies per column.
fn calibration(summary: &Summary) -> Vec<CalibrationPoint> {
    let all: f64 = summary.calibration.iter().map(|p| p.expected * p.items as f64).sum();
    let point = |p: &crate::engine::CalibrationPoint| CalibrationPoint {
        expected_frequency: p.expected / all.max(f64::MIN_POSITIVE),
        observed_frequency: p.observed / all.max(f64::MIN_POSITIVE),
    };
    summary.calibration.iter().map(point).collect()
}

impl ExampleUsers {
    pub(crate) fn new(queries: Vec<Query>, ranker: &ModelRanker<'_>) -> Result<Self, TrainError> {
        let recalled = ranker.each(&queries, |scores, query| {
            query.seen.iter().for_each(|&item| scores[item as usize] = f32::NEG_INFINITY);
            Top::of_scores(scores, RECALLED).finish()
        })?;
        Ok(Self { queries, recalled })
    }
}

fn user(data: &Data, query: &Query, recalled: &[Ranked]) -> UserExample {
    let title = |item: &u32| data.title(*item).to_owned();
    let recalled = recalled.iter().map(|ranked| RecalledItem {
        title: title(&ranked.item),
        score: f64::from(ranked.score),
        hit: query.relevant.contains(&ranked.item),
    });
    UserExample {
        user: data.users[query.user as usize].id.clone(),
        history: query.seen.iter().rev().take(SHOWN).map(title).collect(),
        relevant: query.relevant.iter().take(SHOWN).map(title).collect(),
        relevant_count: query.relevant.len(),
        recalled: recalled.collect(),
    }
}
