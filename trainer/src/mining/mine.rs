//! [`Mining`]: the walk from a log and a ranker to a file of hard negatives.

use std::collections::BTreeMap;

use pagoda_dataset::{HardNegative, HardNegativesWriter};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{AskedUser, MiningLog, Ranker, Ranking, Window};
use crate::{data::Timeline, error::TrainError};

const SECONDS_PER_DAY: i64 = 86_400;

/// What to mine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MiningConfig {
    /// Which ranks are taken.
    pub window: Window,
    /// The time (seconds since the Unix epoch) that rankings are made for: users have done what they did strictly before. None: the end of
    /// the training part.
    pub as_of: Option<i64>,
    /// Items that turn positive within so many days from that time are never taken. None: nor those that do so later in the training part.
    /// Items that were positive before it are never taken in any case.
    pub positive_within_days: Option<u32>,
    /// At most so many users, drawn by the seed. None: all that training has examples of.
    pub users_max: Option<usize>,
    /// Draws the users.
    pub seed: u64,
}

/// What was mined.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MiningSummary {
    /// Users who were ranked for.
    pub users: u64,
    /// Those of them of whom nothing was taken.
    pub users_without: u64,
    /// Rows written: pairs of a user and a hard negative.
    pub rows: u64,
    /// Different items among them.
    pub items: u64,
    /// Items of the window that were left out as positives of their user.
    pub positives_left_out: u64,
    /// What ranked.
    pub source: String,
    /// Rows by version of the ranker.
    pub versions: BTreeMap<String, u64>,
    /// How many items were asked of the ranker.
    pub top: usize,
    /// The first rank taken.
    pub from_rank: usize,
    /// The last.
    pub to_rank: usize,
    /// The time that rankings were made for, in seconds since the Unix epoch.
    pub as_of: i64,
}

/// A log, what to mine of it, and the users that are asked about.
#[derive(Debug)]
pub struct Mining<'a> {
    log: &'a MiningLog,
    config: MiningConfig,
    users: Vec<u32>,
}

impl<'a> Mining<'a> {
    /// Checks the configuration and draws the users.
    pub fn new(log: &'a MiningLog, config: MiningConfig) -> Result<Self, TrainError> {
        config.window.validate()?;
        if config.window.from > log.catalog().len() {
            return Err(TrainError::Mining(format!(
                "the window: expected a first rank that a catalog of {} items has, found {}",
                log.catalog().len(),
                config.window.from
            )));
        }
        let mut users = log.trained_users();
        if let Some(count) = config.users_max.filter(|&count| count < users.len()) {
            let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
            let mut chosen = index::sample(&mut rng, users.len(), count).into_vec();
            chosen.sort_unstable();
            users = chosen.into_iter().map(|i| users[i]).collect();
        }
        if users.is_empty() {
            return Err(TrainError::Mining("there is no user to mine for: expected at least one".into()));
        }
        Ok(Self { log, config, users })
    }

    /// The users that are asked about, by their places in the log, ascending.
    pub fn users(&self) -> &[u32] {
        &self.users
    }

    /// How many items are asked of the ranker.
    pub fn top(&self) -> usize {
        self.config.window.top
    }

    /// The time that rankings are made for.
    pub fn as_of(&self) -> i64 {
        self.config.as_of.unwrap_or(self.log.end())
    }

    /// Asks the ranker, block by block, and writes what is taken; `progress` is told how many of how many users are done. The file
    /// takes its place only when all is well and there is something in it.
    pub fn run(
        &self,
        ranker: &mut dyn Ranker,
        out: HardNegativesWriter,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<MiningSummary, TrainError> {
        let mut tally = Tally::new(self.log.catalog().len(), out);
        progress(0, self.users.len() as u64);
        for partition in 0..self.log.partitions() {
            let positives = self.log.positives(partition)?;
            let drawn: Vec<Timeline<'_>> =
                positives.iter().filter(|timeline| self.users.binary_search(&timeline.user).is_ok()).collect();
            for block in drawn.chunks(ranker.block_users().max(1)) {
                self.mine_block(block, ranker, &mut tally)?;
                progress(tally.users, self.users.len() as u64);
            }
        }
        let summary = self.summary(&tally, ranker.source());
        if summary.rows == 0 {
            return Err(TrainError::Mining(self.nothing(&summary)));
        }
        tally.out.finish()?;
        Ok(summary)
    }

    fn mine_block(&self, users: &[Timeline<'_>], ranker: &mut dyn Ranker, tally: &mut Tally) -> Result<(), TrainError> {
        let asked: Vec<AskedUser> = users.iter().map(|positives| self.log.asked(positives, self.as_of())).collect();
        let rankings = ranker.rank(&asked, self.top()).map_err(TrainError::Ranker)?;
        if rankings.len() != asked.len() {
            let fault = format!("asked for {} rankings, got {}", asked.len(), rankings.len());
            return Err(TrainError::Ranker(fault.into()));
        }
        let mut pairs = users.iter().zip(&rankings);
        pairs.try_for_each(|(positives, ranking)| self.write(positives, ranking, ranker.source(), tally))
    }

    fn write(
        &self,
        positives: &Timeline<'_>,
        ranking: &Ranking,
        source: &str,
        tally: &mut Tally,
    ) -> Result<(), TrainError> {
        let mut liked = positives.before(self.positive_until()).to_vec();
        liked.sort_unstable();
        let (taken, left_out) = self.config.window.take(&ranking.items, &liked);
        let (user, version) = (&self.log.users()[positives.user as usize].id, &*ranking.version);
        for item in &taken {
            let id = &self.log.catalog()[item.item as usize].id;
            tally.out.push(&HardNegative { user, item: id, rank: item.rank, score: item.score, source, version })?;
            tally.items[item.item as usize] = true;
        }
        tally.users += 1;
        tally.users_without += u64::from(taken.is_empty());
        tally.positives_left_out += left_out;
        if !taken.is_empty() {
            *tally.versions.entry(version.to_owned()).or_default() += taken.len() as u64;
        }
        Ok(())
    }

    /// From here on a positive does not count against an item.
    fn positive_until(&self) -> i64 {
        let days = self.config.positive_within_days;
        days.map_or(i64::MAX, |days| self.as_of().saturating_add(i64::from(days) * SECONDS_PER_DAY))
    }

    fn summary(&self, tally: &Tally, source: &str) -> MiningSummary {
        let Window { top, from, to } = self.config.window;
        MiningSummary {
            users: tally.users,
            users_without: tally.users_without,
            rows: tally.versions.values().sum(),
            items: tally.items.iter().filter(|&&mined| mined).count() as u64,
            positives_left_out: tally.positives_left_out,
            source: source.to_owned(),
            versions: tally.versions.clone(),
            top,
            from_rank: from,
            to_rank: to,
            as_of: self.as_of(),
        }
    }

    fn nothing(&self, summary: &MiningSummary) -> String {
        let Window { from, to, .. } = self.config.window;
        format!(
            "nothing was mined: none of {} users has an item at the ranks {from} to {to} of its ranking ({} were positives); the ranker ranks too few items, or for other users",
            summary.users, summary.positives_left_out
        )
    }
}

/// The file, and counts of what goes into it.
struct Tally {
    out: HardNegativesWriter,
    users: u64,
    users_without: u64,
    positives_left_out: u64,
    versions: BTreeMap<String, u64>,
    items: Vec<bool>,
}

impl Tally {
    fn new(catalog: usize, out: HardNegativesWriter) -> Self {
        let (users, users_without, positives_left_out, versions) = (0, 0, 0, BTreeMap::new());
        Self { out, users, users_without, positives_left_out, versions, items: vec![false; catalog] }
    }
}
