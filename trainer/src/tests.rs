//! Training from end to end on small worlds with a known truth.

use pagoda_dataset::{EntityTable, Interaction, Interactions};
use pagoda_model::{Entity, FeatureValue, ItemId, Schema, Side, UserId, bundle::ModelBundle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    config::TrainConfig,
    data::Data,
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
        Interaction { user, item, timestamp: 1_000 + n, weight: 1.0, test }
    });
    let log = Interactions {
        users: (0..USERS).map(|u| UserId::new(format!("u{u}")).unwrap()).collect(),
        items: (0..ITEMS).map(|i| ItemId::new(format!("i{i:03}")).unwrap()).collect(),
        rows: rows.collect(),
        ..Interactions::default()
    };
    let items = EntityTable { entities: (0..ITEMS).map(tagged).collect(), ..EntityTable::default() };
    Data::join(schema, EntityTable::default(), items, log)
}

fn config() -> TrainConfig {
    TrainConfig::from_toml(
        "[training]\nepochs = 10\nbatch_size = 256\n[model.dims]\nid = 16\n[model]\nembedding_dim = 16\nhidden = [16]",
    )
    .unwrap()
}

fn trained(split: &str, config: &TrainConfig) -> Trained {
    train_data(world(split), config, Clock::default(), &mut Silent).unwrap()
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
    let cold = &evaluation.slices["cold_items"];
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
    let Trained { bundle, summary } = trained("temporal", &config());
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
    data.positives.iter_mut().for_each(|p| p.weight = f32::MAX);
    match train_data(data, &config, Clock::default(), &mut Silent) {
        Err(error @ TrainError::Diverged { .. }) => assert!(error.to_string().contains("learning_rate"), "{error}"),
        other => panic!("infinite weights must not train: {:?}", other.map(|t| t.summary)),
    }
}

#[test]
fn progress_is_reported_stage_by_stage_to_its_end() {
    let mut reports: Vec<Report> = Vec::new();
    train_data(world("temporal"), &config(), Clock::default(), &mut |r: &Report| reports.push(*r)).unwrap();
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
    let error = train_data(world("temporal"), &config, Clock::default(), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("item.colour") && error.contains("item.tags"), "{error}");
}
