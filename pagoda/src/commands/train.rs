//! `pagoda train`: both towers from a data directory, evaluated, registered in a store.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use bytes::Bytes;
use pagoda_dataset::Dataset;
use pagoda_registry::{Kind, Registry};
use pagoda_trainer::{EvaluationSummary, Report, Stage, Summary, TrainConfig};
use serde_json::json;

use super::refresh::open_registry;
use crate::{
    addresses::write_whole,
    cli::TrainArgs,
    output::{count, say, say_json, table},
    progress::Stages,
};

pub(crate) async fn run(args: &TrainArgs) -> Result<()> {
    let config = config(args)?;
    let data = Dataset::open(&args.place.data)?;
    let (bundle, summary) = train(&data, &config)?;
    let registry = open_registry(&args.place.store).await?;
    register(&registry, bundle, &summary.model_version).await?;
    if let Some(path) = &args.summary {
        write_whole(path, &serde_json::to_vec_pretty(&summary)?)?;
    }
    if args.json {
        return say_json(&summary);
    }
    say_summary(&summary);
    Ok(())
}

/// Trains with the defaults, registers the model, and says how good it is.
pub(crate) async fn train_and_register(data: &Dataset, registry: &Registry) -> Result<Summary> {
    let (bundle, summary) = train(data, &TrainConfig::default())?;
    register(registry, bundle, &summary.model_version).await?;
    say_summary(&summary);
    Ok(summary)
}

fn config(args: &TrainArgs) -> Result<TrainConfig> {
    let mut config = match &args.config {
        None => TrainConfig::default(),
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            TrainConfig::from_toml(&text).with_context(|| path.display().to_string())?
        }
    };
    config.seed = args.seed.unwrap_or(config.seed);
    Ok(config)
}

fn train(data: &Dataset, config: &TrainConfig) -> Result<(BTreeMap<String, Bytes>, Summary)> {
    let mut stages = Stages::new("");
    let trained = pagoda_trainer::train(data, config, &mut |report: &Report| show(&mut stages, report))?;
    stages.end();
    let files = trained.bundle.to_files()?.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
    Ok((files, trained.summary))
}

async fn register(registry: &Registry, files: BTreeMap<String, Bytes>, model_version: &str) -> Result<()> {
    registry.publish(Kind::Model, model_version, json!({}), files).await?;
    Ok(())
}

/// Shows where the trainer is.
pub(crate) fn show(stages: &mut Stages, report: &Report) {
    let stage = match report.stage {
        Stage::Read => "read",
        Stage::Encode => "encode",
        Stage::Train => "train",
        Stage::Evaluate => "evaluate",
    };
    let loss = report.loss.map(|loss| format!("loss {loss:.4}"));
    let speed = report.examples_per_s.map(|speed| format!("{} examples/s", count(speed as u64)));
    let message = loss.into_iter().chain(speed).collect::<Vec<_>>().join(", ");
    stages.show(stage, report.step, report.total, message);
}

fn say_summary(summary: &Summary) {
    say(metrics_table(&summary.evaluation));
    say(format_args!(
        "model {}: {} examples at {} a second, {} queries over {} items",
        summary.model_version,
        count(summary.examples),
        count(summary.examples_per_s as u64),
        count(summary.evaluation.counts.queries),
        count(summary.evaluation.counts.items)
    ));
}

/// The model's figures beside popularity's.
pub(crate) fn metrics_table(evaluation: &EvaluationSummary) -> comfy_table::Table {
    let rows = evaluation.metrics.iter().map(|(name, &model)| {
        let popularity = evaluation.popularity.get(name).copied().unwrap_or(f64::NAN);
        let ratio = if popularity > 0.0 { format!("{:.2}", model / popularity) } else { "-".into() };
        (order(name), vec![name.clone(), format!("{model:.4}"), format!("{popularity:.4}"), ratio])
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    table(&["metric", "two towers", "popularity", "ratio"], &[1, 2, 3], rows.into_iter().map(|(_, row)| row).collect())
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
