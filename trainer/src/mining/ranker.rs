//! [`Ranker`]: whoever can say which items of the catalog a user likes best.

use std::sync::Arc;

use pagoda_model::Entity;

use crate::top::Ranked;

/// Ranks the catalog for users.
pub trait Ranker {
    /// What ranks, as mined rows say it: `model`, `scores`, `service`, `truth`.
    fn source(&self) -> &str;

    /// How many users it is best asked about at once; at least 1.
    fn block_users(&self) -> usize;

    /// The `top` best items of each user, in the users' order.
    fn rank(&mut self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, RankerError>;
}

/// Why a ranker could not rank; its message names what is wrong.
pub type RankerError = Box<dyn std::error::Error + Send + Sync>;

/// A user as a ranker is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedUser {
    /// The user's place in [`MiningLog::users`](super::MiningLog::users).
    pub place: u32,
    /// The user with all features that were known then, the history among them.
    pub entity: Entity,
    /// The same history by places in the catalog, oldest first.
    pub history: Vec<u32>,
    /// When the ranking is for: a ranker that knows of things later than this second should not use them.
    pub time: i64,
}

/// One user's ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Which version of the ranker made it.
    pub version: Arc<str>,
    /// Best first. Ranks may have gaps, where the ranker named items that are not in the catalog.
    pub items: Vec<Ranked>,
}
