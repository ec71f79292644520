//! Exact evaluation over the full catalog, of a model beside baselines, by one protocol.

mod figures;
mod metrics;
mod protocol;
mod ranking;
mod run;
mod slices;

use std::collections::BTreeMap;

use crate::{
    baselines::{Ease, ItemKnn, Popularity, Scorer, UserItems},
    config::{Baseline, EvaluationConfig, ObjectiveConfig},
    data::{Data, Part},
    engine::Encoded,
    error::TrainError,
    progress::{Progress, Report, Stage},
    summary::{EvaluationSummary, Slice},
};
use figures::{Ranked, slice, summary};
use pagoda_model::two_tower::TwoTower;
use protocol::Protocol;
pub(crate) use protocol::Query;
pub(crate) use run::ModelRanker;
use run::outcomes_of;
use slices::of_events;

/// A scorer and its name.
type Named = (&'static str, Box<dyn Scorer>);

/// What ranks by one objective's part of the embedding.
const ALONE: &str = "objective alone";
/// Queries between reports.
const REPORT_QUERIES: usize = 4096;
/// The most queries of a validation.
const VALIDATION_QUERIES_MAX: usize = 5000;

/// What is evaluated, on what.
pub(crate) struct Evaluation<'a> {
    pub(crate) data: &'a Data,
    pub(crate) encoded: &'a Encoded,
    pub(crate) model: &'a TwoTower,
    /// Of a model with several objectives: what each weighs, and what its positives are. Without the latter there are no figures by objective.
    pub(crate) objective_weights: &'a [f32],
    pub(crate) objectives: &'a BTreeMap<String, ObjectiveConfig>,
    pub(crate) config: &'a EvaluationConfig,
    pub(crate) seed: u64,
}

impl Evaluation<'_> {
    /// The model as a ranker; embeds the catalog.
    pub(crate) fn ranker(&self) -> Result<ModelRanker<'_>, TrainError> {
        ModelRanker::new(self.data, self.encoded, self.model, self.objective_weights)
    }

    /// Evaluates on the test part; the ranker is [`Self::ranker`].
    pub(crate) fn run(
        &self,
        ranker: &ModelRanker<'_>,
        progress: &mut dyn Progress,
    ) -> Result<EvaluationSummary, TrainError> {
        let protocol = Protocol::new(self.data, Part::Test, self.config.queries_max, self.seed)?;
        if protocol.queries.is_empty() {
            return Err(TrainError::TooLittleData(
                "every test positive repeats an item that its user had already, so there is nothing to evaluate".into(),
            ));
        }
        let model = outcomes(ranker, &protocol.queries, progress)?;
        // All rankers but the model know what is not test; the model knows what it was fitted to.
        let known = self.data.tally(|part| part != Part::Test)?.items;
        let popularity: Vec<f32> = known.iter().map(|&count| count as f32).collect();
        let catalog = self.data.catalog.len();
        let by = |scorer: &dyn Scorer| outcomes_of(scorer, &protocol.queries, catalog);
        let mut ranked = vec![
            Ranked { name: "model", outcomes: model },
            Ranked { name: "popularity", outcomes: by(&Popularity::new(popularity.clone())) },
        ];
        let (baselines, skipped) = self.baselines()?;
        ranked.extend(baselines.iter().map(|(name, scorer)| Ranked { name, outcomes: by(scorer.as_ref()) }));
        let mut summary = summary(self.data, &protocol, &popularity, &ranked, skipped);
        summary.slices.extend(self.by_objective(ranker, &protocol.queries, ranked)?);
        Ok(summary)
    }

    /// Those that are made, and why others are not.
    fn baselines(&self) -> Result<(Vec<Named>, Vec<String>), TrainError> {
        let (catalog, largest) = (self.data.catalog.len(), self.config.ease_items_max);
        let too_large = |baseline: &Baseline| *baseline == Baseline::Ease && catalog > largest;
        let (skipped, made): (Vec<Baseline>, Vec<Baseline>) =
            self.config.baselines.iter().copied().partition(too_large);
        let note = |_| format!("EASE was not made: {catalog} items are more than evaluation.ease_items_max, {largest}");
        let notes = skipped.into_iter().map(note).collect();
        if made.is_empty() {
            return Ok((Vec::new(), notes));
        }
        let users = self.user_items()?;
        let fit = |baseline: Baseline| -> Result<Named, TrainError> {
            Ok(match baseline {
                Baseline::ItemKnn => ("item_knn", Box::new(ItemKnn::fit(&users))),
                Baseline::Ease => ("ease", Box::new(Ease::fit(&users, largest)?)),
            })
        };
        Ok((made.into_iter().map(fit).collect::<Result<_, _>>()?, notes))
    }

    /// What is known of who had what.
    fn user_items(&self) -> Result<UserItems, TrainError> {
        let mut users = UserItems::new(self.data.catalog.len());
        for partition in 0..self.data.log.partitions() {
            let timelines = self.data.log.load(partition)?.retain(|part| part != Part::Test);
            timelines.iter().for_each(|timeline| users.push(timeline.items));
        }
        Ok(users)
    }

    /// A slice for each objective, of what is a positive of it, by all rankers and by its own part of the embedding alone.
    fn by_objective(
        &self,
        ranker: &ModelRanker<'_>,
        queries: &[Query],
        mut ranked: Vec<Ranked>,
    ) -> Result<Vec<Slice>, TrainError> {
        let count = self.objectives.len();
        if count != self.objective_weights.len() {
            return Ok(Vec::new());
        }
        let events: Vec<&String> = self.data.schema.interactions.events.keys().collect();
        let mut slices = Vec::with_capacity(count);
        for (at, (name, objective)) in self.objectives.iter().enumerate() {
            let counts = |&event: &u8| events.get(usize::from(event)).is_some_and(|e| objective.events.contains(*e));
            let alone: Vec<f32> = (0..count).map(|other| f32::from(u8::from(other == at))).collect();
            ranked.push(Ranked { name: ALONE, outcomes: ranker.weighed(&alone).outcomes(queries)? });
            slices.push(slice(&of_events("objective", name, queries, counts), &ranked));
            ranked.pop();
        }
        Ok(slices)
    }
}

/// A model's outcome of each query.
fn outcomes(
    ranker: &ModelRanker<'_>,
    queries: &[Query],
    progress: &mut dyn Progress,
) -> Result<Vec<ranking::Outcome>, TrainError> {
    let (mut outcomes, total) = (Vec::with_capacity(queries.len()), queries.len() as u64);
    for queries in queries.chunks(REPORT_QUERIES) {
        outcomes.extend(ranker.outcomes(queries)?);
        progress.report(&Report::of(Stage::Evaluate, outcomes.len() as u64, total));
    }
    Ok(outcomes)
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
