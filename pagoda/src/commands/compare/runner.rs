//! [`Runner`]: trains recipes under one seed, and mines for those that want it. What several of them need is made once.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use anyhow::{Context, Result, anyhow};
use pagoda_dataset::{Dataset, HardNegativesWriter};
use pagoda_model::bundle::ModelBundle;
use pagoda_trainer::{
    Report, TrainConfig, TrainError, Trained,
    mining::{Mining, MiningConfig, MiningLog, ModelRanker},
};
use tempfile::TempDir;

use super::{
    findings::{Outcome, Run},
    recipes::{Mine, MineSource, Recipe},
};
use crate::{
    commands::mine::{TruthRanker, mine},
    output::told,
    progress::Stages,
};

/// Runs under one seed.
pub(super) struct Runner<'a> {
    data: &'a Dataset,
    /// The shared settings, of this seed.
    base: TrainConfig,
    /// Whether a recipe mines from the base model, so that it is kept.
    model_wanted: bool,
    /// The base model, or why there is none; absent as long as it was not trained.
    model: Option<Result<ModelBundle, String>>,
    mined: BTreeMap<Mine, Result<PathBuf, String>>,
    scratch: TempDir,
}

/// Where the whole comparison is.
pub(super) struct Pairs {
    pub(super) stages: Stages,
    pub(super) done: u64,
    pub(super) total: u64,
    /// The recipe and the seed at hand.
    pub(super) pair: String,
}

impl Pairs {
    fn show(&mut self, what: &str, step: u64, total: u64) {
        let percent = 100 * step / total.max(1);
        self.stages.show("compare", self.done, self.total, format!("{}: {what} {percent} %", self.pair));
    }
}

impl<'a> Runner<'a> {
    /// Nothing is trained yet.
    pub(super) fn new(data: &'a Dataset, base: &TrainConfig, seed: u64, recipes: &[Recipe]) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("pagoda-compare-").tempdir()?;
        let model_wanted = recipes.iter().filter_map(|recipe| recipe.mine).any(|mine| mine.source == MineSource::Model);
        let base = TrainConfig { seed, ..base.clone() };
        Ok(Self { data, base, model_wanted, model: None, mined: BTreeMap::new(), scratch })
    }

    /// Trains and evaluates a recipe. A run that fails says why; an error is the end of the whole comparison.
    pub(super) fn run(&mut self, recipe: &Recipe, pairs: &mut Pairs) -> Result<Run> {
        let mut seconds = 0.0;
        match self.outcome(recipe, &mut seconds, pairs) {
            Ok(outcome) => Ok(Run { seconds, result: Ok(outcome) }),
            Err(error) if ends_all(&error) => Err(error),
            Err(error) => Ok(Run { seconds, result: Err(told(&error)) }),
        }
    }

    /// `seconds` are those of training and evaluation, not of mining.
    fn outcome(&mut self, recipe: &Recipe, seconds: &mut f64, pairs: &mut Pairs) -> Result<Outcome> {
        let mut config = TrainConfig { seed: self.base.seed, ..recipe.config.clone() };
        if let Some(mine) = recipe.mine {
            config.negatives.hard_file = self.mined(mine, pairs)?.display().to_string();
        }
        let started = Instant::now();
        let trained = self.train(&config, "", pairs);
        *seconds = started.elapsed().as_secs_f64();
        Ok(Outcome::new(trained?))
    }

    /// The base model is kept, whoever had it trained.
    fn train(&mut self, config: &TrainConfig, what: &str, pairs: &mut Pairs) -> Result<Trained> {
        let mut show = |report: &Report| {
            let stage = format!("{what}{:?}", report.stage).to_lowercase();
            pairs.show(&stage, report.step, report.total);
        };
        let trained = pagoda_trainer::train(self.data, config, None, &mut show).map_err(anyhow::Error::from);
        if self.model_wanted && self.model.is_none() && *config == self.base {
            self.model = match &trained {
                Ok(trained) => Some(Ok(trained.bundle.clone())),
                Err(error) if ends_all(error) => None,
                Err(error) => Some(Err(told(error))),
            };
        }
        trained
    }

    fn mined(&mut self, what: Mine, pairs: &mut Pairs) -> Result<PathBuf> {
        if !self.mined.contains_key(&what) {
            let made = match self.mine(what, pairs) {
                Err(error) if ends_all(&error) => return Err(error),
                made => made.map_err(|error| format!("mining: {}", told(&error))),
            };
            self.mined.insert(what, made);
        }
        self.mined[&what].clone().map_err(anyhow::Error::msg)
    }

    fn mine(&mut self, what: Mine, pairs: &mut Pairs) -> Result<PathBuf> {
        if what.source == MineSource::Model && self.model.is_none() {
            self.train(&self.base.clone(), "base model, ", pairs).context("the base model")?;
        }
        let seed = self.base.seed;
        let log = MiningLog::read(self.data, &self.base.split, seed)?;
        let mining = Mining::new(&log, MiningConfig { window: what.window, seed, ..MiningConfig::default() })?;
        let path = self.scratch.path().join(format!("hard-{}.parquet", self.mined.len()));
        let out = HardNegativesWriter::create(&path)?;
        let show = &mut |done, total| pairs.show("mine", done, total);
        match what.source {
            MineSource::Model => mine(&mining, &mut ModelRanker::new(self.model()?, &log)?, out, show)?,
            MineSource::Truth => mine(&mining, &mut TruthRanker::new(self.data, &log, None)?, out, show)?,
        };
        Ok(path)
    }

    fn model(&self) -> Result<&ModelBundle> {
        match &self.model {
            Some(Ok(model)) => Ok(model),
            Some(Err(why)) => Err(anyhow!("the base model: {why}")),
            None => Err(anyhow!("there is no base model")),
        }
    }
}

/// What would end every other run as well.
fn ends_all(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(TrainError::Dataset(_) | TrainError::Threads(_) | TrainError::Checkpoint { .. })
    )
}
