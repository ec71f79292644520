//! `pagoda mine`: hard negatives from a ranking of the catalog for each user.

mod service;
mod truth;

use std::{fs::File, io::Read, path::Path, time::Instant};

use anyhow::{Context, Result, bail};
use pagoda_dataset::{Dataset, HardNegativesWriter, Limits};
use pagoda_trainer::{
    TrainConfig,
    mining::{Mining, MiningConfig, MiningLog, MiningSummary, ModelRanker, Ranker, ScoresRanker, Window},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::service::ServiceRanker;
pub(crate) use self::truth::TruthRanker;
use super::{
    evaluate::bundle,
    refresh::open_registry_to_read,
    train::{note_misfit, train_config},
};
use crate::{
    cli::{MineArgs, MineSource},
    output::{count, noted, say, say_json},
    progress::Stages,
};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Said {
    #[serde(flatten)]
    mined: MiningSummary,
    #[serde(flatten)]
    asides: Asides,
    /// The file.
    out: String,
    seconds: f64,
}

/// What a source left aside.
#[derive(Debug, Default, Serialize)]
struct Asides {
    /// Rows of the file of scores that are bad.
    bad_rows: u64,
    /// The first of them.
    first_bad_rows: Vec<String>,
    /// Rows of the file of scores for users who were not asked about.
    rows_of_others: u64,
    /// Rows of the file of scores that score an item again for its user; the highest score counts.
    rows_repeated: u64,
    /// Rows of the file of scores, or items that the service ranked, that are of items which the catalog does not have.
    unknown_items: u64,
    /// What a person is told of the rows left out.
    #[serde(skip)]
    notes: Vec<String>,
}

pub(crate) async fn run(args: &MineArgs) -> Result<()> {
    let started = Instant::now();
    check_flags(args)?;
    let config = train_config(&args.layers)?;
    let data = Dataset::open(&args.data)?;
    note_misfit(&args.layers.overlays, &data);
    let out = HardNegativesWriter::create(&args.out)?;
    let mut stages = Stages::new("users");
    let log = MiningLog::read(&data, &config.split, config.seed)?;
    let mining = Mining::new(&log, mining_config(args, &config))?;
    let show = &mut |done, total| stages.show("mine", done, total, String::new());
    let (mined, asides) = match args.source {
        MineSource::Model => by_model(args, &log, &mining, out, show).await?,
        MineSource::Scores => by_scores(args, &log, &mining, out, show)?,
        MineSource::Service => by_service(args, &log, &mining, out, show)?,
        MineSource::Truth => {
            let mut ranker = TruthRanker::new(&data, &log, args.world_seed)?;
            (mine(&mining, &mut ranker, out, show)?, Asides::default())
        }
    };
    stages.end();
    let (out, seconds) = (args.out.display().to_string(), started.elapsed().as_secs_f64());
    let said = Said { mined, asides, out, seconds };
    if args.json {
        return say_json(&said);
    }
    say_words(&said);
    log.left_out().iter().for_each(|text| say(noted(text)));
    Ok(())
}

pub(crate) type Show<'s> = dyn FnMut(u64, u64) + 's;

async fn by_model(
    args: &MineArgs,
    log: &MiningLog,
    mining: &Mining<'_>,
    out: HardNegativesWriter,
    show: &mut Show<'_>,
) -> Result<(MiningSummary, Asides)> {
    let registry = open_registry_to_read(needed(args.store.as_deref(), "--source model", "--store URL")?).await?;
    let bundle = bundle(&registry, args.model.as_deref()).await?;
    let mined = mine(mining, &mut ModelRanker::new(&bundle, log)?, out, show)?;
    Ok((mined, Asides::default()))
}

fn by_scores(
    args: &MineArgs,
    log: &MiningLog,
    mining: &Mining<'_>,
    out: HardNegativesWriter,
    show: &mut Show<'_>,
) -> Result<(MiningSummary, Asides)> {
    let path = needed(args.scores.as_deref(), "--source scores", "--scores FILE")?;
    let mut ranker = ScoresRanker::read(path, &digest(path)?, log, mining, &Limits::default())?;
    let asides = Asides {
        bad_rows: ranker.left_out.bad_rows.count,
        first_bad_rows: ranker.left_out.bad_rows.first.clone(),
        unknown_items: ranker.left_out.unknown_items.rows,
        notes: ranker.left_out.notes().collect(),
        rows_of_others: ranker.rows_of_others,
        rows_repeated: ranker.repeated,
    };
    Ok((mine(mining, &mut ranker, out, show)?, asides))
}

fn by_service(
    args: &MineArgs,
    log: &MiningLog,
    mining: &Mining<'_>,
    out: HardNegativesWriter,
    show: &mut Show<'_>,
) -> Result<(MiningSummary, Asides)> {
    let mut ranker = ServiceRanker::new(&args.service, log)?;
    let mined = mine(mining, &mut ranker, out, show)?;
    let unknown_items = ranker.unknown_items();
    let note = format!("{unknown_items} ranked items are not in the catalog; they were left out");
    let notes = (unknown_items > 0).then_some(note).into_iter().collect();
    Ok((mined, Asides { unknown_items, notes, ..Asides::default() }))
}

/// Ranking takes seconds to hours, and the threads of the runtime must not wait for it.
pub(crate) fn mine(
    mining: &Mining<'_>,
    ranker: &mut dyn Ranker,
    out: HardNegativesWriter,
    show: &mut Show<'_>,
) -> Result<MiningSummary> {
    Ok(tokio::task::block_in_place(|| mining.run(ranker, out, show))?)
}

fn check_flags(args: &MineArgs) -> Result<()> {
    let given = [
        ("--model", args.model.is_some(), MineSource::Model),
        ("--scores", args.scores.is_some(), MineSource::Scores),
        ("--ranker", args.service.ranker.is_some(), MineSource::Service),
        ("--send-items", args.service.send_items, MineSource::Service),
        ("--world-seed", args.world_seed.is_some(), MineSource::Truth),
    ];
    for (flag, given, source) in given {
        if given && source != args.source {
            bail!("{flag} belongs to --source {}, found --source {}", name(source), name(args.source));
        }
    }
    match args.source {
        MineSource::Model => needed(args.store.as_ref(), "--source model", "--store URL").map(drop),
        MineSource::Scores => needed(args.scores.as_ref(), "--source scores", "--scores FILE").map(drop),
        MineSource::Service => needed(args.service.ranker.as_ref(), "--source service", "--ranker URL").map(drop),
        MineSource::Truth => Ok(()),
    }
}

fn name(source: MineSource) -> String {
    format!("{source:?}").to_lowercase()
}

fn needed<T>(value: Option<T>, source: &str, flag: &str) -> Result<T> {
    value.with_context(|| format!("{source} needs {flag}"))
}

fn mining_config(args: &MineArgs, config: &TrainConfig) -> MiningConfig {
    MiningConfig {
        window: Window { top: args.top, from: args.from_rank, to: args.to_rank },
        as_of: args.as_of,
        positive_within_days: args.positive_within,
        users_max: args.users_max,
        seed: config.seed,
    }
}

/// The first 16 digits of a file's SHA-256, as its version.
fn digest(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let (mut file, mut digest, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => digest.update(&buffer[..count]),
            }
        }
        Ok(digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    };
    Ok(format!("sha256:{}", read().with_context(|| format!("cannot read {}", path.display()))?))
}

fn say_words(said: &Said) {
    let Said { mined, asides, out, seconds } = said;
    say(format_args!(
        "{}\n  {} hard negatives of {} users, {} different items, ranks {} to {}",
        out,
        count(mined.rows),
        count(mined.users - mined.users_without),
        count(mined.items),
        mined.from_rank,
        mined.to_rank
    ));
    for (version, rows) in &mined.versions {
        say(format_args!("  {} {version}: {}", mined.source, count(*rows)));
    }
    say(format_args!("  left out as positives of their user: {}", count(mined.positives_left_out)));
    let others = [
        ("users without any", mined.users_without),
        ("rows that score an item again, of which the highest counts", asides.rows_repeated),
        ("rows of users who were not asked about", asides.rows_of_others),
    ];
    for (what, number) in others.into_iter().filter(|&(_, number)| number > 0) {
        say(format_args!("  {what}: {}", count(number)));
    }
    say(format_args!("  {seconds:.1} s"));
    asides.notes.iter().for_each(|text| say(noted(text)));
}
