//! Ranks the whole catalog for every query, block by block, with every ranker by the same protocol.

use candle_core::Tensor;
use pagoda_model::{Side, features::EncodedBatch, two_tower::TwoTower};
use rayon::prelude::*;

use super::{
    protocol::Query,
    ranking::{Outcome, rank},
};
use crate::{
    baselines::Scorer,
    data::Data,
    engine::{Encoded, UserExample},
    error::TrainError,
    tensors,
};

/// The most scores that a thread holds at once (64 MB), and the most queries.
const BLOCK_SCORES: usize = 1 << 24;
const BLOCK_QUERIES: usize = 64;
const EMBED_ENTITIES: usize = 256;

/// A model as a ranker of a data set's catalog.
pub(crate) struct ModelRanker<'a> {
    encoded: &'a Encoded,
    model: &'a TwoTower,
    objective_weights: &'a [f32],
    /// `[catalog, dim]`.
    pub(crate) items: Tensor,
    catalog: usize,
    dim: usize,
}

impl<'a> ModelRanker<'a> {
    /// Embeds the catalog. Users' embeddings are weighed by objective as serving weighs them; no weights are equal ones.
    pub(crate) fn new(
        data: &Data,
        encoded: &'a Encoded,
        model: &'a TwoTower,
        objective_weights: &'a [f32],
    ) -> Result<Self, TrainError> {
        let places: Vec<u32> = (0..data.catalog.len() as u32).collect();
        let push = |batch: &mut EncodedBatch, item: &u32| encoded.push_item(batch, *item, false);
        let items = embed(encoded, model, Side::Item, &places, push)?;
        Ok(Self::of_items(encoded, model, objective_weights, tensors::matrix(&items, places.len())?))
    }

    /// The same of a catalog that was embedded before, `[catalog, dim]`.
    pub(crate) fn of_items(
        encoded: &'a Encoded,
        model: &'a TwoTower,
        objective_weights: &'a [f32],
        items: Tensor,
    ) -> Self {
        let (catalog, dim) = items.dims2().expect("embeddings of a catalog are a matrix");
        Self { encoded, model, objective_weights, items, catalog, dim }
    }

    /// The same under other weights.
    pub(super) fn weighed<'b>(&self, objective_weights: &'b [f32]) -> ModelRanker<'b>
    where
        'a: 'b,
    {
        ModelRanker::of_items(self.encoded, self.model, objective_weights, self.items.clone())
    }

    /// `[queries, dim]`.
    fn embed_users(&self, queries: &[Query]) -> Result<Vec<f32>, TrainError> {
        let mut users = embed(self.encoded, self.model, Side::User, queries, |batch, query| {
            let example = UserExample { user: query.user, history: &query.seen, id_hidden: false };
            self.encoded.push_user(batch, &example);
        })?;
        // Slices have equal norms, and the whole has norm 1 before and after.
        let weights = self.objective_weights;
        if weights.len() > 1 {
            let norm = (weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32).sqrt();
            let slices = users.chunks_exact_mut(self.dim / weights.len());
            slices.zip(weights.iter().cycle()).for_each(|(slice, w)| slice.iter_mut().for_each(|v| *v *= w / norm));
        }
        Ok(users)
    }

    /// The outcome of each query, in their order.
    pub(super) fn outcomes(&self, queries: &[Query]) -> Result<Vec<Outcome>, TrainError> {
        self.each(queries, rank)
    }

    /// What is made of each query and its scores of the catalog, `[catalog]`, in their order.
    pub(crate) fn each<T: Send>(
        &self,
        queries: &[Query],
        make: impl Fn(&mut [f32], &Query) -> T + Sync,
    ) -> Result<Vec<T>, TrainError> {
        let block = (BLOCK_SCORES / self.catalog.max(1)).clamp(1, BLOCK_QUERIES);
        let users = self.embed_users(queries)?;
        let blocks = queries.par_chunks(block).zip(users.par_chunks(block * self.dim));
        let made: Result<Vec<Vec<T>>, TrainError> = blocks
            .map(|(queries, users)| {
                let scores = self.scores(users, queries.len())?;
                Ok(tensors::change(&scores, |scores| {
                    let rows = scores.chunks_exact_mut(self.catalog).zip(queries);
                    rows.map(|(scores, query)| make(scores, query)).collect()
                })?)
            })
            .collect();
        Ok(made?.into_iter().flatten().collect())
    }

    /// users items^T, `[users, catalog]`.
    fn scores(&self, users: &[f32], count: usize) -> Result<Tensor, TrainError> {
        Ok(tensors::matrix(users, count)?.matmul(&self.items.t()?)?)
    }
}

/// The outcome of each query by a scorer, in their order.
pub(super) fn outcomes_of(scorer: &dyn Scorer, queries: &[Query], catalog: usize) -> Vec<Outcome> {
    let outcome = |scores: &mut Vec<f32>, query: &Query| {
        scorer.score(&query.seen, scores);
        rank(scores, query)
    };
    queries.par_iter().map_init(|| vec![0.0; catalog], outcome).collect()
}

/// `[entities, dim]`, rows of norm 1; a vector that is no number or has no direction is an error that says whose it is.
fn embed<T: Sync>(
    encoded: &Encoded,
    model: &TwoTower,
    side: Side,
    entities: &[T],
    push: impl Fn(&mut EncodedBatch, &T) + Sync,
) -> Result<Vec<f32>, TrainError> {
    let chunks: Result<Vec<Vec<f32>>, TrainError> = entities
        .par_chunks(EMBED_ENTITIES)
        .map(|chunk| {
            let mut batch = encoded.empty(side);
            chunk.iter().for_each(|entity| push(&mut batch, entity));
            Ok(model.forward(side, &batch)?.flatten_all()?.to_vec1()?)
        })
        .collect();
    let values = chunks?.concat();
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => Err(TrainError::NotFinite { side, entity: at * entities.len() / values.len(), value: values[at] }),
    }
}
