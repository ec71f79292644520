//! `pagoda compare` and `pagoda compare-negatives`: the same model under several recipes and seeds, side by side.

mod findings;
mod recipes;
mod runner;
mod table;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use pagoda_dataset::Dataset;
use pagoda_trainer::{TrainConfig, report::ComparisonReport};

use self::{
    findings::{Findings, Run},
    recipes::normal,
    runner::{Pairs, Runner},
};
use crate::{
    addresses::write_whole,
    cli::CompareRuns,
    commands::train::{laid_over_defaults, note_misfit, texts},
    output::{noted, say, say_json},
    progress::Stages,
};

/// Rankers other than the model and popularity are the same for all recipes, and take their time.
const NO_BASELINES: &str = "[evaluation]\nbaselines = []";

pub(crate) fn run(recipes: &str, args: &CompareRuns) -> Result<()> {
    let text = recipes::text(recipes)?;
    if args.print_recipes {
        say(text.trim_end());
        return Ok(());
    }
    check_seeds(&args.seeds)?;
    let layers = [vec![NO_BASELINES.to_owned()], texts(&args.shared)?].concat();
    let base = normal(laid_over_defaults(&layers, &args.shared)?);
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let read = recipes::read(&text, &layers).with_context(|| format!("recipes of {recipes}"))?;
    let chosen = recipes::only(read, &args.only)?;
    let dir = args.data.as_deref().context("--data DIR is needed")?;
    let data = Dataset::open(dir)?;
    note_misfit(&args.shared, &data);
    let findings = Findings {
        title: format!("{recipes} on {}", dir.display()),
        config_toml: toml::to_string(&base)?,
        seeds: &args.seeds,
        recipes: &chosen,
        runs: chosen.iter().map(|_| Vec::new()).collect(),
    };
    let findings = tokio::task::block_in_place(|| compare(findings, &data, &base, args.out.as_deref()))?;
    tell(&findings, args)
}

/// Every recipe under a seed, then under the next: what recipes share is made once for a seed. What was found is written after each run.
fn compare<'a>(
    mut findings: Findings<'a>,
    data: &Dataset,
    base: &TrainConfig,
    out: Option<&Path>,
) -> Result<Findings<'a>> {
    let total = (findings.recipes.len() * findings.seeds.len()) as u64;
    let mut pairs = Pairs { stages: Stages::new("runs"), done: 0, total, pair: String::new() };
    for &seed in findings.seeds {
        let mut runner = Runner::new(data, base, seed, findings.recipes)?;
        for (at, recipe) in findings.recipes.iter().enumerate() {
            pairs.pair = format!("{}, seed {seed}", recipe.name);
            let run = runner.run(recipe, &mut pairs)?;
            pairs.done += 1;
            pairs.stages.line(&line(&pairs.pair, &run));
            findings.runs[at].push(run);
            if let Some(dir) = out {
                write(&findings.report(), dir)?;
            }
        }
    }
    pairs.stages.end();
    Ok(findings)
}

fn line(pair: &str, run: &Run) -> String {
    match &run.result {
        Ok(outcome) => {
            let recall = outcome.metrics.get("recall_at_20").copied().unwrap_or(f64::NAN);
            format!("{pair}: recall_at_20 {recall:.4}, {:.1} s", run.seconds)
        }
        Err(why) => format!("{pair}: {why}"),
    }
}

fn tell(findings: &Findings<'_>, args: &CompareRuns) -> Result<()> {
    let report = findings.report();
    if args.json {
        say_json(&report)?;
    } else {
        say_words(&report, args.out.as_deref());
    }
    if findings.all_failed() {
        bail!("no run has a result; the first: {}", table::failures(&report).first().map_or("", String::as_str));
    }
    Ok(())
}

fn say_words(report: &ComparisonReport, out: Option<&Path>) {
    let seeds: Vec<String> = report.seeds.iter().map(u64::to_string).collect();
    say(table::table(report));
    say(format_args!("mean and min-max over the seeds {}; * the best mean; s: seconds a run", seeds.join(", ")));
    table::failures(report).iter().for_each(say);
    report.warnings.iter().for_each(|warning| say(noted(warning)));
    if let Some(dir) = out {
        say(format_args!("{} and comparison.json", dir.join("comparison.html").display()));
    }
}

fn write(report: &ComparisonReport, dir: &Path) -> Result<()> {
    let mut page = Vec::new();
    report.write_html(&mut page)?;
    write_whole(&dir.join("comparison.html"), &page)?;
    write_whole(&dir.join("comparison.json"), &serde_json::to_vec_pretty(report)?)
}

fn check_seeds(seeds: &[u64]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match seeds.iter().find(|seed| !seen.insert(**seed)) {
        Some(seed) => bail!("--seeds: expected each seed once, found {seed} twice"),
        None => Ok(()),
    }
}
