//! The encoder from vocabulary to rows.

use std::sync::Arc;

use super::*;
use crate::{Entity, FeatureValue, Schema, Side};

const SCHEMA: &str = r#"
[user]
id = "user_id"
feature = [
  { name = "region", kind = "categorical" },
  { name = "history", kind = "sequence", max_length = 2 },
]
[item]
id = "item_id"
feature = [
  { name = "item_id", kind = "id" },
  { name = "tags", kind = "categorical_list" },
  { name = "price", kind = "numeric", scale = "log" },
  { name = "year", kind = "numeric", scale = "bucket" },
  { name = "title", kind = "text", buckets = 64 },
  { name = "image", kind = "dense", dim = 2 },
]
"#;

fn item(id: &str, tags: &[&str], number: f64) -> Entity {
    let tags = FeatureValue::Texts(tags.iter().map(|t| (*t).to_owned()).collect());
    let numbers = [("price", number), ("year", number)].map(|(n, x)| (n.to_owned(), FeatureValue::Number(x)));
    Entity { id: id.into(), features: [("tags".to_owned(), tags)].into_iter().chain(numbers).collect() }
}

fn user(history: &[&str]) -> Entity {
    let history = FeatureValue::Texts(history.iter().map(|t| (*t).to_owned()).collect());
    Entity { id: "u".into(), features: [("history".to_owned(), history)].into() }
}

fn vocabularies(schema: &Schema) -> Vocabularies {
    let mut builder = VocabularyBuilder::new(schema);
    for (id, tags, number) in [("a", &["x", "y"][..], 1.0), ("b", &["y"], 2.0), ("c", &[], 3.0)] {
        builder.observe(Side::Item, &item(id, tags, number)).unwrap();
    }
    ["b", "a", "b"].iter().for_each(|id| builder.observe_id(Side::Item, id));
    builder.finish(VocabularyLimits::default())
}

fn encoder() -> Encoder {
    encoder_of(SCHEMA, 1)
}

fn encoder_of(schema: &str, oov_rows: usize) -> Encoder {
    let schema = Schema::from_toml(schema).unwrap();
    let vocabularies = Vocabularies { oov_rows, ..vocabularies(&schema) };
    Encoder::new(Arc::new(schema), &vocabularies).unwrap()
}

fn encode(side: Side, entity: &Entity) -> EncodedBatch {
    let encoder = encoder();
    let mut batch = encoder.empty_batch(side);
    encoder.encode_into(side, entity, &mut batch).unwrap();
    batch
}

#[test]
fn ids_and_tags_have_rows_by_frequency_and_strangers_share_row_0() {
    let columns =
        |e: &Entity| encode(Side::Item, e).columns()[..2].iter().map(|c| c.bag(0).to_vec()).collect::<Vec<_>>();
    assert_eq!(columns(&item("b", &["x", "y"], 1.0)), [vec![1], vec![2, 1]]);
    assert_eq!(columns(&item("c", &["z"], 1.0)), [vec![0], vec![0]]);
    assert_eq!(columns(&item("", &[], 1.0)), [vec![0], vec![]]);
}

#[test]
fn a_history_is_the_newest_known_items_oldest_first_in_the_item_table() {
    assert_eq!(encode(Side::User, &user(&["b", "a", "unknown", "b"])).columns()[1].bag(0), [2, 1]);
    assert_eq!(encode(Side::User, &user(&["unknown"])).columns()[1].bag(0), [0; 0]);
    assert_eq!(encoder().history_rows("a"), [2]);
    assert_eq!(encoder().history_rows("unknown"), [0; 0]);
}

#[test]
fn numbers_are_scaled_and_clamped_and_absence_is_told_apart() {
    let numbers = |e: &Entity| match &encode(Side::Item, e).columns()[2] {
        Column::Floats { values, .. } => values.clone(),
        Column::Bags { .. } => panic!("a number is no bag"),
    };
    let logs = [1.0, 2.0, 3.0].map(f64::ln_1p);
    let mean = logs.iter().sum::<f64>() / 3.0;
    let deviation = (logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
    let expected = ((logs[2] - mean) / deviation) as f32;
    let found = numbers(&item("a", &[], 3.0));
    assert!((found[0] - expected).abs() < 1e-6 && found[1] == 1.0);
    assert_eq!(numbers(&item("a", &[], f64::MAX)), [10.0, 1.0]);
    assert_eq!(numbers(&Entity::of_id("a")), [0.0, 0.0]);
}

#[test]
fn buckets_follow_the_bounds_and_absence_has_its_own() {
    let bucket = |e: &Entity| encode(Side::Item, e).columns()[3].bag(0).to_vec();
    assert_eq!(bucket(&Entity::of_id("a")), [0]);
    assert_eq!(bucket(&item("a", &[], -5.0)), [1]);
    assert!(bucket(&item("a", &[], 3.0)) > bucket(&item("a", &[], 1.5)));
}

#[test]
fn a_fault_leaves_the_batch_as_it_was() {
    let encoder = encoder();
    let mut batch = encoder.empty_batch(Side::Item);
    encoder.encode_into(Side::Item, &item("a", &["x"], 1.0), &mut batch).unwrap();
    let before = batch.clone();
    assert!(encoder.encode_into(Side::Item, &item("a", &["x"], f64::NAN), &mut batch).is_err());
    assert_eq!(batch, before);
}

#[test]
fn vocabularies_survive_json_and_must_fit_the_schema() {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let mut vocabularies = vocabularies(&schema);
    let json = serde_json::to_string(&vocabularies).unwrap();
    assert_eq!(serde_json::from_str::<Vocabularies>(&json).unwrap(), vocabularies);
    assert!(serde_json::from_str::<Vocabularies>(&json.replace("\"x\"", "\"y\"")).is_err(), "a text occurs twice");
    vocabularies.item.remove("tags");
    assert!(Encoder::new(Arc::new(schema), &vocabularies).unwrap_err().to_string().contains("tags"));
}

#[test]
fn rare_texts_get_no_row() {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let mut builder = VocabularyBuilder::new(&schema);
    ["b", "a", "b"].iter().for_each(|id| builder.observe_id(Side::Item, id));
    let vocabularies = builder.finish(VocabularyLimits { min_count: 2, ..VocabularyLimits::default() });
    let Some(Learned::Texts(ids)) = vocabularies.item.get("item_id") else { panic!("ids have a vocabulary") };
    assert_eq!(ids.texts(), ["b"]);
}

#[test]
fn unknown_ids_share_the_first_rows_and_known_ones_follow() {
    let encoder = encoder_of(SCHEMA, 5);
    let mut batch = encoder.empty_batch(Side::Item);
    let ids = ["b", "a", "new", ""];
    ids.iter().for_each(|id| encoder.encode_into(Side::Item, &Entity::of_id(*id), &mut batch).unwrap());
    let rows: Vec<u32> = (0..ids.len()).map(|i| batch.columns()[0].bag(i)[0]).collect();
    assert_eq!(rows[..2], [5, 6]);
    assert!(rows[2..].iter().all(|&row| row < 5));
    assert_eq!(encoder.hidden_id_rows(Side::Item, "new"), [rows[2]]);
    assert!(encoder.hidden_id_rows(Side::Item, "b")[0] < 5);
    let mut users = encoder.empty_batch(Side::User);
    encoder.encode_into(Side::User, &user(&["b", "new", "a"]), &mut users).unwrap();
    assert_eq!(users.columns()[1].bag(0), [5, 6], "a history leaves the unknown out");
}

#[test]
fn the_number_of_rows_of_the_unknown_is_kept_and_checked() {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let one = vocabularies(&schema);
    let json = serde_json::to_string(&one).unwrap();
    assert!(!json.contains("oov_rows"), "as the first release wrote it");
    let five = Vocabularies { oov_rows: 5, ..one };
    assert_eq!(serde_json::from_str::<Vocabularies>(&serde_json::to_string(&five).unwrap()).unwrap(), five);
    for oov_rows in [0, usize::MAX] {
        let error = Encoder::new(Arc::new(schema.clone()), &Vocabularies { oov_rows, ..five.clone() }).unwrap_err();
        assert!(error.to_string().contains("oov_rows"), "{error}");
    }
}

#[test]
fn hashed_ids_need_no_vocabulary_and_histories_use_both_rows() {
    let hashed = SCHEMA.replace("kind = \"id\"", "kind = \"id\", hash_buckets = 50");
    let encoder = encoder_of(&hashed, 1);
    let rows = |id: &str| encoder.history_rows(id);
    assert_eq!((rows("a").len(), encoder.rows_per_item()), (2, 2));
    let mut users = encoder.empty_batch(Side::User);
    encoder.encode_into(Side::User, &user(&["a", "b", "never seen"]), &mut users).unwrap();
    assert_eq!(users.columns()[1].bag(0).len(), 4, "the newest two items");
    let mut items = encoder.empty_batch(Side::Item);
    encoder.encode_into(Side::Item, &Entity::of_id("never seen"), &mut items).unwrap();
    let mut newest = users.columns()[1].bag(0)[2..].to_vec();
    newest.sort_unstable();
    let mut own = items.columns()[0].bag(0).to_vec();
    own.sort_unstable();
    assert_eq!(newest, own);
    assert!(encoder.hidden_id_rows(Side::Item, "a").is_empty());
}

#[test]
fn what_was_learned_of_numbers_reads_back_exactly() {
    // A bundle's space is a digest of what was learned: a last digit that changes in JSON would make another space of it.
    let bounds: Vec<f64> = (1..20_000).map(|n| f64::from(n).sqrt() * 1e-3).collect();
    let learned = super::vocabulary::Learned::Bounds(bounds);
    let read: super::vocabulary::Learned = serde_json::from_str(&serde_json::to_string(&learned).unwrap()).unwrap();
    assert_eq!(read, learned);
}
