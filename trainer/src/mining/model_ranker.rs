//! [`ModelRanker`]: a model's own exact ranking of the whole catalog, by blocked matrix product.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use pagoda_model::{Entity, Side, bundle::ModelBundle};
use rayon::{ThreadPool, prelude::*};

use super::{AskedUser, MiningLog, Ranker, RankerError, Ranking, Top};
use crate::{error::TrainError, train::threads};

/// Users of a block, users of one thread's part of it, and items of a matrix product.
const BLOCK_USERS: usize = 256;
const PART_USERS: usize = 32;
const PART_ITEMS: usize = 8192;
const EMBED_BATCH: usize = 1024;

/// Ranks by the inner product of embeddings. Nothing is left out: a user's own positives are ranked too.
pub struct ModelRanker<'a> {
    bundle: &'a ModelBundle,
    version: Arc<str>,
    /// The catalog, `[embedding_dim, items]` in parts of [`PART_ITEMS`].
    items: Vec<Tensor>,
    threads: ThreadPool,
}

impl<'a> ModelRanker<'a> {
    /// Embeds the catalog. All processors are used, each for products of its own: see [`train`](crate::train()).
    pub fn new(bundle: &'a ModelBundle, log: &MiningLog) -> Result<Self, TrainError> {
        if log.schema() != bundle.schema() {
            return Err(TrainError::OtherSchema);
        }
        let threads = threads()?;
        let parts = log.catalog().par_chunks(PART_ITEMS);
        let items = threads.install(|| {
            parts.map(|part| Ok(embed(bundle, Side::Item, part)?.t()?.contiguous()?)).collect::<Result<_, TrainError>>()
        })?;
        Ok(Self { bundle, version: bundle.version().to_string().into(), items, threads })
    }

    fn rank_part(&self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, TrainError> {
        let entities: Vec<Entity> = users.iter().map(|user| user.entity.clone()).collect();
        let users = embed(self.bundle, Side::User, &entities)?;
        let mut tops = vec![Top::new(top); entities.len()];
        for (part, items) in self.items.iter().enumerate() {
            // [users, items of the part]
            let scores: Vec<Vec<f32>> = users.matmul(items)?.to_vec2()?;
            for (top, scores) in tops.iter_mut().zip(scores) {
                let places = (part * PART_ITEMS) as u32..;
                places.zip(scores).for_each(|(item, score)| top.push(item, score));
            }
        }
        Ok(tops.into_iter().map(|top| Ranking { version: self.version.clone(), items: top.finish() }).collect())
    }
}

impl Ranker for ModelRanker<'_> {
    fn source(&self) -> &str {
        "model"
    }

    fn block_users(&self) -> usize {
        BLOCK_USERS
    }

    fn rank(&mut self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, RankerError> {
        let this = &*self;
        let parts = this.threads.install(|| {
            users.par_chunks(PART_USERS).map(|part| this.rank_part(part, top)).collect::<Result<Vec<_>, TrainError>>()
        })?;
        Ok(parts.concat())
    }
}

/// `[entities, embedding_dim]`.
fn embed(bundle: &ModelBundle, side: Side, entities: &[Entity]) -> Result<Tensor, TrainError> {
    let mut values = Vec::with_capacity(entities.len() * bundle.embedding_dim());
    for batch in entities.chunks(EMBED_BATCH) {
        bundle.embed(side, batch)?.iter().for_each(|embedding| values.extend_from_slice(embedding.as_slice()));
    }
    Ok(Tensor::from_vec(values, (entities.len(), bundle.embedding_dim()), &Device::Cpu)?)
}
