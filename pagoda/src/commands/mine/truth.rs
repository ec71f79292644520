//! The god model as a ranker: the true preferences of the world that a data directory was generated from.

use std::sync::Arc;

use anyhow::{Result, bail};
use pagoda_dataset::{Dataset, Limits};
use pagoda_simulator::{Config, UnreadableWorld, World};
use pagoda_trainer::mining::{AskedUser, MiningLog, Ranker, RankerError, Ranking, Top};

const BLOCK_USERS: usize = 64;

/// Ranks by the probability of a click at the time that is asked for.
pub(crate) struct TruthRanker {
    world: World,
    /// The item's place in the world's catalog, by its place in the log's.
    places: Vec<usize>,
    version: Arc<str>,
}

impl TruthRanker {
    /// The world that the directory's own note names, or one of a seed; the items must be told of as that world tells of them.
    pub(crate) fn new(data: &Dataset, log: &MiningLog, seed: Option<u64>) -> Result<Self> {
        let config = config(data, log, seed)?;
        let world = World::new(config)?;
        let mut places = Vec::with_capacity(log.catalog().len());
        for item in log.catalog() {
            match world.place_of_item(&item.id) {
                Some(place) if world.tells(item) => places.push(place),
                _ => bail!(
                    "{}: item `{}` is not as the world of seed {} and {} items has it; expected the data as it was generated",
                    data.items_file().display(),
                    item.id,
                    config.seed,
                    config.items
                ),
            }
        }
        Ok(Self { world, places, version: config.seed.to_string().into() })
    }

    fn ranking(&self, user: &AskedUser, top: usize) -> Result<Ranking, RankerError> {
        let preferences = self.world.true_preferences_at(&user.entity.id, user.time);
        let preferences =
            preferences.ok_or_else(|| format!("user `{}` is not of the generated world", user.entity.id))?;
        let mut best = Top::new(top);
        for (&place, item) in self.places.iter().zip(0..) {
            best.push(item, preferences[place] as f32);
        }
        Ok(Ranking { version: self.version.clone(), items: best.finish() })
    }
}

/// What the directory says of its world; of a seed without that, the sizes follow from the tables.
fn config(data: &Dataset, log: &MiningLog, seed: Option<u64>) -> Result<Config> {
    match (Config::of_directory(data.dir()), seed) {
        (Ok(config), seed) => Ok(Config { seed: seed.unwrap_or(config.seed), ..config }),
        (Err(UnreadableWorld::Missing(_)), Some(seed)) => {
            let users = data.read_users(&Limits::default())?.entities.len();
            Ok(Config { users, items: log.catalog().len(), seed, ..Config::default() })
        }
        (Err(error), _) => Err(error.into()),
    }
}

impl Ranker for TruthRanker {
    fn source(&self) -> &str {
        "truth"
    }

    fn block_users(&self) -> usize {
        BLOCK_USERS
    }

    fn rank(&mut self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, RankerError> {
        users.iter().map(|user| self.ranking(user, top)).collect()
    }
}
