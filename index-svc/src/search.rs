//! One search of one snapshot: the base under its living rows, the delta exactly, merged.

use std::{cmp::Ordering, sync::Arc};

use pagoda_ann::{Hit, Kind, Parameters, check_vector, scan, score_rows};
use pagoda_server::status::Violation;
use tokio::sync::Semaphore;

use crate::{
    error::IndexError,
    generation::blocking,
    ids::{ItemId, SpaceId},
    replica::Current,
    snapshot::{HeldSpace, Snapshot},
};

/// Where fewer than one in so many rows may be found, scanning just those is faster than an index, and exact.
const SCAN_ONE_IN: usize = 10;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query {
    /// The space of the embedding.
    pub space: SpaceId,
    /// The user embedding.
    pub embedding: Vec<f32>,
    /// How many items are wanted.
    pub k: usize,
    /// Items that must not be found, each once.
    pub exclude: Vec<ItemId>,
    /// Search parameters; 0 means the generation's own.
    pub parameters: Parameters,
    /// Scan everything.
    pub exact: bool,
}

/// What was found, in one snapshot.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Best first, ties by id; at most k.
    pub items: Vec<Found>,
    /// Whether there is nothing beyond these.
    pub exhausted: bool,
    /// The snapshot that was searched.
    pub snapshot: Arc<Snapshot>,
}

/// An item that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The item.
    pub id: ItemId,
    /// Inner product with the query, higher is better.
    pub score: f32,
    /// Whether it was in the delta rather than in the base.
    pub from_delta: bool,
}

/// Runs searches off the async threads, a bounded number at once.
#[derive(Clone, Debug)]
pub struct Searcher {
    current: Current,
    permits: Arc<Semaphore>,
}

impl Searcher {
    /// A searcher of the current snapshot, on so many threads.
    pub fn new(current: Current, threads: usize) -> Self {
        Self { current, permits: Arc::new(Semaphore::new(threads)) }
    }

    /// Waits for a free thread (a caller that is gone frees its place) and searches the snapshot that is current then.
    pub async fn search(&self, query: Query) -> Result<Answer, IndexError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|e| IndexError::Internal(e.to_string()))?;
        let snapshot = self.current.load_full();
        blocking(move || {
            let _permit = permit;
            search(snapshot, &query)
        })
        .await
    }
}

/// Searches a snapshot on the calling thread.
pub fn search(snapshot: Arc<Snapshot>, query: &Query) -> Result<Answer, IndexError> {
    let held = snapshot.space(query.space)?;
    check_dimension(held, query)?;
    let base = search_base(held, query)?;
    let delta = held.delta().search(&query.embedding, query.k, &query.exclude)?;
    let ids = &held.generation().items;
    let base = base.into_iter().map(|hit| (&ids[hit.row as usize], hit.score, false));
    let delta = delta.into_iter().map(|(id, score)| (id, score, true));
    let mut items: Vec<_> =
        base.chain(delta).map(|(id, score, from_delta)| Found { id: id.clone(), score, from_delta }).collect();
    items.sort_unstable_by(best_first);
    items.truncate(query.k);
    let exhausted = items.len() == findable_count(held, query);
    Ok(Answer { items, exhausted, snapshot })
}

fn check_dimension(held: &HeldSpace, query: &Query) -> Result<(), IndexError> {
    check_vector(&query.embedding, held.generation().manifest.embedding_dim)
        .map_err(|e| IndexError::Invalid(vec![Violation::new("embedding.values", e.to_string())]))
}

/// The k best living rows with exact scores. An approximate search that comes back short is done again by a scan, so that no answer is short
/// while there is more.
fn search_base(held: &HeldSpace, query: &Query) -> Result<Vec<Hit>, IndexError> {
    let generation = held.generation();
    let allowed = held.allowed(&query.exclude);
    let wanted = query.k.min(allowed.count());
    let exactly = || Ok(scan(&generation.vectors, &query.embedding, wanted, Some(&allowed))?);
    // Faiss's flat search is a scan as well, but leaves open which of equal scores are the last ones in.
    let flat = generation.index.kind() == Kind::Flat;
    if query.exact || flat || allowed.count() < allowed.rows() / SCAN_ONE_IN {
        return exactly();
    }
    let parameters =
        widened(query.parameters.or(generation.manifest.report.parameters), allowed.rows(), allowed.count());
    let mask = (allowed.count() < allowed.rows()).then_some(allowed.as_ref());
    let mut hits = generation.index.search(&query.embedding, wanted, mask, parameters)?;
    if hits.len() < wanted {
        return exactly();
    }
    score_rows(&generation.vectors, &query.embedding, &mut hits)?;
    Ok(hits)
}

/// Visits more, the fewer of the rows visited count.
fn widened(parameters: Parameters, rows: usize, allowed: usize) -> Parameters {
    let widen = |n: u32| (n as usize * rows).div_ceil(allowed.max(1)).try_into().unwrap_or(u32::MAX);
    Parameters { nprobe: widen(parameters.nprobe), ef_search: widen(parameters.ef_search) }
}

fn findable_count(held: &HeldSpace, query: &Query) -> usize {
    held.allowed(&query.exclude).count() + held.delta().len() - held.delta().count_of(&query.exclude)
}

fn best_first(a: &Found, b: &Found) -> Ordering {
    let nan_last = a.score.is_nan().cmp(&b.score.is_nan());
    nan_last.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.id.cmp(&b.id))
}
