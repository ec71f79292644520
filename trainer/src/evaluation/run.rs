//! Embeds queries and catalog and ranks, block by block.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use pagoda_model::{Side, bundle::ModelBundle, features::EncodedBatch};
use rayon::prelude::*;

use super::{
    metrics::{coverage, metrics},
    protocol::{Protocol, Query},
    ranking::{Outcome, rank},
};
use crate::{
    data::Data,
    engine::{Encoded, UserExample},
    error::TrainError,
    progress::{Progress, Report, Stage},
    summary::{Counts, EvaluationSummary, Metrics, Slice},
};

/// The most queries of a block, and the most scores of a block of queries (256 MB).
const BLOCK_QUERIES: usize = 256;
const BLOCK_SCORES: usize = 1 << 26;
const EMBED_BATCH: usize = 512;

/// What is evaluated, on what.
pub(crate) struct Evaluation<'a> {
    pub(crate) data: &'a Data,
    pub(crate) encoded: &'a Encoded,
    pub(crate) bundle: &'a ModelBundle,
    pub(crate) queries_max: usize,
    pub(crate) seed: u64,
}

/// Both rankers' outcomes, query by query.
struct Outcomes {
    model: Vec<Outcome>,
    popularity: Vec<Outcome>,
}

/// Evaluates.
pub(crate) fn run(evaluation: &Evaluation<'_>, progress: &mut dyn Progress) -> Result<EvaluationSummary, TrainError> {
    let protocol = Protocol::new(evaluation.data, evaluation.queries_max, evaluation.seed);
    if protocol.queries.is_empty() {
        return Err(TrainError::TooLittleData(
            "every test positive repeats an item that its user had already, so there is nothing to evaluate".into(),
        ));
    }
    let popularity = popularity(evaluation.data);
    let outcomes = evaluation.outcomes(&protocol.queries, &popularity, progress)?;
    Ok(summary(evaluation.data, &protocol, &popularity, &outcomes))
}

impl Evaluation<'_> {
    fn outcomes(
        &self,
        queries: &[Query],
        popularity: &[f32],
        progress: &mut dyn Progress,
    ) -> Result<Outcomes, TrainError> {
        let items = self.embed_catalog()?;
        let block = (BLOCK_SCORES / self.data.catalog.len().max(1)).clamp(1, BLOCK_QUERIES);
        let mut outcomes = Outcomes { model: Vec::new(), popularity: Vec::new() };
        for queries_of_block in queries.chunks(block) {
            let users = self.embed_users(queries_of_block)?;
            let mut scores: Vec<f32> = users.matmul(&items.t()?)?.flatten_all()?.to_vec1()?;
            let rows = scores.par_chunks_mut(self.data.catalog.len()).zip(queries_of_block);
            outcomes.model.par_extend(rows.map(|(scores, query)| rank(scores, query)));
            outcomes
                .popularity
                .par_extend(queries_of_block.par_iter().map(|query| rank(&mut popularity.to_vec(), query)));
            progress.report(&Report::of(Stage::Evaluate, outcomes.model.len() as u64, queries.len() as u64));
        }
        Ok(outcomes)
    }

    fn embed_catalog(&self) -> Result<Tensor, TrainError> {
        let items: Vec<u32> = (0..self.data.catalog.len() as u32).collect();
        self.embed(Side::Item, &items, |batch, &item| self.encoded.push_item(batch, item, false))
    }

    fn embed_users(&self, queries: &[Query]) -> Result<Tensor, TrainError> {
        self.embed(Side::User, queries, |batch, query| {
            let example = UserExample { user: query.user, history: &query.seen, id_hidden: false };
            self.encoded.push_user(batch, &example);
        })
    }

    /// `[entities, embedding_dim]`.
    fn embed<T>(&self, side: Side, entities: &[T], push: impl Fn(&mut EncodedBatch, &T)) -> Result<Tensor, TrainError> {
        let mut values = Vec::with_capacity(entities.len() * self.bundle.embedding_dim());
        for chunk in entities.chunks(EMBED_BATCH) {
            let mut batch = self.encoded.empty(side);
            chunk.iter().for_each(|entity| push(&mut batch, entity));
            let embeddings = self.bundle.embed_encoded(side, &batch)?;
            embeddings.iter().for_each(|e| values.extend_from_slice(e.as_slice()));
        }
        Ok(Tensor::from_vec(values, (entities.len(), self.bundle.embedding_dim()), &Device::Cpu)?)
    }
}

/// Training positives by catalog item.
fn popularity(data: &Data) -> Vec<f32> {
    let mut counts = vec![0.0; data.catalog.len()];
    data.positives.iter().filter(|p| !p.test).for_each(|p| counts[p.item as usize] += 1.0);
    counts
}

fn summary(data: &Data, protocol: &Protocol, popularity: &[f32], outcomes: &Outcomes) -> EvaluationSummary {
    let cold_user = |query: &Query| query.seen.is_empty();
    let cold_item = |query: &Query| query.relevant.iter().any(|&item| popularity[item as usize] == 0.0);
    let slices = BTreeMap::from([
        ("cold_users".to_owned(), slice(&protocol.queries, outcomes, cold_user)),
        ("cold_items".to_owned(), slice(&protocol.queries, outcomes, cold_item)),
    ]);
    EvaluationSummary {
        metrics: with_coverage(&outcomes.model, data.catalog.len()),
        popularity: with_coverage(&outcomes.popularity, data.catalog.len()),
        slices,
        counts: counts(data, protocol),
    }
}

fn with_coverage(outcomes: &[Outcome], catalog: usize) -> Metrics {
    let mut metrics = metrics(outcomes.iter());
    metrics.insert("coverage_at_100".to_owned(), coverage(outcomes, catalog));
    metrics
}

fn slice(queries: &[Query], outcomes: &Outcomes, belongs: impl Fn(&Query) -> bool) -> Slice {
    let places: Vec<usize> = (0..queries.len()).filter(|&i| belongs(&queries[i])).collect();
    Slice {
        queries: places.len() as u64,
        metrics: metrics(places.iter().map(|&i| &outcomes.model[i])),
        popularity: metrics(places.iter().map(|&i| &outcomes.popularity[i])),
    }
}

fn counts(data: &Data, protocol: &Protocol) -> Counts {
    let test_positives = data.positives.iter().filter(|p| p.test).count();
    Counts {
        users: data.users.len() as u64,
        items: data.catalog.len() as u64,
        train_positives: (data.positives.len() - test_positives) as u64,
        test_positives: test_positives as u64,
        repeats: protocol.repeats,
        queries: protocol.queries.len() as u64,
        bad_rows: data.bad_rows,
    }
}
