//! A bundle is what it was, or it is refused.

use candle_core::Device;

use super::*;
use crate::{
    FeatureValue,
    features::{Encoder, VocabularyBuilder, VocabularyLimits},
    tables::{FeatureDims, Layout, Table},
    tower::{Activation, Tower},
    two_tower::HistoryArchitecture,
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
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let mut builder = VocabularyBuilder::new(&schema);
    for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
        entities.iter().for_each(|e| builder.observe(side, e).unwrap());
    }
    items()[..6].iter().for_each(|e| builder.observe_id(Side::Item, &e.id));
    let vocabularies = builder.finish(VocabularyLimits { min_count: 1, size_max: 100 });
    let encoder = Encoder::new(Arc::new(schema), &vocabularies).unwrap();
    let architecture = architecture();
    let layout = Layout::new(&encoder, &architecture.dims);
    let mut seed = 1;
    let tables = layout
        .tables
        .iter()
        .map(|spec| Table { values: noise(spec.rows * spec.dim, &mut seed), spec: spec.clone() })
        .collect();
    let mut tower = |side| {
        let shape = architecture.tower(layout.input_dim(side));
        let tensor = |dims: Vec<usize>, seed: &mut u32| {
            Tensor::from_vec(noise(dims.iter().product(), seed), dims, &Device::Cpu).unwrap()
        };
        let weights = shape.weights().into_iter().map(|(name, dims)| (name, tensor(dims, &mut seed))).collect();
        Tower::new(&shape, &weights).unwrap()
    };
    let towers = [tower(Side::User), tower(Side::Item)];
    let model = TwoTower { encoder, layout, tables, towers };
    let metrics = serde_json::json!({ "recall_at_100": 0.5 });
    let (sample_users, sample_items) = (users(), items());
    ModelBundle::new(BundleParts { architecture, vocabularies, model, metrics, seed: 7, sample_users, sample_items })
        .unwrap()
}

#[test]
fn a_bundle_reads_what_it_writes() {
    let bundle = bundle();
    let read = ModelBundle::from_files(&bundle.to_files().unwrap()).unwrap();
    assert_eq!(read.version(), bundle.version());
    assert_eq!((read.seed(), read.metrics(), read.sample_users()), (7, bundle.metrics(), bundle.sample_users()));
    assert_eq!(read.to_files().unwrap(), bundle.to_files().unwrap());
    for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
        assert_eq!(read.embed(side, &entities).unwrap(), bundle.embed(side, &entities).unwrap());
    }
}

#[test]
fn batched_equals_single() {
    let bundle = bundle();
    for (side, entities) in [(Side::User, users()), (Side::Item, items())] {
        let batched = bundle.embed(side, &vec![entities.clone(); 40].concat()).unwrap();
        for (i, together) in batched.iter().enumerate() {
            let alone = bundle.embed(side, &entities[i % entities.len()..=i % entities.len()]).unwrap();
            assert!(alone[0].dot(together) > 0.9999, "{side} {i}");
        }
    }
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
    files.insert(manifest::MANIFEST.into(), text.replace("\"format_version\":1", "\"format_version\":2").into_bytes());
    assert!(matches!(ModelBundle::from_files(&files), Err(BundleError::NewerFormat { found: 2, .. })));
}
