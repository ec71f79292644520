//! A model bundle written by hand, to the letter of its format: its towers hand a vector of two numbers through, normalised.

use std::{collections::BTreeMap, sync::Arc};

use pagoda_model::{
    ModelVersion, SpaceId, bundle::ModelBundle, tables::FeatureDims, tower::Activation, two_tower::Architecture,
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

const SCHEMA: &str = r#"
[user]
id = "user_id"
[[user.feature]]
name = "taste"
kind = "dense"
dim = 2
[item]
id = "item_id"
[[item.feature]]
name = "image"
kind = "dense"
dim = 2
"#;

/// Revision 1, since the space of a revision 0 is derived from weights.
pub(crate) fn version(space: u64) -> ModelVersion {
    ModelVersion { space: SpaceId(space), revision: 1 }
}

/// A model that hands (x, y) through, normalised.
pub(crate) fn model(space: u64) -> Arc<ModelBundle> {
    Arc::new(ModelBundle::from_files(&files(version(space))).unwrap())
}

/// The files of a bundle with the sample users (1, 0) and (0, 1).
fn files(version: ModelVersion) -> BTreeMap<String, Vec<u8>> {
    let entity = |feature: &str, id: &str, v: [f32; 2]| json!({ "id": id, "features": { feature: v } });
    let golden = json!([{ "side": "item", "entity": entity("image", "i", [3.0, 4.0]), "embedding": [0.6, 0.8] }]);
    let users = json!([entity("taste", "u1", [1.0, 0.0]), entity("taste", "u2", [0.0, 1.0])]);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::from([
        ("model.safetensors".into(), tensors()),
        ("schema.toml".into(), SCHEMA.into()),
        ("vocabularies.json".into(), r#"{"user":{},"item":{}}"#.into()),
        ("metrics.json".into(), "{}".into()),
        ("golden.json".into(), golden.to_string().into_bytes()),
        ("sample_users.json".into(), users.to_string().into_bytes()),
    ]);
    files.insert("manifest.json".into(), manifest(version, &files));
    files
}

#[derive(Clone, Serialize)]
struct Manifest {
    format_version: u32,
    model_version: ModelVersion,
    architecture: Architecture,
    seed: u64,
    files: BTreeMap<String, Digest>,
}

#[derive(Clone, Serialize)]
struct Digest {
    bytes: u64,
    sha256: String,
}

#[derive(Serialize)]
struct Sealed {
    sha256: String,
    manifest: Manifest,
}

fn manifest(model_version: ModelVersion, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let digest = |bytes: &Vec<u8>| Digest { bytes: bytes.len() as u64, sha256: hex(bytes) };
    let dims =
        FeatureDims { id: 2, categorical: 2, categorical_list: 2, bucket: 2, text: 2, features: BTreeMap::new() };
    let manifest = Manifest {
        format_version: 1,
        model_version,
        architecture: Architecture { embedding_dim: 2, hidden: vec![], activation: Activation::Relu, dims },
        seed: 0,
        files: files.iter().map(|(name, bytes)| (name.clone(), digest(bytes))).collect(),
    };
    let sha256 = hex(&serde_json::to_vec(&manifest).unwrap());
    serde_json::to_vec(&Sealed { sha256, manifest }).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each tower: no hidden layer, a perceptron that adds nothing, and a skip that takes the two numbers and not the third,
/// which says that they are there.
fn tensors() -> Vec<u8> {
    let zeros = |n| vec![0.0_f32; n];
    let mut tensors = Vec::new();
    for side in ["user", "item"] {
        tensors.push((format!("tower.{side}.layer0.weight"), vec![3, 2], zeros(6)));
        tensors.push((format!("tower.{side}.layer0.bias"), vec![2], zeros(2)));
        tensors.push((format!("tower.{side}.skip"), vec![3, 2], vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0]));
    }
    safetensors(&tensors)
}

fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
