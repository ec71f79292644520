//! `pagoda evaluate`: a registered model on a data directory, beside popularity.

use anyhow::{Context, Result, bail};
use pagoda_dataset::Dataset;
use pagoda_model::bundle::ModelBundle;
use pagoda_registry::{Entry, Kind, Registry};
use pagoda_trainer::Report;

use super::{
    refresh::open_registry_to_read,
    train::{note_misfit, say_evaluation, show, train_config},
};
use crate::{
    addresses::write_whole,
    cli::EvaluateArgs,
    output::{count, say, say_json},
    progress::Stages,
};

pub(crate) async fn run(args: &EvaluateArgs) -> Result<()> {
    let config = train_config(&args.layers)?;
    let data = Dataset::open(&args.place.data)?;
    note_misfit(&args.layers.overlays, &data);
    let registry = open_registry_to_read(&args.place.store).await?;
    let bundle = bundle(&registry, args.model.as_deref()).await?;
    let mut stages = Stages::new("");
    let report = &mut |report: &Report| show(&mut stages, report);
    let summary = pagoda_trainer::evaluate(&data, &bundle, &config.evaluate(), report)?;
    stages.end();
    if let Some(path) = &args.summary {
        write_whole(path, &serde_json::to_vec_pretty(&summary)?)?;
    }
    if args.json {
        return say_json(&summary);
    }
    say_evaluation(&summary);
    say(format_args!(
        "model {}\n{} queries over {} items",
        bundle.version(),
        count(summary.counts.queries),
        count(summary.counts.items)
    ));
    Ok(())
}

/// The model bundle of a version, or the newest, having proved itself.
pub(crate) async fn bundle(registry: &Registry, version: Option<&str>) -> Result<ModelBundle> {
    let entry = entry(registry, version).await?;
    let files = registry.fetch(&entry).await?.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
    Ok(ModelBundle::from_files(&files)?)
}

/// The registered model of a version, or the newest.
pub(crate) async fn entry(registry: &Registry, version: Option<&str>) -> Result<Entry> {
    let entries = registry.list(Kind::Model).await?;
    let Some(version) = version else {
        return entries.into_iter().next().context("no model is registered in the store; `pagoda train` makes one");
    };
    let mut labels: Vec<String> = Vec::new();
    for entry in &entries {
        if !labels.contains(&entry.label) {
            labels.push(entry.label.clone());
        }
    }
    match entries.into_iter().find(|entry| entry.label == version) {
        Some(entry) => Ok(entry),
        None => bail!(
            "model {version} is not in the store; it holds {}",
            if labels.is_empty() { "none".into() } else { labels.join(", ") }
        ),
    }
}
