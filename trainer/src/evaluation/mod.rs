//! Exact evaluation over the full catalog, of a model beside baselines, by one protocol.

mod figures;
mod metrics;
mod protocol;
mod ranking;
mod run;
mod slices;

use crate::{
    baselines::{Ease, ItemKnn, Popularity, Scorer, UserItems},
    config::{Baseline, EvaluationConfig},
    data::{Data, Part},
    engine::Encoded,
    error::TrainError,
    progress::{Progress, Report, Stage},
    summary::EvaluationSummary,
};
use figures::{Ranked, summary};
use pagoda_model::two_tower::TwoTower;
use protocol::Protocol;
pub(crate) use protocol::Query;
pub(crate) use run::ModelRanker;
use run::outcomes_of;

/// A scorer and its name.
type Named = (&'static str, Box<dyn Scorer>);

/// Queries between reports.
const REPORT_QUERIES: usize = 4096;
/// The most queries of a validation.
const VALIDATION_QUERIES_MAX: usize = 5000;

/// What is evaluated, on what.
pub(crate) struct Evaluation<'a> {
    pub(crate) data: &'a Data,
    pub(crate) encoded: &'a Encoded,
    pub(crate) model: &'a TwoTower,
    /// Of a model with several objectives: what each weighs.
    pub(crate) objective_weights: &'a [f32],
    pub(crate) config: &'a EvaluationConfig,
    pub(crate) seed: u64,
}

impl Evaluation<'_> {
    /// Evaluates on the test part.
    pub(crate) fn run(&self, progress: &mut dyn Progress) -> Result<EvaluationSummary, TrainError> {
        let protocol = Protocol::new(self.data, Part::Test, self.config.queries_max, self.seed)?;
        if protocol.queries.is_empty() {
            return Err(TrainError::TooLittleData(
                "every test positive repeats an item that its user had already, so there is nothing to evaluate".into(),
            ));
        }
        let model = self.model_outcomes(&protocol.queries, progress)?;
        // All rankers but the model know what is not test; the model knows what it was fitted to.
        let known = self.data.tally(|part| part != Part::Test)?.items;
        let popularity: Vec<f32> = known.iter().map(|&count| count as f32).collect();
        let catalog = self.data.catalog.len();
        let by = |scorer: &dyn Scorer| outcomes_of(scorer, &protocol.queries, catalog);
        let mut ranked = vec![
            Ranked { name: "model", outcomes: model },
            Ranked { name: "popularity", outcomes: by(&Popularity::new(popularity.clone())) },
        ];
        let mut skipped = Vec::new();
        for baseline in &self.config.baselines {
            match self.baseline(*baseline)? {
                Some((name, scorer)) => ranked.push(Ranked { name, outcomes: by(scorer.as_ref()) }),
                None => skipped.push(format!(
                    "EASE was not made: {catalog} items are more than evaluation.ease_items_max, {}",
                    self.config.ease_items_max
                )),
            }
        }
        Ok(summary(self.data, &protocol, &popularity, &ranked, skipped))
    }

    fn model_outcomes(
        &self,
        queries: &[Query],
        progress: &mut dyn Progress,
    ) -> Result<Vec<ranking::Outcome>, TrainError> {
        let ranker = ModelRanker::new(self.data, self.encoded, self.model, self.objective_weights)?;
        let (mut outcomes, total) = (Vec::with_capacity(queries.len()), queries.len() as u64);
        for queries in queries.chunks(REPORT_QUERIES) {
            outcomes.extend(ranker.outcomes(queries)?);
            progress.report(&Report::of(Stage::Evaluate, outcomes.len() as u64, total));
        }
        Ok(outcomes)
    }

    /// None where it is too large to be made.
    fn baseline(&self, baseline: Baseline) -> Result<Option<Named>, TrainError> {
        let catalog = self.data.catalog.len();
        if baseline == Baseline::Ease && catalog > self.config.ease_items_max {
            return Ok(None);
        }
        let mut users = UserItems::new(catalog);
        for partition in 0..self.data.log.partitions() {
            let timelines = self.data.log.load(partition)?.retain(|part| part != Part::Test);
            timelines.iter().for_each(|timeline| users.push(timeline.items));
        }
        Ok(Some(match baseline {
            Baseline::ItemKnn => ("item_knn", Box::new(ItemKnn::fit(&users))),
            Baseline::Ease => ("ease", Box::new(Ease::fit(&users, self.config.ease_items_max)?)),
        }))
    }
}

/// The queries of the validation part; none if they are too few to say anything.
pub(crate) fn validation_queries(data: &Data, seed: u64) -> Result<Vec<Query>, TrainError> {
    Ok(Protocol::new(data, Part::Validation, VALIDATION_QUERIES_MAX, seed)?.queries)
}

/// recall_at_20 of a model on some queries.
pub(crate) fn recall_at_20(
    data: &Data,
    encoded: &Encoded,
    model: &TwoTower,
    objective_weights: &[f32],
    queries: &[Query],
) -> Result<f64, TrainError> {
    let outcomes = ModelRanker::new(data, encoded, model, objective_weights)?.outcomes(queries)?;
    Ok(metrics::metrics(outcomes.iter())["recall_at_20"])
}

/// A few queries of the test part, for people to look at.
pub(crate) fn example_queries(data: &Data, count: usize, seed: u64) -> Result<Vec<Query>, TrainError> {
    let mut queries = Protocol::new(data, Part::Test, 20 * count, seed)?.queries;
    queries.retain(|query| query.seen.len() >= 3);
    queries.truncate(count);
    Ok(queries)
}
