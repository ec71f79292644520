//! [`train`] and [`evaluate`]: each is one walk from tables to figures.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use pagoda_dataset::Dataset;
use pagoda_model::{
    Side,
    bundle::{BundleParts, ModelBundle, SAMPLE_USERS_LIMIT},
    features::Vocabularies,
    schema::Split,
    two_tower::{Architecture, TwoTower},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{
    config::{EvaluateConfig, Examples, InvalidConfig, TrainConfig},
    data::{Data, Part},
    engine::{CheckpointStore, Encoded, FitTask, Fitted, fit, initial_model},
    error::TrainError,
    evaluation::{Evaluation, example_queries, recall_at_20, validation_queries},
    learn::{Learned, sample_users},
    mining::HardPools,
    progress::{Progress, Report, Stage},
    report::RunReport,
    resume::{Resuming, Stores},
    run_report::{ExampleUsers, run_report},
    summary::{EvaluationSummary, RunFigures, Summary},
};

/// Users of a report's examples.
const EXAMPLE_USERS: usize = 6;

/// A trained model and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The model that was evaluated.
    pub bundle: ModelBundle,
    /// Its figures, which the bundle carries as well.
    pub summary: Summary,
    /// The same and more, for a person.
    pub report: RunReport,
}

/// Where a run keeps its state.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// A directory; it is made. What is left in it is [removed](Checkpoints::remove) by whoever has kept the model.
    pub dir: PathBuf,
    /// Whether to go on from what is there. Without anything there, the run begins.
    pub resume: bool,
}

impl Checkpoints {
    /// Removes the state of a run whose model is kept. Before that, a run that goes on from it ends with the same model.
    pub fn remove(&self) -> Result<(), TrainError> {
        Stores::remove(&self.dir)
    }
}

/// Trains on the training part of a data set and evaluates the result on the test part. On an error there is no bundle.
/// The same data, configuration and release give the same bundle, whatever the number of threads and however often the run was resumed.
///
/// All processors are used, each for blocks of its own. The matrix products within a block are candle's, which shares each of them
/// among `RAYON_NUM_THREADS` threads: a process that trains does best to set that to 1.
pub fn train(
    dataset: &Dataset,
    config: &TrainConfig,
    checkpoints: Option<&Checkpoints>,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    config.validate()?;
    let mut clock = Clock::default();
    progress.report(&Report::of(Stage::Read, 0, 1));
    let data = clock.time("read", || Data::read(dataset))?;
    progress.report(&Report::of(Stage::Read, 1, 1));
    threads()?.install(|| train_data(data, config, checkpoints, clock, progress))
}

/// A thread for each processor, whatever the environment says of rayon's own pool.
pub(crate) fn threads() -> Result<ThreadPool, TrainError> {
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
    data.split(&config.split, config.seed)?;
    let (encoded, none) = (Encoded::new(&bundle.model().encoder, &data)?, BTreeMap::new());
    let objective_weights = bundle.default_objective_weights();
    let evaluation = Evaluation {
        data: &data,
        encoded: &encoded,
        model: bundle.model(),
        objective_weights: &objective_weights,
        objectives: if config.objectives.keys().eq(bundle.objectives()) { &config.objectives } else { &none },
        config: &config.evaluation,
        seed: config.seed,
    };
    let mut summary = threads()?.install(|| evaluation.run(&evaluation.ranker()?, progress))?;
    summary.warnings.extend(unrelated(bundle, &encoded, &data));
    Ok(summary)
}

/// A model that knew none of the items in its training is most likely one of other data.
fn unrelated(bundle: &ModelBundle, encoded: &Encoded, data: &Data) -> Option<String> {
    let encoder = &bundle.model().encoder;
    let by_id = encoder.history_column().is_some() || encoder.id_column(Side::Item).is_some();
    let items = data.catalog.len();
    let none_known = by_id && !(0..items as u32).any(|item| encoded.is_known(item));
    none_known.then(|| {
        format!(
            "the model knew none of the {items} items of this data in its training: they are ranked by their content alone, \
             and histories are empty; is it a model of other data?"
        )
    })
}

/// All of training behind the reading of tables.
pub(crate) fn train_data(
    mut data: Data,
    config: &TrainConfig,
    checkpoints: Option<&Checkpoints>,
    mut clock: Clock,
    progress: &mut dyn Progress,
) -> Result<Trained, TrainError> {
    check_names(config, &data)?;
    data.split(&config.split, config.seed)?;
    let hard = hard_pools(config, &data)?;
    let stores = checkpoints.map(|place| Stores::open(place, &data, config, hard.as_ref())).transpose()?;
    let run = TrainRun { data: &data, config, hard: hard.as_ref(), stores: stores.as_ref() };
    let fitted = run.fit(&mut clock, progress)?;
    let FittedModel { model, vocabularies, encoded, keep, fitted } = fitted;

    let objective_weights = config.objective_weights();
    let evaluation = Evaluation {
        data: &data,
        encoded: &encoded,
        model: &model,
        objective_weights: &objective_weights,
        objectives: &config.objectives,
        config: &config.evaluation,
        seed: config.seed,
    };
    let (mut figures, examples) = clock.time("evaluate", || {
        let ranker = evaluation.ranker()?;
        let queries = example_queries(&data, EXAMPLE_USERS, config.seed)?;
        Ok::<_, TrainError>((evaluation.run(&ranker, progress)?, ExampleUsers::new(queries, &ranker)?))
    })?;
    figures.warnings.extend(hard.iter().flat_map(|pools| pools.left_out().notes()));

    let sample_items = data.catalog.iter().take(SAMPLE_USERS_LIMIT).cloned().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let sample_users = sample_users(&data, keep, &mut rng)?;
    let (architecture, seed, metrics) = (run.architecture(), config.seed, serde_json::Value::Null);
    let mut bundle =
        ModelBundle::new(BundleParts { architecture, vocabularies, model, metrics, seed, sample_users, sample_items })?;
    let run_figures = RunFigures { config, evaluation: figures, fitted, hard: hard.as_ref(), clock };
    let summary = Summary::new(&bundle, run_figures);
    bundle.set_metrics(
        serde_json::to_value(&summary)
            .map_err(|e| TrainError::TooLittleData(format!("the summary is not representable: {e}")))?,
    );
    let report = run_report(&data, &summary, examples);
    Ok(Trained { bundle, summary, report })
}

/// What all fits of a run share.
struct TrainRun<'a> {
    data: &'a Data,
    config: &'a TrainConfig,
    hard: Option<&'a HardPools>,
    stores: Option<&'a Stores>,
}

/// One of a run's fits.
struct FitStage<'a> {
    checkpoints: Option<&'a CheckpointStore>,
    /// The parts of the log that are learned from.
    keep: fn(Part) -> bool,
    /// How many epochs there are; None: as configured.
    epochs: Option<f64>,
}

/// A model, and what it was fitted with.
struct FittedModel {
    model: TwoTower,
    vocabularies: Vocabularies,
    encoded: Encoded,
    keep: fn(Part) -> bool,
    fitted: Fitted,
}

impl TrainRun<'_> {
    /// Fits a model, and once more on all that is not test if that is wanted.
    fn fit(&self, clock: &mut Clock, progress: &mut dyn Progress) -> Result<FittedModel, TrainError> {
        let validated = self.config.split.validation_share > 0.0;
        let checkpoints = self.stores.map(|stores| &stores.fit);
        let stage = FitStage { checkpoints, keep: |part| part == Part::Train, epochs: None };
        let first = self.fit_once(&stage, clock, progress)?;
        if !(validated && self.config.training.refit) {
            return Ok(first);
        }
        // As many as the kept model saw, of all that is not test.
        let epochs = Some(first.fitted.kept_epochs);
        let checkpoints = self.stores.map(|stores| &stores.refit);
        let stage = FitStage { checkpoints, keep: |part| part != Part::Test, epochs };
        let mut again = self.fit_once(&stage, clock, progress)?;
        again.fitted.curves.validation = first.fitted.curves.validation;
        Ok(again)
    }

    fn fit_once(
        &self,
        stage: &FitStage<'_>,
        clock: &mut Clock,
        progress: &mut dyn Progress,
    ) -> Result<FittedModel, TrainError> {
        let FitStage { checkpoints, keep, epochs } = *stage;
        let (data, config) = (self.data, self.config);
        let tally = data.tally(keep)?;
        let entities = (data.users.len() + data.catalog.len()) as u64;
        progress.report(&Report::of(Stage::Encode, 0, entities));
        let Learned { vocabularies, encoder, encoded } = clock.time("encode", || Learned::new(data, &tally, config))?;
        progress.report(&Report::of(Stage::Encode, entities, entities));
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let (mut model, variables) = initial_model(encoder, &self.architecture(), &mut rng)?;
        let queries = match epochs {
            None if config.split.validation_share > 0.0 => validation_queries(data, config.seed)?,
            _ => Vec::new(),
        };
        let objective_weights = config.objective_weights();
        let validate = |model: &TwoTower| recall_at_20(data, &encoded, model, &objective_weights, &queries);
        let task = FitTask {
            data,
            encoded: &encoded,
            config,
            keep,
            tally: &tally,
            hard: self.hard,
            epochs,
            validate: if queries.is_empty() { None } else { Some(&validate) },
            checkpoints,
        };
        let fitted = fit(&mut model, variables, &task, &mut Resuming { checkpoints, progress })?;
        clock.add("train", fitted.seconds, fitted.cpu_seconds);
        Ok(FittedModel { model, vocabularies, encoded, keep, fitted })
    }

    fn architecture(&self) -> Architecture {
        let mut architecture = self.config.model.clone();
        architecture.objectives = self.config.objectives.keys().cloned().collect();
        architecture.objective_weights = self.config.objective_weights();
        architecture
    }
}

fn hard_pools(config: &TrainConfig, data: &Data) -> Result<Option<HardPools>, TrainError> {
    let file = &config.negatives.hard_file;
    if file.is_empty() {
        return Ok(None);
    }
    let unknown_share_max = data.schema.interactions.unknown_items_share_max;
    Ok(Some(HardPools::read(file.as_ref(), &data.users, &data.catalog, unknown_share_max)?))
}

/// Dimensions of features and events of objectives that the schema does not have are slips of the pen.
fn check_names(config: &TrainConfig, data: &Data) -> Result<(), InvalidConfig> {
    let sides = [("user", &data.schema.user), ("item", &data.schema.item)];
    let known: Vec<String> =
        sides.iter().flat_map(|(side, s)| s.features.iter().map(move |f| format!("{side}.{}", f.name))).collect();
    let features = config.model.dims.features.keys().filter(|name| !known.contains(name)).map(|name| {
        format!("model.dims.features.\"{name}\": the schema has no such feature, it has {}", known.join(", "))
    });
    let events: Vec<&str> = data.schema.interactions.events.keys().map(String::as_str).collect();
    let known_events = &events.join(", ");
    let objectives = config.objectives.iter().flat_map(|(name, objective)| {
        let unknown = objective.events.iter().filter(|event| !events.contains(&event.as_str()));
        let unknown = unknown.map(move |event| {
            format!("objectives.{name}.events: the schema has no event `{event}`, it has {known_events}")
        });
        let weight = |event: &String| data.schema.interactions.events.get(event).copied().unwrap_or(1.0);
        let weighs = objective.events.iter().any(|event| weight(event) > 0.0);
        let nothing = (!weighs).then(|| {
            format!(
                "objectives.{name}.events: none of them weighs more than 0 in the schema, so there is nothing to learn"
            )
        });
        unknown.chain(nothing)
    });
    let architecture = config.model.schema_faults(&data.schema).into_iter().map(|fault| format!("model.{fault}"));
    let sequences = config.training.examples == Examples::Sequences;
    let no_order = sequences && (data.schema.history().is_none() || data.schema.interactions.split == Split::Given);
    let no_order = no_order.then(|| {
        "training.examples: \"sequences\" needs a history in the schema and a split by time or leave_last_out"
            .to_owned()
    });
    let faults: Vec<String> = features.chain(objectives).chain(architecture).chain(no_order).collect();
    if faults.is_empty() { Ok(()) } else { Err(InvalidConfig(faults)) }
}

/// Seconds per stage: of the clock on the wall, and of all processors.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    pub(crate) seconds: BTreeMap<String, f64>,
    pub(crate) cpu_seconds: BTreeMap<String, f64>,
}

impl Clock {
    fn time<T>(&mut self, stage: &str, work: impl FnOnce() -> T) -> T {
        let (started, cpu_started) = (Instant::now(), cpu_time());
        let result = work();
        let cpu = cpu_time().saturating_sub(cpu_started);
        self.add(stage, started.elapsed().as_secs_f64(), cpu.as_secs_f64());
        result
    }

    fn add(&mut self, stage: &str, seconds: f64, cpu_seconds: f64) {
        *self.seconds.entry(stage.to_owned()).or_default() += seconds;
        *self.cpu_seconds.entry(stage.to_owned()).or_default() += cpu_seconds;
    }
}

/// What this process has used of all processors.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
