//! [`ModelRanker`]: a model's own exact ranking of the whole catalog, as the evaluation makes it.

use std::sync::Arc;

use candle_core::Tensor;
use pagoda_model::bundle::ModelBundle;
use rayon::ThreadPool;

use super::{AskedUser, MiningLog, Ranker, RankerError, Ranking, Top};
use crate::{
    engine::Encoded,
    error::TrainError,
    evaluation::{self, Query},
    train::threads,
};

/// Users of a block.
const BLOCK_USERS: usize = 256;

/// Ranks by the inner product of embeddings. Nothing is left out: a user's own positives are ranked too.
pub struct ModelRanker<'a> {
    bundle: &'a ModelBundle,
    version: Arc<str>,
    encoded: Encoded,
    objective_weights: Vec<f32>,
    /// The catalog's embeddings.
    items: Tensor,
    threads: ThreadPool,
}

impl<'a> ModelRanker<'a> {
    /// Embeds the catalog. All processors are used, each for products of its own: see [`train`](crate::train()).
    pub fn new(bundle: &'a ModelBundle, log: &MiningLog) -> Result<Self, TrainError> {
        if log.schema() != bundle.schema() {
            return Err(TrainError::OtherSchema);
        }
        let (threads, objective_weights) = (threads()?, bundle.default_objective_weights());
        let encoded = Encoded::new(&bundle.model().encoder, log.data())?;
        let embed = || evaluation::ModelRanker::new(log.data(), &encoded, bundle.model(), &objective_weights);
        let items = threads.install(|| embed().map(|ranker| ranker.items))?;
        Ok(Self { bundle, version: bundle.version().to_string().into(), encoded, objective_weights, items, threads })
    }

    /// That of the evaluation.
    fn exact(&self) -> evaluation::ModelRanker<'_> {
        let items = self.items.clone();
        evaluation::ModelRanker::of_items(&self.encoded, self.bundle.model(), &self.objective_weights, items)
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
        let queries: Vec<Query> = users.iter().map(|user| Query::of_user(user.place, &user.history)).collect();
        let best = |scores: &mut [f32], _: &Query| Ranking {
            version: this.version.clone(),
            items: Top::of_scores(scores, top).finish(),
        };
        Ok(this.threads.install(|| this.exact().each(&queries, best))?)
    }
}
