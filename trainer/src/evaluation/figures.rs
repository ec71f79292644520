//! Figures from outcomes: of each ranker, over all queries and over parts of them.

use std::collections::BTreeMap;

use super::{
    metrics::{coverage, metrics},
    protocol::Protocol,
    ranking::Outcome,
    slices::{Part as SlicePart, Sliced, parts},
};
use crate::{
    data::{Data, Part},
    summary::{Counts, EvaluationSummary, Metrics, Slice},
};

/// The outcomes of one ranker, query by query.
pub(super) struct Ranked {
    pub(super) name: &'static str,
    pub(super) outcomes: Vec<Outcome>,
}

/// All figures; the first ranker is the model, the second popularity.
pub(super) fn summary(
    data: &Data,
    protocol: &Protocol,
    popularity: &[f32],
    ranked: &[Ranked],
    skipped: Vec<String>,
) -> EvaluationSummary {
    let all = |ranked: &Ranked| with_coverage(&ranked.outcomes, data.catalog.len());
    let history_lengths: Vec<usize> = protocol.queries.iter().map(|query| query.seen.len()).collect();
    let relevant: Vec<&[u32]> = protocol.queries.iter().map(|query| query.relevant.as_slice()).collect();
    let sliced = Sliced { history_lengths: &history_lengths, relevant: &relevant, popularity };
    EvaluationSummary {
        metrics: all(&ranked[0]),
        popularity: all(&ranked[1]),
        baselines: ranked[2..].iter().map(|ranked| (ranked.name.to_owned(), all(ranked))).collect(),
        slices: parts(&sliced).iter().map(|part| slice(part, ranked)).collect(),
        counts: counts(data, protocol),
        warnings: skipped.into_iter().chain(data.left_out()).collect(),
    }
}

fn with_coverage(outcomes: &[Outcome], catalog: usize) -> Metrics {
    let mut metrics = metrics(outcomes.iter());
    metrics.insert("coverage_at_100".to_owned(), coverage(outcomes, catalog));
    metrics
}

/// A part of the queries by every ranker.
pub(super) fn slice(part: &SlicePart, ranked: &[Ranked]) -> Slice {
    let of = |ranked: &Ranked| {
        let outcomes: Vec<Outcome> = part
            .members
            .iter()
            .map(|member| {
                // Ranks are in the order of the query's relevant items.
                let ranks = member.relevant.iter().map(|&at| ranked.outcomes[member.query].ranks[at]).collect();
                Outcome { ranks, top: Vec::new() }
            })
            .collect();
        metrics(outcomes.iter())
    };
    let by_ranker: BTreeMap<String, Metrics> = ranked[1..].iter().map(|r| (r.name.to_owned(), of(r))).collect();
    let popularity = by_ranker.get("popularity").cloned().unwrap_or_default();
    let baselines = by_ranker.into_iter().filter(|(name, _)| name != "popularity").collect();
    Slice {
        group: part.group.to_owned(),
        name: part.name.clone(),
        queries: part.members.len() as u64,
        metrics: of(&ranked[0]),
        popularity,
        baselines,
    }
}

fn counts(data: &Data, protocol: &Protocol) -> Counts {
    let [train, validation, test] = [Part::Train, Part::Validation, Part::Test].map(|part| data.log.count(part));
    Counts {
        users: data.users.len() as u64,
        items: data.catalog.len() as u64,
        train_positives: train,
        validation_positives: validation,
        test_positives: test,
        repeats: protocol.repeats,
        queries: protocol.queries.len() as u64,
        bad_rows: data.bad_rows.iter().map(|bad| bad.count).sum(),
        unknown_item_rows: data.unknown_items.rows,
    }
}
