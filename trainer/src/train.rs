//! [`train`] and [`evaluate`]: each is one walk from tables to figures.

use std::{collections::BTreeMap, time::Instant};

use pagoda_dataset::Dataset;
use pagoda_model::{
    Entity, FeatureValue, Side,
    bundle::{BundleParts, ModelBundle, SAMPLE_USERS_LIMIT},
    features::{Encoder, Vocabularies, VocabularyBuilder, VocabularyLimits},
};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    config::{EvaluateConfig, InvalidConfig, TrainConfig},
    data::{Data, Timelines, split_positives},
    engine::{Encoded, FitTask, Fitted, fit, initial_model},
    error::TrainError,
    evaluation::{Evaluation, run},
    progress::{Progress, Report, Stage},
    summary::{EvaluationSummary, Summary},
};

/// The longest history of a sample user, before the encoder cuts it to the schema's length.
const SAMPLE_HISTORY_LIMIT: usize = 500;

/// A trained model and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model that was evaluated.
    pub bundle: ModelBundle,
    /// Its figures, which the bundle carries as well.
    pub summary: Summary,
}

/// Trains on the training part of a data set and evaluates the result on the test part. On an error there is no bundle.
/// The same data, configuration and number of threads give the same bundle.
///
/// All processors are used, each for blocks of its own. The matrix products within a block are candle's, which shares each of them
/// among `RAYON_NUM_THREADS` threads: a process that trains does best to set that to 1.
pub fn train(dataset: &Dataset, config: &TrainConfig, progress: &mut dyn Progress) -> Result<Trained, TrainError> {
    config.validate()?;
    let mut clock = Clock::default();
    progress.report(&Report::of(Stage::Read, 0, 1));
    let data = clock.time("read", || Data::read(dataset))?;
    progress.report(&Report::of(Stage::Read, 1, 1));
    threads()?.install(|| train_data(data, config, clock, progress))
}

/// A thread for each processor, whatever the environment says of rayon's own pool.
fn threads() -> Result<ThreadPool, TrainError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    ThreadPoolBuilder::new().num_threads(processors).build().map_err(|e| TrainError::Threads(e.to_string()))
}

/// Evaluates a model on the test part of a data set. With the configuration of its training, on its data, the figures are those of
/// its training.
pub fn evaluate(
    dataset: &Dataset,
    bundle: &ModelBundle,
    config: &EvaluateConfig,
    progress: &mut dyn Progress,
) -> Result<EvaluationSummary, TrainError> {
    progress.report(&Report::of(Stage::Read, 0, 1));
    let mut data = Data::read(dataset)?;
    progress.report(&Report::of(Stage::Read, 1, 1));
    if data.schema != *bundle.schema() {
        return Err(TrainError::OtherSchema);
    }
    split_positives(&mut data.positives, data.schema.interactions.split, config.split.test_share)?;
    let encoded = Encoded::new(&bundle.model().encoder, &data)?;
    let (queries_max, seed) = (config.evaluation.queries_max, config.seed);
    threads()?.install(|| run(&Evaluation { data: &data, encoded: &encoded, bundle, queries_max, seed }, progress))
}

/// All of training behind the reading of tables.
pub(crate) fn train_data(
    mut data: Data,
    config: &TrainConfig,
    mut clock: Clock,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    check_dims(config, &data)?;
    split_positives(&mut data.positives, data.schema.interactions.split, config.split.test_share)?;
    let entities = (data.users.len() + data.catalog.len()) as u64;
    progress.report(&Report::of(Stage::Encode, 0, entities));
    let (vocabularies, encoded, encoder) = clock.time("encode", || learn(&data, config))?;
    progress.report(&Report::of(Stage::Encode, entities, entities));

    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let (mut model, variables) = initial_model(encoder, &config.model, &mut rng)?;
    let timelines = Timelines::new(&data.positives, data.users.len(), |p| !p.test);
    let task = FitTask {
        data: &data,
        encoded: &encoded,
        timelines: &timelines,
        config: &config.training,
        uniform_negatives: config.training.batch_size / 2,
        temperature: config.loss.temperature,
    };
    let fitted = clock.time("train", || fit(&mut model, variables, &task, &mut rng, progress))?;

    let sample_items = data.catalog.iter().take(SAMPLE_USERS_LIMIT).cloned().collect();
    let sample_users = sample_users(&data, &timelines, &mut rng);
    let (architecture, seed, metrics) = (config.model.clone(), config.seed, serde_json::Value::Null);
    let mut bundle =
        ModelBundle::new(BundleParts { architecture, vocabularies, model, metrics, seed, sample_users, sample_items })?;

    let queries_max = config.evaluation.queries_max;
    let evaluation = Evaluation { data: &data, encoded: &encoded, bundle: &bundle, queries_max, seed };
    let evaluation = clock.time("evaluate", || run(&evaluation, progress))?;
    let summary = summary(&bundle, config, evaluation, fitted, clock);
    bundle.set_metrics(
        serde_json::to_value(&summary)
            .map_err(|e| TrainError::TooLittleData(format!("the summary is not representable: {e}")))?,
    );
    Ok(Trained { bundle, summary })
}

/// Dimensions of features that the schema does not have are slips of the pen.
fn check_dims(config: &TrainConfig, data: &Data) -> Result<(), InvalidConfig> {
    let names = |side, schema: &pagoda_model::schema::EntitySchema| -> Vec<String> {
        schema.features.iter().map(|f| format!("{side}.{}", f.name)).collect()
    };
    let known = [names(Side::User, &data.schema.user), names(Side::Item, &data.schema.item)].concat();
    let unknown = config.model.dims.features.keys().filter(|name| !known.contains(name));
    let faults: Vec<String> = unknown
        .map(|name| {
            format!("model.dims.features.\"{name}\": the schema has no such feature, it has {}", known.join(", "))
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(InvalidConfig(faults)) }
}

/// Vocabularies of what training may know, and everything encoded with them.
fn learn(data: &Data, config: &TrainConfig) -> Result<(Vocabularies, Encoded, Encoder), TrainError> {
    let mut builder = VocabularyBuilder::new(&data.schema);
    for (side, entities) in [(Side::User, &data.users), (Side::Item, &data.catalog)] {
        for entity in entities {
            let fault = |source| TrainError::Features { side, id: entity.id.clone(), source };
            builder.observe(side, entity).map_err(fault)?;
        }
    }
    for positive in data.positives.iter().filter(|p| !p.test) {
        builder.observe_id(Side::User, &data.users[positive.user as usize].id);
        builder.observe_id(Side::Item, &data.catalog[positive.item as usize].id);
    }
    let limits = VocabularyLimits { min_count: config.vocabulary.min_count, size_max: config.vocabulary.size_max };
    let vocabularies = builder.finish(limits);
    let encoder = Encoder::new(data.schema.clone().into(), &vocabularies)?;
    let encoded = Encoded::new(&encoder, data)?;
    Ok((vocabularies, encoded, encoder))
}

/// Users of the training log with their features and histories as of its end.
fn sample_users(data: &Data, timelines: &Timelines, rng: &mut ChaCha8Rng) -> Vec<Entity> {
    let known: Vec<u32> = (0..data.users.len() as u32).filter(|&user| !timelines.all(user).is_empty()).collect();
    let chosen = index::sample(rng, known.len(), known.len().min(SAMPLE_USERS_LIMIT));
    chosen.iter().map(|i| user_with_history(data, timelines, known[i])).collect()
}

fn user_with_history(data: &Data, timelines: &Timelines, user: u32) -> Entity {
    let mut entity = data.users[user as usize].clone();
    if let Some((name, _)) = data.schema.history() {
        let all = timelines.all(user);
        let newest = &all[all.len().saturating_sub(SAMPLE_HISTORY_LIMIT)..];
        let ids = newest.iter().map(|&item| data.catalog[item as usize].id.clone()).collect();
        entity.features.insert(name.to_owned(), FeatureValue::Texts(ids));
    }
    entity
}

fn summary(
    bundle: &ModelBundle,
    config: &TrainConfig,
    evaluation: EvaluationSummary,
    fitted: Fitted,
    clock: Clock,
) -> Summary {
    Summary {
        model_version: bundle.version().to_string(),
        evaluation,
        seconds: clock.seconds,
        examples_per_s: fitted.examples as f64 / fitted.seconds.max(1e-9),
        examples: fitted.examples,
        loss: fitted.loss,
        config: config.clone(),
        seed: config.seed,
    }
}

/// Seconds per stage.
#[derive(Default)]
pub(crate) struct Clock {
    seconds: BTreeMap<String, f64>,
}

impl Clock {
    fn time<T>(&mut self, stage: &str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.seconds.insert(stage.to_owned(), started.elapsed().as_secs_f64());
        result
    }
}
