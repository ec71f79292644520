//! A bundle is what it was, or it is refused.

use candle_core::Device;

use super::*;
use crate::{
    FeatureValue,
    features::{Encoder, VocabularyBuilder, VocabularyLimits},
    initial::WeightSpec,
    tables::{FeatureDims, Layout, Table},
    tower::Activation,
    two_tower::{HistoryArchitecture, HistoryPooling},
};

const SCHEMA: &str = r#"
[user]
id = "user_id"
feature = [{ name = "region", kind = "categorical" }, { name = "history", kind = "sequence" }]
[item]
id = "item_id"
feature = [
  { name = "item_id", kind = "id" },
  { name = "title", kind = "text", buckets = 16 },
  { name = "price", kind = "numeric" },
]
"#;

fn architecture() -> Architecture {
    let dims =
        FeatureDims { id: 4, categorical: 2, categorical_list: 2, bucket: 2, text: 3, features: BTreeMap::new() };
    Architecture {
        embedding_dim: 4,
        hidden: vec![5],
        activation: Activation::Gelu,
        residual: false,
        cross_layers: 0,
        feature_gate: false,
        history: HistoryArchitecture::default(),
        objectives: Vec::new(),
        objective_weights: Vec::new(),
        dims,
    }
}

fn items() -> Vec<Entity> {
    let item = |n: usize| {
        let features =
            [("title", FeatureValue::Text(format!("item number {n}"))), ("price", FeatureValue::Number(n as f64))];
        Entity { id: format!("i{n}"), features: features.map(|(k, v)| (k.to_owned(), v)).into() }
    };
    (0..9).map(item).collect()
}

fn users() -> Vec<Entity> {
    let user = |n: usize| {
        let history = (0..n % 4).map(|i| format!("i{i}")).collect();
        let features = [("region", FeatureValue::Text("r1".into())), ("history", FeatureValue::Texts(history))];
        Entity { id: format!("u{n}"), features: features.map(|(k, v)| (k.to_owned(), v)).into() }
    };
    (0..20).map(user).collect()
}

/// Numbers that look random and are the same everywhere.
fn noise(count: usize, seed: &mut u32) -> Vec<f32> {
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn bundle() -> ModelBundle {
    bundle_of(SCHEMA, architecture(), 1)
}

fn bundle_of(schema: &str, architecture: Architecture, oov_rows: usize) -> ModelBundle {
    let schema = Schema::from_toml(schema).unwrap();
    assert_eq!((architecture.faults(), architecture.schema_faults(&schema)), (vec![], vec![]));
    let mut builder = VocabularyBuilder::new(&schema);
    for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
        entities.iter().for_each(|e| builder.observe(side, e).unwrap());
    }
    items()[..6].iter().for_each(|e| builder.observe_id(Side::Item, &e.id));
    let vocabularies = builder.finish(VocabularyLimits { oov_rows, ..VocabularyLimits::default() });
    let encoder = Encoder::new(Arc::new(schema), &vocabularies).unwrap();
    let layout = Layout::new(&encoder, &architecture);
    let mut seed = 1;
    let tables = layout
        .tables
        .iter()
        .map(|spec| Table { values: noise(spec.rows * spec.dim, &mut seed), spec: spec.clone() })
        .collect();
    let mut weights = |side| {
        let specs = architecture.weights(&layout, side).into_iter();
        let tensor = |WeightSpec { name, shape, .. }: WeightSpec| {
            (name, Tensor::from_vec(noise(shape.iter().product(), &mut seed), shape, &Device::Cpu).unwrap())
        };
        specs.map(tensor).collect()
    };
    let weights = [weights(Side::User), weights(Side::Item)];
    let model = TwoTower::new(encoder, &architecture, tables, &weights).unwrap();
    let metrics = serde_json::json!({ "recall_at_100": 0.5 });
    let (sample_users, sample_items) = (users(), items());
    ModelBundle::new(BundleParts { architecture, vocabularies, model, metrics, seed: 7, sample_users, sample_items })
        .unwrap()
}

/// A bundle for each option of the architecture, the schema and the vocabularies.
fn bundles() -> Vec<(String, ModelBundle)> {
    let mut bundles = vec![("default".to_owned(), bundle())];
    for pooling in [HistoryPooling::Recency, HistoryPooling::Attention, HistoryPooling::Transformer] {
        for hashed in [false, true] {
            let history = HistoryArchitecture { pooling, heads: 2, blocks: 2, feed_forward: 6 };
            let schema = if hashed { hashed_schema() } else { SCHEMA.to_owned() };
            let bundle = bundle_of(&schema, Architecture { history, ..architecture() }, 1);
            bundles.push((format!("{pooling:?} hashed {hashed}"), bundle));
        }
    }
    let two = || vec!["click".to_owned(), "buy".to_owned()];
    for (name, architecture) in [
        ("no hidden layer", Architecture { hidden: vec![], ..architecture() }),
        ("residual", Architecture { hidden: vec![5, 5], residual: true, ..architecture() }),
        ("cross layers", Architecture { cross_layers: 2, ..architecture() }),
        ("feature gate", Architecture { feature_gate: true, ..architecture() }),
        ("objectives", Architecture { objectives: two(), objective_weights: vec![1.0, 3.0], ..architecture() }),
    ] {
        bundles.push((name.to_owned(), bundle_of(SCHEMA, architecture, 1)));
    }
    bundles.push(("hashed mean".to_owned(), bundle_of(&hashed_schema(), architecture(), 1)));
    bundles.push(("unknown rows".to_owned(), bundle_of(SCHEMA, architecture(), 5)));
    bundles
}

fn hashed_schema() -> String {
    SCHEMA.replace("kind = \"id\"", "kind = \"id\", hash_buckets = 8")
}

#[test]
fn a_bundle_reads_what_it_writes() {
    for (name, bundle) in bundles() {
        let read = ModelBundle::from_files(&bundle.to_files().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(read.version(), bundle.version(), "{name}");
        assert_eq!((read.seed(), read.metrics(), read.sample_users()), (7, bundle.metrics(), bundle.sample_users()));
        // The golden embeddings are normalised once more, which may move a last digit; their cosines are checked by the reader.
        let (again, first) = (read.to_files().unwrap(), bundle.to_files().unwrap());
        let unequal = first.keys().filter(|file| again[*file] != first[*file]);
        assert!(unequal.clone().all(|file| file == "golden.json" || file == "manifest.json"), "{name}: {unequal:?}");
        for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
            assert_eq!(read.embed(side, &entities).unwrap(), bundle.embed(side, &entities).unwrap(), "{name}");
        }
    }
}

#[test]
fn every_option_makes_another_model() {
    let embeddings: Vec<(String, Vec<Embedding>)> =
        bundles().into_iter().map(|(name, b)| (name, b.embed(Side::User, &users()).unwrap())).collect();
    for (i, (name, a)) in embeddings.iter().enumerate() {
        for (other, b) in &embeddings[..i] {
            assert_ne!(a, b, "{name} is {other}");
        }
    }
}

#[test]
fn batched_equals_single() {
    for (name, bundle) in bundles() {
        for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
            let batched = bundle.embed(side, &vec![entities.clone(); 40].concat()).unwrap();
            for (i, together) in batched.iter().enumerate() {
                let alone = bundle.embed(side, &entities[i % entities.len()..=i % entities.len()]).unwrap();
                assert!(alone[0].dot(together) > 0.9999, "{name} {side} {i}");
            }
        }
    }
}

/// Written by the first release, before any of the options was there.
#[test]
fn a_bundle_of_format_1_reads_and_embeds_as_it_did() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundle_v1");
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files: BTreeMap<String, Vec<u8>> =
        entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect();
    assert!(String::from_utf8_lossy(&files["manifest.json"]).contains("\"format_version\":1"));
    let read = ModelBundle::from_files(&files).unwrap();
    let bundle = bundle();
    assert_eq!(read.version(), bundle.version(), "the space is the one of the same model of today");
    for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
        let (then, now) = (read.embed(side, &entities).unwrap(), bundle.embed(side, &entities).unwrap());
        assert!(then.iter().zip(&now).all(|(then, now)| then.dot(now) > 0.9999));
    }
    // Written anew it is of this format, and the same model.
    assert_eq!(ModelBundle::from_files(&read.to_files().unwrap()).unwrap().version(), read.version());
}

#[test]
fn what_does_not_fit_the_schema_is_refused() {
    let history =
        HistoryArchitecture { pooling: HistoryPooling::Attention, heads: 3, ..HistoryArchitecture::default() };
    let schema =
        Schema::from_toml(&SCHEMA.replace("kind = \"sequence\"", "kind = \"sequence\", max_length = 5000")).unwrap();
    let faults = Architecture { history, ..architecture() }.schema_faults(&schema);
    assert!(faults.len() == 2 && faults[0].contains("5000") && faults[1].contains("heads"), "{faults:?}");
    assert!(architecture().schema_faults(&schema).is_empty(), "the mean takes any length and any heads");
}

#[test]
fn objectives_are_named_once_and_cut_the_embedding_evenly() {
    let of = |names: &[&str], weights: &[f32]| {
        let objectives = names.iter().map(|n| (*n).to_owned()).collect();
        Architecture { objectives, objective_weights: weights.to_vec(), ..architecture() }.faults()
    };
    assert!(of(&["a", "b"], &[1.0, 2.0]).is_empty() && of(&["a", "b"], &[]).is_empty());
    assert!(of(&["a", "b", "c"], &[])[0].contains("multiple"));
    assert!(of(&["a", "a"], &[])[0].contains("used once"));
    assert!(of(&["a", "b"], &[1.0])[0].contains("one for each"));
    assert!(of(&["a", "b"], &[1.0, f32::NAN])[0].contains("objective_weights[1]"));
}

fn asked(weights: &[(&str, f32)]) -> BTreeMap<String, f32> {
    weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect()
}

#[test]
fn weights_order_items_by_the_weighted_sum_of_the_objectives_cosines() {
    let objectives = vec!["click".to_owned(), "buy".to_owned()];
    let bundle = bundle_of(SCHEMA, Architecture { objectives, objective_weights: vec![1.0, 3.0], ..architecture() }, 1);
    let users = bundle.embed(Side::User, &users()).unwrap();
    let items = bundle.embed(Side::Item, &items()).unwrap();
    let cosine = |user: &Embedding, item: &Embedding, slice: std::ops::Range<usize>| {
        let (user, item) = (&user.as_slice()[slice.clone()], &item.as_slice()[slice]);
        2.0 * user.iter().zip(item).map(|(a, b)| a * b).sum::<f32>()
    };
    for (weights, [click, buy]) in [
        (asked(&[]), [1.0, 3.0]),
        (asked(&[("click", 2.0), ("buy", 0.5)]), [2.0, 0.5]),
        (asked(&[("buy", 9.0)]), [0.0, 9.0]),
    ] {
        for user in &users {
            let weighed = bundle.weigh(user, &weights).unwrap();
            // |(w1 u1, w2 u2)| = sqrt((w1^2 + w2^2) / 2), and the item's slices have norm 1 / sqrt(2).
            let norm = f32::sqrt((click * click + buy * buy) / 2.0);
            for item in &items {
                let sum = click * cosine(user, item, 0..2) + buy * cosine(user, item, 2..4);
                assert!((weighed.dot(item) - sum / 2.0 / norm).abs() < 1e-5);
            }
        }
    }
    assert_eq!(bundle.weigh(&users[0], &asked(&[("click", 7.0), ("buy", 7.0)])).unwrap(), users[0]);
}

#[test]
fn weights_at_fault_are_named_all_of_them() {
    let objectives = vec!["click".to_owned(), "buy".to_owned()];
    let bundle = bundle_of(SCHEMA, Architecture { objectives, ..architecture() }, 1);
    let InvalidWeights(faults) =
        bundle.objective_weights(&asked(&[("click", f32::NAN), ("buy", -1.0), ("share", 1.0)])).unwrap_err();
    assert_eq!(faults.iter().filter_map(WeightFault::objective).collect::<Vec<_>>(), ["buy", "click", "share"]);
    assert!(faults[2].to_string().contains("click, buy"), "{}", faults[2]);
    let zero = bundle.objective_weights(&asked(&[("click", 0.0)])).unwrap_err();
    assert_eq!(zero.0, [WeightFault::AllZero]);
    let none = super::tests::bundle().objective_weights(&asked(&[("click", 1.0)])).unwrap_err();
    assert!(none.to_string().contains("no named ones"), "{none}");
}

#[test]
fn every_entity_at_fault_is_named_and_strangers_are_ordinary() {
    let bundle = bundle();
    let mut entities = items();
    entities[2].features.insert("price".into(), FeatureValue::Number(f64::NAN));
    entities[7].features.insert("colour".into(), FeatureValue::Number(1.0));
    let Err(EmbedError::Invalid(faults)) = bundle.embed(Side::Item, &entities) else {
        panic!("two items are at fault")
    };
    assert_eq!(faults.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [2, 7]);
    assert_eq!(bundle.embed(Side::User, &[Entity::default(), Entity::of_id("never seen")]).unwrap().len(), 2);
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let files = bundle().to_files().unwrap();
    for (name, bytes) in &files {
        let step = (bytes.len() / 150).max(1);
        for at in (0..bytes.len()).step_by(step) {
            for bit in [0, 5] {
                let mut damaged = files.clone();
                damaged.get_mut(name).unwrap()[at] ^= 1 << bit;
                assert!(ModelBundle::from_files(&damaged).is_err(), "{name} byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn truncated_and_missing_files_are_refused_by_name() {
    let files = bundle().to_files().unwrap();
    for (name, bytes) in &files {
        let mut damaged = files.clone();
        damaged.insert(name.clone(), bytes[..bytes.len() / 2].to_vec());
        assert!(ModelBundle::from_files(&damaged).unwrap_err().to_string().contains(name.as_str()));
        damaged.remove(name);
        assert!(matches!(ModelBundle::from_files(&damaged), Err(BundleError::Missing(n)) if n == *name));
    }
}

/// Replaces files and seals them anew, as a hostile writer would.
fn resealed(changes: &[(&str, Vec<u8>)]) -> Result<ModelBundle, BundleError> {
    let mut files = bundle().to_files().unwrap();
    let mut manifest = manifest::Manifest::from_bytes(&files[manifest::MANIFEST]).unwrap();
    for (name, bytes) in changes {
        files.insert((*name).to_owned(), bytes.clone());
        manifest.files.insert((*name).to_owned(), manifest::FileDigest::of(bytes));
    }
    files.insert(manifest::MANIFEST.to_owned(), manifest.to_bytes().unwrap());
    ModelBundle::from_files(&files)
}

#[test]
fn weights_of_another_space_are_refused() {
    let mut other = bundle();
    let table = other.model.tables.iter_mut().find(|t| t.spec.name == "item.title").unwrap();
    table.values[0] += 1.0;
    let error = resealed(&[("model.safetensors", tensors::write(&other.model).unwrap())]).unwrap_err();
    assert!(error.to_string().contains("space"), "{error}");
}

#[test]
fn id_rows_are_no_part_of_the_space_but_golden_examples_see_them() {
    let mut other = bundle();
    let table = other.model.tables.iter_mut().find(|t| t.spec.name == "item.item_id").unwrap();
    table.values.iter_mut().for_each(|v| *v = -*v * 3.0);
    assert_eq!(space_id(&other.architecture, &other.vocabularies, &other.model).unwrap(), other.version.space);
    let error = resealed(&[("model.safetensors", tensors::write(&other.model).unwrap())]).unwrap_err();
    assert!(matches!(error, BundleError::Golden { .. }), "{error}");
}

#[test]
fn rows_of_hashed_ids_are_a_part_of_the_space() {
    let mut other = bundle_of(&hashed_schema(), architecture(), 1);
    let table = other.model.tables.iter_mut().find(|t| t.spec.name == "item.item_id").unwrap();
    table.values[0] += 1.0;
    assert_ne!(space_id(&other.architecture, &other.vocabularies, &other.model).unwrap(), other.version.space);
}

#[test]
fn infinite_weights_and_wrong_shapes_are_refused() {
    let mut other = bundle();
    other.model.tables[0].values[3] = f32::INFINITY;
    let error = resealed(&[("model.safetensors", tensors::write(&other.model).unwrap())]).unwrap_err();
    assert!(error.to_string().contains("finite"), "{error}");
    let mut other = bundle();
    other.model.tables[0].spec.rows += 1;
    other.model.tables[0].values.extend([0.0; 4]);
    let error = resealed(&[("model.safetensors", tensors::write(&other.model).unwrap())]).unwrap_err();
    assert!(error.to_string().contains("[7, 4]") && error.to_string().contains("[8, 4]"), "{error}");
}

#[test]
fn absurd_sizes_are_refused_before_they_are_allocated() {
    let schema = SCHEMA.replace("buckets = 16", "buckets = 16000000");
    let schema = Schema::from_toml(&schema).unwrap().to_toml().into_bytes();
    let error = resealed(&[("schema.toml", schema)]).unwrap_err();
    assert!(error.to_string().contains("expected F32 [16000000, 3]"), "{error}");
}

#[test]
fn a_newer_format_is_refused_plainly() {
    let mut files = bundle().to_files().unwrap();
    let text = String::from_utf8(files[manifest::MANIFEST].clone()).unwrap();
    files.insert(manifest::MANIFEST.into(), text.replace("\"format_version\":2", "\"format_version\":3").into_bytes());
    assert!(matches!(ModelBundle::from_files(&files), Err(BundleError::NewerFormat { found: 3, .. })));
}
