//! Rankings of a scope: each segment's best, merged by score, ties by id.

use std::cmp::Ordering;

use pagoda_ann::{Hit, Mask, Parameters, ScanQuery, Stop};

use super::{
    Found, Query, Ranking,
    groups::Walk,
    scope::{Rows, Scope, Segment},
};
use crate::{delta::Part, error::IndexError, filter::GroupLimit, ids::IdRef};

/// Where items are grouped, so many times more than needed are fetched, and again so many times more while they do not suffice.
const WIDEN_BY: usize = 4;
/// So many more fresh items are fetched than needed, in case they score alike.
const TIES: usize = 8;
/// Queries of a batch for which rows are read once.
const QUERIES_AT_ONCE: usize = 32;

/// What is wanted of each segment.
#[derive(Clone, Copy)]
struct Need<'a> {
    k: usize,
    exact: bool,
    /// 0 means as tuned.
    parameters: Parameters,
    stop: Stop<'a>,
}

/// A hit and the segment that it is in.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) segment: usize,
    pub(super) hit: Hit,
}

impl Scope<'_> {
    /// The best items for each embedding.
    pub(super) fn rank(&self, query: &Query, stop: Stop<'_>) -> Result<Vec<Ranking>, IndexError> {
        let embeddings: Vec<&[f32]> = query.embeddings.iter().map(Vec::as_slice).collect();
        let need = Need { k: query.k, exact: query.exact, parameters: query.parameters, stop };
        if let Some(limit) = &query.group_by {
            return embeddings.iter().map(|embedding| self.rank_groups(embedding, need, limit)).collect();
        }
        let mut rankings = Vec::with_capacity(embeddings.len());
        for some in embeddings.chunks(QUERIES_AT_ONCE) {
            let ranking = |best: Vec<Placed>| Ranking { exhausted: best.len() == self.count, items: self.found(&best) };
            rankings.extend(self.best(some, need)?.into_iter().map(ranking));
        }
        Ok(rankings)
    }

    /// Fetches more and more until enough of it fits into the groups, or no group has room.
    fn rank_groups(&self, embedding: &[f32], need: Need<'_>, limit: &GroupLimit) -> Result<Ranking, IndexError> {
        let (mut wanted, groups) = (need.k, self.few_groups(limit, need.k));
        loop {
            wanted = wanted.saturating_mul(WIDEN_BY).min(self.count);
            let candidates = self.best(&[embedding], Need { k: wanted, ..need })?.pop().unwrap_or_default();
            let walk = Walk::through(self, &candidates, limit, need.k);
            let is_all = candidates.len() == self.count || groups == Some(walk.full);
            if walk.taken.len() == need.k || is_all {
                return Ok(Ranking { exhausted: is_all && !walk.is_more, items: self.found(&walk.taken) });
            }
        }
    }

    /// For each embedding the best of all segments, best first; as many as are wanted or there are.
    fn best(&self, embeddings: &[&[f32]], need: Need<'_>) -> Result<Vec<Vec<Placed>>, IndexError> {
        let mut best = vec![Vec::new(); embeddings.len()];
        for (segment, rows) in self.segments.iter().enumerate() {
            let floored = embeddings.iter().copied().zip(&mut best);
            let queries: Vec<_> =
                floored.map(|(vector, best)| ScanQuery { vector, floor: floor(best, need.k) }).collect();
            for (best, hits) in best.iter_mut().zip(rows.best(&queries, need)?) {
                best.extend(hits.into_iter().map(|hit| Placed { segment, hit }));
            }
        }
        // Rows of the base are in the order of their ids, those of the delta as they came.
        if self.segments.len() > 1 || self.segments.iter().any(|segment| matches!(segment.rows, Rows::Delta(_))) {
            for best in &mut best {
                best.sort_unstable_by(|a, b| self.best_first(a, b));
                best.truncate(need.k);
            }
        }
        Ok(best)
    }

    fn best_first(&self, a: &Placed, b: &Placed) -> Ordering {
        let nan_last = a.hit.score.is_nan().cmp(&b.hit.score.is_nan());
        let by_id = || self.rows(a).id(a.hit.row).cmp(&self.rows(b).id(b.hit.row));
        nan_last.then_with(|| b.hit.score.total_cmp(&a.hit.score)).then_with(by_id)
    }

    fn rows(&self, placed: &Placed) -> Rows<'_> {
        self.segments[placed.segment].rows
    }

    fn found(&self, best: &[Placed]) -> Vec<Found> {
        // Ids lie anywhere in memory. All are looked up before the first is copied, so that the look-ups do not wait for each other.
        let ids: Vec<IdRef<'_>> = best.iter().map(|placed| self.rows(placed).id(placed.hit.row)).collect();
        let found = |(placed, id): (&Placed, IdRef<'_>)| {
            let from_delta = matches!(self.rows(placed), Rows::Delta(_));
            Found { id: id.into(), score: placed.hit.score, from_delta }
        };
        best.iter().zip(ids).map(found).collect()
    }
}

/// What scores less is not among the k best, since so many were found already.
fn floor(best: &mut [Placed], k: usize) -> f32 {
    match k.checked_sub(1).filter(|at| *at < best.len()) {
        Some(at) => best.select_nth_unstable_by(at, |a, b| b.hit.score.total_cmp(&a.hit.score)).1.hit.score,
        None => f32::NEG_INFINITY,
    }
}

impl Segment<'_> {
    /// For each embedding the best rows, best first, ties by row; as many as are wanted or there are, perhaps without those below its floor.
    fn best(&self, queries: &[ScanQuery<'_>], need: Need<'_>) -> Result<Vec<Vec<Hit>>, IndexError> {
        let Need { k, exact, parameters, stop } = need;
        let mask: Mask<'_> = self.mask();
        match self.rows {
            Rows::Base(shard) => match &shard.index {
                Some(index) => {
                    let query = pagoda_ann::Query { vector: &[], k, mask, parameters, exact, stop };
                    let vectors: Vec<_> = queries.iter().map(|query| query.vector).collect();
                    let found = index.find_many(&shard.vectors, &shard.tuning, &vectors, &query)?;
                    Ok(found.into_iter().map(|found| found.hits).collect())
                }
                None => Ok(vec![Vec::new(); queries.len()]),
            },
            Rows::Delta(part) => self.best_with_ties(part, queries, need),
        }
    }

    /// The k best and all others that score as much as the last of them, since among these it is not the row but the id that decides.
    fn best_with_ties(
        &self,
        part: &Part,
        queries: &[ScanQuery<'_>],
        need: Need<'_>,
    ) -> Result<Vec<Vec<Hit>>, IndexError> {
        let mut wanted = need.k + TIES;
        loop {
            wanted = wanted.min(self.count);
            let best = part.embeddings().scan_many(queries, wanted, self.mask(), need.stop)?;
            let is_tied = |hits: &Vec<Hit>| {
                let last = need.k.checked_sub(1).and_then(|at| hits.get(at));
                last.zip(hits.last()).is_some_and(|(kth, last)| kth.score.total_cmp(&last.score).is_eq())
            };
            if wanted == self.count || !best.iter().any(is_tied) {
                return Ok(best);
            }
            wanted = wanted.saturating_mul(WIDEN_BY);
        }
    }
}
