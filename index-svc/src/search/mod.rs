//! Searches of one snapshot: what may be found is settled once ([`scope`]), then each query ranks it ([`ranking`]).

mod effort;
mod groups;
pub mod live_recall;
mod ranking;
mod scope;
mod searcher;

use std::sync::Arc;

use pagoda_ann::{Parameters, Stop};
use pagoda_commit_log::Lsn;

use self::scope::Scope;
pub use self::searcher::Searcher;
use crate::{
    error::IndexError,
    filter::{Filter, GroupLimit, Predicate},
    generation::Loaded,
    ids::{ItemId, SpaceId},
    snapshot::Snapshot,
};

/// What is asked: one query or several that differ in their embeddings alone.
#[derive(Clone, Debug)]
pub struct Query {
    /// The space of the embeddings.
    pub space: SpaceId,
    /// The user embeddings.
    pub embeddings: Vec<Vec<f32>>,
    /// Whether they came as a batch, in which a fault is named by its position.
    pub is_batch: bool,
    /// How many items are wanted for each.
    pub k: usize,
    /// Items that must not be found, each once.
    pub exclude: Vec<ItemId>,
    /// Which items may be found.
    pub filter: Filter,
    /// At most so many items that share a value.
    pub group_by: Option<GroupLimit>,
    /// Search parameters; 0 means the generation's own.
    pub parameters: Parameters,
    /// Scan everything.
    pub exact: bool,
}

/// What was found, in one snapshot.
#[derive(Clone, Debug)]
pub struct Answer {
    /// For each embedding.
    pub rankings: Vec<Ranking>,
    /// The generation that was searched.
    pub loaded: Loaded,
    /// The position of the snapshot.
    pub lsn: Lsn,
}

/// What was found for one embedding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// Best first, ties by id; at most k.
    pub items: Vec<Found>,
    /// Whether there is nothing beyond these. With groups, only what was looked at is known: where k items were found it may be false although
    /// nothing is left.
    pub exhausted: bool,
}

/// An item that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The item's id.
    pub id: String,
    /// Inner product with the query, higher is better.
    pub score: f32,
    /// Whether it was in the delta rather than in the base.
    pub from_delta: bool,
}

/// Searches a snapshot on the calling thread.
pub fn search(snapshot: &Arc<Snapshot>, query: &Query, stop: Stop<'_>) -> Result<Answer, IndexError> {
    let predicate = scope::bind(snapshot.space(query.space)?, query)?;
    search_bound(snapshot, query, &predicate, stop)
}

/// The same, for a query whose filter is bound already.
fn search_bound(
    snapshot: &Snapshot,
    query: &Query,
    predicate: &Predicate,
    stop: Stop<'_>,
) -> Result<Answer, IndexError> {
    let held = snapshot.space(query.space)?;
    let scope = Scope::new(held, predicate, &query.exclude);
    Ok(Answer { rankings: scope.rank(query, stop)?, loaded: held.loaded().clone(), lsn: snapshot.lsn })
}
