//! Training from end to end on small worlds with a known truth.

use pagoda_dataset::{EntityTable, Interaction, Interactions};
use pagoda_model::{Entity, FeatureValue, ItemId, Schema, Side, UserId, bundle::ModelBundle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    config::TrainConfig,
    data::{Data, LogLimits},
    error::TrainError,
    progress::{Report, Silent, Stage},
    train::{Clock, Trained, train_data},
};

const SCHEMA: &str = r#"
[user]
id = "user_id"
feature = [{ name = "history", kind = "sequence", max_length = 20 }]
[item]
id = "item_id"
feature = [{ name = "item_id", kind = "id" }, { name = "tags", kind = "categorical_list" }]
"#;

const TASTES: u32 = 8;
const USERS: u32 = 200;
const ITEMS: u32 = 400;

/// Users like items of their own taste, which is the item's tag. Items from 360 on are born for the last tenth.
fn world(split: &str) -> Data {
    world_within(split, LogLimits::default())
}

fn world_within(split: &str, limits: LogLimits) -> Data {
    let mut schema = Schema::from_toml(SCHEMA).unwrap();
    schema.interactions.split = serde_json::from_value(split.into()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let tagged = |i: u32| {
        let tags = FeatureValue::Texts(vec![format!("taste {}", i % TASTES)]);
        Entity { id: format!("i{i:03}"), features: [("tags".to_owned(), tags)].into() }
    };
    let rows = (0..6000).map(|n| {
        let user = rng.random_range(0..USERS);
        let born = if n < 5400 { ITEMS * 9 / 10 } else { ITEMS };
        let item = rng.random_range(0..born / TASTES) * TASTES + user % TASTES;
        let test = split == "given" && n % 10 == 0;
        Interaction { user, item, timestamp: 1_000 + n, event: 0, weight: 1.0, test }
    });
    let log = Interactions {
        users: (0..USERS).map(|u| UserId::new(format!("u{u}")).unwrap()).collect(),
        items: (0..ITEMS).map(|i| ItemId::new(format!("i{i:03}")).unwrap()).collect(),
        rows: rows.collect(),
        ..Interactions::default()
    };
    let items = EntityTable { entities: (0..ITEMS).map(tagged).collect(), ..EntityTable::default() };
    Data::of_interactions(schema, EntityTable::default(), items, log, limits)
}

fn config() -> TrainConfig {
    TrainConfig::from_toml(
        "[training]\nepochs = 10\nbatch_size = 256\n[model.dims]\nid = 16\n[model]\nembedding_dim = 16\nhidden = [16]",
    )
    .unwrap()
}

fn trained(split: &str, config: &TrainConfig) -> Trained {
    train_data(world(split), config, None, Clock::default(), &mut Silent).unwrap()
}

#[test]
fn a_known_truth_is_learned_under_every_split() {
    for split in ["temporal", "leave_last_out", "given"] {
        let summary = trained(split, &config()).summary;
        let (model, popularity) =
            (summary.evaluation.metrics["recall_at_50"], summary.evaluation.popularity["recall_at_50"]);
        assert!(model > 0.7 && popularity < 0.3, "{split}: {model} {popularity}");
    }
}

#[test]
fn items_born_after_the_cut_are_found_by_their_content() {
    let evaluation = trained("temporal", &config()).summary.evaluation;
    let cold = evaluation.slice("cold items", "cold").unwrap();
    assert!(cold.queries > 20, "{cold:?}");
    assert!(cold.metrics["recall_at_100"] > 0.7 && cold.popularity["recall_at_100"] < 0.4, "{cold:?}");
}

#[test]
fn the_same_seed_gives_the_same_bundle_and_another_another() {
    let short = TrainConfig { training: crate::TrainingConfig { epochs: 1, ..config().training }, ..config() };
    let embeddings = |config: &TrainConfig| {
        let bundle = trained("temporal", config).bundle;
        (bundle.version(), bundle.embed(Side::Item, &[Entity::of_id("i001")]).unwrap())
    };
    let first = embeddings(&short);
    assert_eq!(first, embeddings(&short));
    assert_ne!(first, embeddings(&TrainConfig { seed: 1, ..short }));
}

#[test]
fn the_bundle_loads_and_carries_its_own_figures_and_users() {
    let Trained { bundle, summary, .. } = trained("temporal", &config());
    let read = ModelBundle::from_files(&bundle.to_files().unwrap()).unwrap();
    assert_eq!(read.metrics()["metrics"]["recall_at_100"], summary.evaluation.metrics["recall_at_100"]);
    assert_eq!(read.metrics()["popularity"]["recall_at_100"], summary.evaluation.popularity["recall_at_100"]);
    assert_eq!(read.sample_users().len(), USERS as usize);
    assert!(matches!(read.sample_users()[0].features["history"], FeatureValue::Texts(ref ids) if !ids.is_empty()));
}

#[test]
fn a_serving_user_is_embedded_as_the_evaluated_one() {
    let bundle = trained("temporal", &config()).bundle;
    let data = world("temporal");
    let history = data.catalog.iter().filter(|i| i.id.ends_with('1')).map(|i| i.id.clone()).collect::<Vec<_>>();
    let places: Vec<u32> =
        (0..).zip(&data.catalog).filter(|(_, i)| i.id.ends_with('1')).map(|(place, _)| place).collect();
    let encoded = crate::engine::Encoded::new(&bundle.model().encoder, &data).unwrap();
    let mut batch = encoded.empty(Side::User);
    encoded.push_user(&mut batch, &crate::engine::UserExample { user: 0, history: &places, id_hidden: false });
    let user = Entity { id: "u0".into(), features: [("history".to_owned(), FeatureValue::Texts(history))].into() };
    assert_eq!(bundle.embed_encoded(Side::User, &batch).unwrap(), bundle.embed(Side::User, &[user]).unwrap());
}

#[test]
fn divergence_ends_the_run_with_a_diagnosis() {
    let mut config = config();
    config.training.row_learning_rate = 100.0;
    config.training.tower_learning_rate = 10.0;
    config.training.weight_decay = 1.0;
    let mut data = world("temporal");
    data.event_weights.fill(f32::MAX);
    match train_data(data, &config, None, Clock::default(), &mut Silent) {
        Err(error @ TrainError::Diverged { .. }) => assert!(error.to_string().contains("learning_rate"), "{error}"),
        other => panic!("infinite weights must not train: {:?}", other.map(|t| t.summary)),
    }
}

#[test]
fn progress_is_reported_stage_by_stage_to_its_end() {
    let mut reports: Vec<Report> = Vec::new();
    train_data(world("temporal"), &config(), None, Clock::default(), &mut |r: &Report| reports.push(*r)).unwrap();
    for stage in [Stage::Encode, Stage::Train, Stage::Evaluate] {
        let of_stage: Vec<&Report> = reports.iter().filter(|r| r.stage == stage).collect();
        assert!(of_stage.is_sorted_by_key(|r| r.step));
        let last = of_stage[of_stage.len() - 1];
        assert_eq!(last.step, last.total, "{stage:?}");
    }
    assert!(reports.iter().any(|r| r.loss.is_some() && r.examples_per_s.is_some()));
}

#[test]
fn a_dimension_of_an_unknown_feature_is_refused() {
    let mut config = config();
    config.model.dims.features.insert("item.colour".into(), 4);
    let error = train_data(world("temporal"), &config, None, Clock::default(), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("item.colour") && error.contains("item.tags"), "{error}");
}

/// What differs from [`config`].
fn with(text: &str) -> TrainConfig {
    let base =
        "[training]\nepochs = 10\nbatch_size = 256\n[model.dims]\nid = 16\n[model]\nembedding_dim = 16\nhidden = [16]";
    TrainConfig::layered(&[base, text]).unwrap()
}

fn recall(trained: &Trained) -> f64 {
    trained.summary.evaluation.metrics["recall_at_50"]
}

#[test]
fn every_pooling_learns_from_interactions_and_from_sequences() {
    for pooling in ["mean", "recency", "attention", "transformer"] {
        for examples in ["interactions", "sequences"] {
            let text = format!("[training]\nexamples = \"{examples}\"\n[model.history]\npooling = \"{pooling}\"");
            let recall = recall(&trained("leave_last_out", &with(&text)));
            assert!(recall > 0.6, "{pooling} {examples}: {recall}");
        }
    }
}

#[test]
fn every_loss_and_optimiser_learns() {
    for (kind, more) in [
        ("softmax", "temperature_learned = true"),
        ("binary_cross_entropy", "negative_weight = 1.0"),
        ("bpr", ""),
        ("margin", "margin = 0.4"),
        ("cosine_contrastive", "margin = 0.2\nnegative_weight = 20.0"),
    ] {
        let text = format!("[loss]\nkind = \"{kind}\"\n{more}");
        let recall = recall(&trained("temporal", &with(&text)));
        assert!(recall > 0.6, "{kind}: {recall}");
    }
    let adam = with("[training]\nrow_optimizer = \"adam\"\nrow_learning_rate = 0.01");
    assert!(recall(&trained("temporal", &adam)) > 0.6);
}

#[test]
fn every_source_of_negatives_comes_out_as_it_was_asked_for() {
    let text = "[negatives]\nin_batch = 0.4\nuniform = 0.2\npopularity = 0.2\ncache = 0.2";
    let trained = trained("temporal", &with(text));
    assert!(recall(&trained) > 0.6, "{}", recall(&trained));
    let negatives = &trained.summary.negatives;
    assert_eq!(negatives.len(), 4);
    for figures in negatives {
        // Masked pairs and the cache's first steps are missing.
        assert!((figures.realised_share - figures.target_share).abs() < 0.03, "{figures:?}");
        assert!(figures.loss_share.unwrap() > 0.05, "{figures:?}");
    }
    let all: f64 = negatives.iter().map(|figures| figures.realised_share).sum();
    assert!((all - 1.0).abs() < 1e-9);
    for point in &trained.summary.calibration {
        assert!((point.observed / point.expected - 1.0).abs() < 0.25, "{point:?}");
    }
}

#[test]
fn validation_stops_a_run_early_and_a_refit_learns_from_all_but_the_test() {
    let text = "[split]\nvalidation_share = 0.1\n[training]\nepochs = 60\npatience = 2";
    let early = trained("temporal", &with(text));
    let (steps, kept) = (early.summary.steps, early.summary.kept_steps);
    assert!(kept < steps && steps < 60 * 6000 * 8 / 10 / 256, "{kept} of {steps}");
    let validation = &early.summary.curves.validation;
    let best = validation.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(validation.len() >= 3 && best.1 > 0.5, "{validation:?}");
    let refit = trained("temporal", &with(&format!("{text}\nrefit = true")));
    assert_eq!(refit.summary.steps, refit.summary.kept_steps);
    assert!(refit.summary.steps > kept);
    assert_eq!(&refit.summary.curves.validation, validation);
    // The same test part in both cases.
    assert_eq!(refit.summary.evaluation.counts, early.summary.evaluation.counts);
}

#[test]
fn objectives_have_parts_of_the_embedding_of_their_own() {
    let mut schema_world = world("temporal");
    schema_world.schema.interactions.events = [("click".to_owned(), 1.0), ("buy".to_owned(), 1.0)].into();
    let text = "[objectives.click]\nevents = [\"click\", \"buy\"]\n[objectives.buy]\nevents = [\"buy\"]\nweight = 0.5";
    let trained = train_data(schema_world, &with(text), None, Clock::default(), &mut Silent).unwrap();
    let item = &trained.bundle.embed(Side::Item, &[Entity::of_id("i001")]).unwrap()[0];
    let norm = |part: &[f32]| part.iter().map(|v| v * v).sum::<f32>();
    assert!((norm(&item.as_slice()[..8]) - 0.5).abs() < 1e-4 && (norm(&item.as_slice()[8..]) - 0.5).abs() < 1e-4);
    assert!(recall(&trained) > 0.4, "{}", recall(&trained));
    // Events are numbered by name, so that all of the world's are buys.
    let evaluation = &trained.summary.evaluation;
    for objective in ["buy", "click"] {
        let slice = evaluation.slice("objective", objective).unwrap();
        assert_eq!(slice.queries, evaluation.counts.queries);
        assert_eq!(slice.metrics["recall_at_50"], recall(&trained));
        assert!(slice.baselines["objective alone"]["recall_at_50"] > 0.2, "{slice:?}");
    }
}

#[test]
fn a_collapsed_space_ends_the_run_with_a_diagnosis() {
    // Pulled together, and never pushed apart.
    let text = "[loss]\nkind = \"cosine_contrastive\"\nmargin = 1.0\nnegative_weight = 0.0\n[training]\ntower_learning_rate = 0.01";
    match train_data(world("temporal"), &with(text), None, Clock::default(), &mut Silent) {
        Err(error @ TrainError::Collapsed { .. }) => assert!(error.to_string().contains("look alike"), "{error}"),
        other => panic!("what is never pushed apart must collapse: {:?}", other.map(|t| t.summary.evaluation.metrics)),
    }
}

#[test]
fn a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been() {
    let text = "[checkpoint]\nevery_seconds = 1\n[negatives]\ncache = 0.2\n[loss]\ntemperature_learned = true\n[split]\nvalidation_share = 0.1";
    let mut config = with(text);
    // More steps than points of the curves, so that some end between points.
    config.training.epochs = 12;
    let whole = train_data(world("temporal"), &config, None, Clock::default(), &mut Silent).unwrap();
    // Every step is due, and the run is ended in the middle of its steps.
    config.checkpoint.every_seconds = 0;
    let dir = tempfile::tempdir().unwrap();
    let place = |resume| crate::Checkpoints { dir: dir.path().to_owned(), resume };
    for resume in [false, true] {
        let mut seen = 0;
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut progress = |report: &Report| {
                seen += u32::from(report.stage == Stage::Train);
                assert!(seen < 40, "killed");
            };
            train_data(world("temporal"), &config, Some(&place(resume)), Clock::default(), &mut progress)
        }));
        assert!(killed.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    let other = TrainConfig { seed: config.seed + 1, ..config.clone() };
    let refused = train_data(world("temporal"), &other, Some(&place(true)), Clock::default(), &mut Silent).unwrap_err();
    let message = format!("it is of another run: seed was {}, is {};", config.seed, other.seed);
    assert!(refused.to_string().contains(&message), "{refused}");
    let (mut first, mut resumed_at) = (None, None);
    let mut progress = |report: &Report| match report.stage {
        Stage::Train => drop(first.get_or_insert(report.step)),
        Stage::Resume => resumed_at = Some((report.step, report.total)),
        _ => {}
    };
    let resumed = train_data(world("temporal"), &config, Some(&place(true)), Clock::default(), &mut progress).unwrap();
    assert!(first.unwrap() > 110, "it went on: {first:?}");
    let (step, total) = resumed_at.unwrap();
    assert!(step > 100 && step <= first.unwrap() && total == resumed.summary.steps, "{step} of {total}");
    let tensors = |trained: &Trained| trained.bundle.to_files().unwrap().remove("model.safetensors");
    assert!(tensors(&resumed) == tensors(&whole), "bit for bit");
    assert_eq!(resumed.bundle.version(), whole.bundle.version());
    assert_eq!(resumed.summary.evaluation, whole.summary.evaluation);
    assert_eq!(resumed.summary.curves, whole.summary.curves);
    assert_eq!(resumed.summary.negatives, whole.summary.negatives);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "until the model is kept a run can go on");
    place(true).remove().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_run_with_nothing_to_tell_positives_from_is_refused() {
    // Nothing was shown without a click.
    let text = "[negatives]\nin_batch = 0.0\nuniform = 0.0\nexposed = 1.0";
    let error = train_data(world("temporal"), &with(text), None, Clock::default(), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("nothing to tell positives from"), "{error}");
}

#[test]
fn an_objective_without_weight_or_of_an_unknown_event_is_refused() {
    for (event, expected) in [("impression", "weighs more than 0"), ("clik", "no event `clik`")] {
        let text = format!("[objectives.seen]\nevents = [\"{event}\"]");
        let error = train_data(world("temporal"), &with(&text), None, Clock::default(), &mut Silent).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("objectives.seen.events") && message.contains(expected), "{message}");
    }
}

#[test]
fn an_objective_without_a_positive_is_refused() {
    let mut world = world("temporal");
    // Events are numbered by name, so that all of the world's are buys.
    world.schema.interactions.events = [("click".to_owned(), 1.0), ("buy".to_owned(), 1.0)].into();
    let text = "[objectives.bought]\nevents = [\"buy\"]\n[objectives.clicked]\nevents = [\"click\"]";
    let error = train_data(world, &with(text), None, Clock::default(), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("none is of objectives.clicked (click);") && error.contains("`event`"), "{error}");
}

#[test]
fn sequences_that_have_nothing_to_predict_are_refused() {
    // No item is known, so that no position of a history predicts another.
    let text = "[training]\nexamples = \"sequences\"\nhistory_dropout = 0.0\n[vocabulary]\nmin_count = 1000";
    let error = train_data(world("temporal"), &with(text), None, Clock::default(), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("no item to predict"), "{error}");
}
