//! `pagoda train`: both towers from a data directory, evaluated, registered in a store.

use std::{collections::BTreeMap, fs, path::Path, time::SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use pagoda_dataset::Dataset;
use pagoda_registry::{Kind, Registry};
use pagoda_trainer::{
    Checkpoints, EvaluationSummary, EventWriter, Metrics, Preset, Report, Stage, Summary, TrainConfig, Trained,
    report::RunReport,
};
use serde_json::json;

use super::{models::TRAINED_MS, refresh::open_registry};
use crate::{
    addresses::write_whole,
    cli::{Layers, Overlays, TrainArgs},
    output::{count, noted, say, say_json, table},
    progress::Stages,
    store::require_writable,
};

pub(crate) async fn run(args: &TrainArgs) -> Result<()> {
    let config = with_hard(train_config(&args.settings.layers)?, args.settings.hard.as_deref());
    let data = Dataset::open(&args.place.data)?;
    note_misfit(&args.settings.layers.overlays, &data);
    let checkpoints = args.checkpoints.clone().map(|dir| Checkpoints { dir, resume: args.resume });
    let mut board = args.tensorboard.as_deref().map(Board::create).transpose()?;
    require_writable(&args.place.store).await?;
    let mut trained = train(&data, &config, checkpoints.as_ref(), board.as_mut())?;
    let registry = open_registry(&args.place.store).await?;
    let summary = &trained.summary;
    register(&registry, files(&trained)?, &summary.model_version).await?;
    let removed = checkpoints.as_ref().map_or(Ok(()), Checkpoints::remove);
    let drawn = board.map_or(Ok(()), |board| board.finish(summary));
    if let Some(path) = &args.summary {
        write_whole(path, &serde_json::to_vec_pretty(summary)?)?;
    }
    if let Some(path) = &args.report {
        trained.report.title = format!("Two towers on {}", args.place.data.display());
        write_report(&trained.report, path)?;
    }
    if args.json {
        say_json(&trained.summary)?;
    } else {
        say_summary(&trained.summary);
    }
    // The model is registered whatever became of what lies beside it.
    removed?;
    drawn
}

/// Trains with the defaults, registers the model, and says how good it is.
pub(crate) async fn train_and_register(data: &Dataset, registry: &Registry) -> Result<Summary> {
    let trained = train(data, &TrainConfig::default(), None, None)?;
    register(registry, files(&trained)?, &trained.summary.model_version).await?;
    say_summary(&trained.summary);
    Ok(trained.summary)
}

/// The defaults, a preset laid over them, a file laid over both, and a seed.
pub(crate) fn train_config(layers: &Layers) -> Result<TrainConfig> {
    let mut config = laid_over_defaults(&texts(&layers.overlays)?, &layers.overlays)?;
    config.seed = layers.seed.unwrap_or(config.seed);
    Ok(config)
}

/// A preset and a file as TOML, in the order in which they are laid over the defaults.
pub(crate) fn texts(overlays: &Overlays) -> Result<Vec<String>> {
    let preset: Option<Preset> = overlays.preset.as_deref().map(str::parse).transpose().context("--preset")?;
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let file = overlays.config.as_deref().map(read).transpose()?;
    Ok(preset.map(|preset| preset.toml().to_owned()).into_iter().chain(file).collect())
}

/// Lays texts over the defaults, those of `overlays` among them: a fault is told as one of its file.
pub(crate) fn laid_over_defaults(texts: &[String], overlays: &Overlays) -> Result<TrainConfig> {
    let name = overlays.config.as_ref().map_or_else(|| "settings".to_owned(), |path| path.display().to_string());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    TrainConfig::layered(&texts).context(name)
}

/// Says so where a preset is not meant for data like these.
pub(crate) fn note_misfit(overlays: &Overlays, data: &Dataset) {
    let preset: Option<Preset> = overlays.preset.as_deref().and_then(|name| name.parse().ok());
    if let Some(misfit) = preset.and_then(|preset| preset.misfit(data.schema())) {
        eprintln!("{}", noted(&misfit));
    }
}

fn with_hard(mut config: TrainConfig, hard: Option<&Path>) -> TrainConfig {
    if let Some(path) = hard {
        config.negatives.hard_file = path.display().to_string();
    }
    config
}

fn train(
    data: &Dataset,
    config: &TrainConfig,
    checkpoints: Option<&Checkpoints>,
    mut board: Option<&mut Board>,
) -> Result<Trained> {
    let mut stages = Stages::new("");
    let mut report = |report: &Report| {
        show(&mut stages, report);
        if let Some(board) = &mut board {
            board.report(report);
        }
    };
    let trained = pagoda_trainer::train(data, config, checkpoints, &mut report)?;
    stages.end();
    Ok(trained)
}

fn files(trained: &Trained) -> Result<BTreeMap<String, Bytes>> {
    Ok(trained.bundle.to_files()?.into_iter().map(|(name, bytes)| (name, bytes.into())).collect())
}

fn write_report(report: &RunReport, path: &Path) -> Result<()> {
    let mut report = report.clone();
    report.created = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut page = Vec::new();
    report.write_html(&mut page)?;
    write_whole(path, &page)
}

/// A run's curves for TensorBoard.
struct Board {
    events: EventWriter,
    /// The first fault of writing; a run does not end for its curves.
    fault: Option<std::io::Error>,
}

impl Board {
    fn create(dir: &Path) -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let events = EventWriter::create(dir, now).with_context(|| format!("cannot write to {}", dir.display()))?;
        Ok(Self { events, fault: None })
    }

    fn report(&mut self, report: &Report) {
        if report.stage != Stage::Train {
            return;
        }
        let values = [
            ("train/loss", report.loss.map(f64::from)),
            ("train/examples_per_s", report.examples_per_s),
            ("validation/recall_at_20", report.validation),
        ];
        for (tag, value) in values.into_iter().filter_map(|(tag, value)| Some((tag, value?))) {
            self.scalar(tag, report.step, value);
        }
    }

    fn scalar(&mut self, tag: &str, step: u64, value: f64) {
        if let Err(error) = self.events.scalar(tag, step, value) {
            self.fault.get_or_insert(error);
        }
    }

    /// Adds the test figures, and says whether all was written.
    fn finish(mut self, summary: &Summary) -> Result<()> {
        for (name, &value) in &summary.evaluation.metrics {
            self.scalar(&format!("test/{name}"), summary.steps, value);
        }
        self.fault.map_or(Ok(()), |fault| Err(fault).context("TensorBoard's event file"))
    }
}

async fn register(registry: &Registry, files: BTreeMap<String, Bytes>, model_version: &str) -> Result<()> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let said = json!({ TRAINED_MS: since_1970.as_millis() as u64 });
    registry.publish(Kind::Model, model_version, said, files).await?;
    Ok(())
}

/// Shows where the trainer is.
pub(crate) fn show(stages: &mut Stages, report: &Report) {
    let stage = match report.stage {
        Stage::Resume => return stages.line(&format!("resumed at step {} of {}", report.step, report.total)),
        Stage::Read => "read",
        Stage::Encode => "encode",
        Stage::Train => "train",
        Stage::Evaluate => "evaluate",
    };
    let loss = report.loss.map(|loss| format!("loss {loss:.4}"));
    let speed = report.examples_per_s.map(|speed| format!("{} examples/s", count(speed as u64)));
    let validation = report.validation.map(|recall| format!("validation recall_at_20 {recall:.4}"));
    let message = loss.into_iter().chain(validation).chain(speed).collect::<Vec<_>>().join(", ");
    stages.show(stage, report.step, report.total, message);
}

fn say_summary(summary: &Summary) {
    say_evaluation(&summary.evaluation);
    if summary.negatives.len() > 1 {
        say(negatives_table(summary));
    }
    say(format_args!(
        "model {}\n{} examples at {} a second, {} queries over {} items",
        summary.model_version,
        count(summary.examples),
        count(summary.examples_per_s as u64),
        count(summary.evaluation.counts.queries),
        count(summary.evaluation.counts.items)
    ));
}

/// The model's figures beside the baselines', and what a reader must know.
pub(crate) fn say_evaluation(evaluation: &EvaluationSummary) {
    say(metrics_table(evaluation));
    objectives_table(evaluation).iter().for_each(say);
    evaluation.warnings.iter().for_each(|warning| say(noted(warning)));
}

/// The model's figures beside popularity's and the other baselines'.
fn metrics_table(evaluation: &EvaluationSummary) -> comfy_table::Table {
    let figure = |metrics: &Metrics, name: &str| metrics.get(name).map_or("-".into(), |v| format!("{v:.4}"));
    let rows = evaluation.metrics.iter().map(|(name, &model)| {
        let popularity = evaluation.popularity.get(name).copied().unwrap_or(f64::NAN);
        let ratio = if popularity > 0.0 { format!("{:.2}", model / popularity) } else { "-".into() };
        let baselines = evaluation.baselines.values().map(|metrics| figure(metrics, name));
        let own = [name.clone(), format!("{model:.4}"), format!("{popularity:.4}"), ratio];
        (order(name), own.into_iter().chain(baselines).collect::<Vec<_>>())
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    let names = evaluation.baselines.keys().map(String::as_str);
    let header: Vec<&str> = ["metric", "two towers", "popularity", "ratio"].into_iter().chain(names).collect();
    let numbers: Vec<usize> = (1..header.len()).collect();
    table(&header, &numbers, rows.into_iter().map(|(_, row)| row).collect())
}

/// How good the model is at each objective, if it has some: as it is served without weights, and by that objective alone.
fn objectives_table(evaluation: &EvaluationSummary) -> Option<comfy_table::Table> {
    const METRIC: &str = "recall_at_20";
    let figure = |metrics: &Metrics| metrics.get(METRIC).map_or("-".into(), |v| format!("{v:.4}"));
    let slices = evaluation.slices.iter().filter(|slice| slice.group == "objective");
    let rows = slices.map(|slice| {
        let alone = slice.baselines.get("objective alone").map_or("-".into(), figure);
        vec![slice.name.clone(), count(slice.queries), figure(&slice.metrics), alone, figure(&slice.popularity)]
    });
    let rows: Vec<_> = rows.collect();
    let header = ["recall_at_20 by objective", "queries", "two towers", "it alone", "popularity"];
    (!rows.is_empty()).then(|| table(&header, &[1, 2, 3, 4], rows))
}

/// The negatives as they came out.
fn negatives_table(summary: &Summary) -> comfy_table::Table {
    let percent = |share: f64| format!("{:.2}%", 100.0 * share);
    let rows = summary.negatives.iter().map(|figures| {
        vec![
            figures.source.name().to_owned(),
            percent(figures.target_share),
            percent(figures.realised_share),
            figures.loss_share.map_or("-".into(), percent),
            figures.masked_share.map_or("-".into(), percent),
            figures.estimated_false_negative_rate.map_or("-".into(), percent),
        ]
    });
    let header = ["negatives", "asked for", "realised", "of the loss", "masked", "est. false"];
    table(&header, &[1, 2, 3, 4, 5], rows.collect())
}

/// recall first, then ndcg, then coverage, each by k.
fn order(name: &str) -> (usize, u32) {
    let kind = ["recall", "ndcg", "coverage"].iter().position(|kind| name.starts_with(kind)).unwrap_or(3);
    let k = name.rsplit('_').next().and_then(|k| k.parse().ok()).unwrap_or(0);
    (kind, k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_ordered_as_people_read_them() {
        let mut names = ["recall_at_500", "ndcg_at_20", "coverage_at_100", "recall_at_20"];
        names.sort_by_key(|name| order(name));
        assert_eq!(names, ["recall_at_20", "recall_at_500", "ndcg_at_20", "coverage_at_100"]);
    }
}
