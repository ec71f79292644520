//! The model bundle: everything a tower service needs of a trained model, immutable, as a few files that prove themselves.
//!
//! [`ModelBundle::from_files`] believes nothing: digests first, then shapes that follow from the schema, the vocabularies and the
//! manifest, then finiteness, then the golden examples are computed and compared.

mod files;
mod manifest;
mod objectives;
mod tensors;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Embedding, Entity, ModelVersion, Schema, Side, SpaceId,
    features::{EncodedBatch, InvalidFeatures, Vocabularies},
    schema::FeatureKind,
    tables::TableSpec,
    two_tower::{Architecture, TwoTower},
};

pub use self::objectives::{InvalidWeights, WeightFault};

/// Embeddings are computed this many at a time, which bounds memory.
const EMBED_BATCH: usize = 512;
/// The most sample users a bundle carries.
pub const SAMPLE_USERS_LIMIT: usize = 1000;
/// How many golden examples of each side a bundle carries at most.
const GOLDEN_LIMIT: usize = 8;

/// A trained model with its schema, vocabularies, metrics, golden examples and sample users.
#[derive(Clone, Debug)]
pub struct ModelBundle {
    version: ModelVersion,
    seed: u64,
    architecture: Architecture,
    vocabularies: Vocabularies,
    model: TwoTower,
    metrics: serde_json::Value,
    golden: Vec<GoldenExample>,
    sample_users: Vec<Entity>,
}

/// What a bundle is made of at the end of training.
pub struct BundleParts {
    /// The sizes of the model.
    pub architecture: Architecture,
    /// What the encoder learned.
    pub vocabularies: Vocabularies,
    /// The model.
    pub model: TwoTower,
    /// The evaluation's summary.
    pub metrics: serde_json::Value,
    /// The seed of the training run.
    pub seed: u64,
    /// Real users as of the end of training, at most [`SAMPLE_USERS_LIMIT`].
    pub sample_users: Vec<Entity>,
    /// Real items; the first few become golden examples.
    pub sample_items: Vec<Entity>,
}

/// Raw features and the embedding they must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoldenExample {
    side: Side,
    entity: Entity,
    embedding: Embedding,
}

/// Why entities could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// Some entities are at fault: each by its position, with all its faults.
    #[error("{} entities have invalid features; first: entity {}: {}", .0.len(), .0[0].0, .0[0].1)]
    Invalid(Vec<(usize, InvalidFeatures)>),
    /// The model is at fault.
    #[error("the tower failed: {0}")]
    Internal(String),
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file is absent.
    #[error("model bundle: file `{0}` is missing")]
    Missing(String),
    /// A file's size or digest is not the manifest's.
    #[error("model bundle: file `{file}`: expected {expected}, found {found}")]
    Corrupt {
        /// The file.
        file: String,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file is whole but its content is unusable.
    #[error("model bundle: file `{file}`: {description}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong.
        description: String,
    },
    /// The bundle was written by a newer release.
    #[error("model bundle: format version {found} is not supported, this release reads up to {supported}")]
    NewerFormat {
        /// The bundle's.
        found: u32,
        /// This release's.
        supported: u32,
    },
    /// The model computes other embeddings than it did when it was written.
    #[error("model bundle: golden example {index} ({side} `{id}`) has cosine {cosine}, expected above {limit}")]
    Golden {
        /// Its position.
        index: usize,
        /// Its side.
        side: Side,
        /// Its entity.
        id: String,
        /// What was found.
        cosine: f32,
        /// What was expected.
        limit: f32,
    },
    /// The model can not be computed at all.
    #[error("model bundle: {0}")]
    Embed(#[from] EmbedError),
}

impl ModelBundle {
    /// Makes revision 0 of a new space: derives its id and computes the golden examples.
    pub fn new(mut parts: BundleParts) -> Result<Self, BundleError> {
        parts.sample_users.truncate(SAMPLE_USERS_LIMIT);
        let space = space_id(&parts.architecture, &parts.vocabularies, &parts.model)?;
        let BundleParts { architecture, vocabularies, model, metrics, seed, sample_users, sample_items } = parts;
        let version = ModelVersion { space, revision: 0 };
        let mut bundle =
            Self { version, seed, architecture, vocabularies, model, metrics, golden: Vec::new(), sample_users };
        bundle.golden = bundle.golden_examples(&sample_items)?;
        Ok(bundle)
    }

    /// The embedding space and the revision.
    pub fn version(&self) -> ModelVersion {
        self.version
    }

    /// The schema that the model was trained with.
    pub fn schema(&self) -> &Schema {
        self.model.encoder.schema()
    }

    /// The dimension of its embeddings.
    pub fn embedding_dim(&self) -> usize {
        self.architecture.embedding_dim
    }

    /// The evaluation's summary, as the trainer wrote it.
    pub fn metrics(&self) -> &serde_json::Value {
        &self.metrics
    }

    /// Replaces the summary; it is no part of the space.
    pub fn set_metrics(&mut self, metrics: serde_json::Value) {
        self.metrics = metrics;
    }

    /// The seed of the training run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Up to 1000 real users, as of the end of training: the queries with which an index's recall is measured.
    pub fn sample_users(&self) -> &[Entity] {
        &self.sample_users
    }

    /// The model itself, to be read.
    pub fn model(&self) -> &TwoTower {
        &self.model
    }

    /// Embeds entities of one side, in their order. Names every entity at fault; then nothing is embedded.
    pub fn embed(&self, side: Side, entities: &[Entity]) -> Result<Vec<Embedding>, EmbedError> {
        let batches = self.encode(side, entities)?;
        let mut embeddings = Vec::with_capacity(entities.len());
        for batch in &batches {
            embeddings.extend(self.embed_encoded(side, batch)?);
        }
        Ok(embeddings)
    }

    /// Embeds a batch that the model's encoder made.
    pub fn embed_encoded(&self, side: Side, batch: &EncodedBatch) -> Result<Vec<Embedding>, EmbedError> {
        let internal = |e: candle_core::Error| EmbedError::Internal(e.to_string());
        let output = self.model.forward(side, batch).map_err(internal)?;
        let rows: Vec<Vec<f32>> = output.to_vec2().map_err(internal)?;
        rows.into_iter().map(|row| Embedding::normalise(row).map_err(|e| EmbedError::Internal(e.to_string()))).collect()
    }

    fn encode(&self, side: Side, entities: &[Entity]) -> Result<Vec<EncodedBatch>, EmbedError> {
        let mut faults = Vec::new();
        let mut batches = Vec::new();
        for (chunk_number, chunk) in entities.chunks(EMBED_BATCH).enumerate() {
            let mut batch = self.model.encoder.empty_batch(side);
            for (i, entity) in chunk.iter().enumerate() {
                if let Err(fault) = self.model.encoder.encode_into(side, entity, &mut batch) {
                    faults.push((chunk_number * EMBED_BATCH + i, fault));
                }
            }
            batches.push(batch);
        }
        if faults.is_empty() { Ok(batches) } else { Err(EmbedError::Invalid(faults)) }
    }

    fn golden_examples(&self, items: &[Entity]) -> Result<Vec<GoldenExample>, EmbedError> {
        let mut users: Vec<Entity> = self.sample_users.iter().take(GOLDEN_LIMIT - 1).cloned().collect();
        users.push(Entity::default());
        let items: Vec<Entity> = items.iter().take(GOLDEN_LIMIT).cloned().collect();
        let mut golden = Vec::new();
        for (side, entities) in [(Side::User, users), (Side::Item, items)] {
            let embeddings = self.embed(side, &entities)?;
            let examples = entities.into_iter().zip(embeddings);
            golden.extend(examples.map(|(entity, embedding)| GoldenExample { side, entity, embedding }));
        }
        Ok(golden)
    }
}

/// The digest of all that appended training leaves alone: the schema, the sizes, what was learned of items other than
/// their ids, the item tower and the item tables other than those of ids.
fn space_id(
    architecture: &Architecture,
    vocabularies: &Vocabularies,
    model: &TwoTower,
) -> Result<SpaceId, BundleError> {
    let mut digest = Sha256::new();
    digest.update(model.encoder.schema().of_towers().to_toml());
    digest.update(json("manifest.json", architecture)?);
    digest.update(json("vocabularies.json", &shared_vocabularies(model.encoder.schema(), vocabularies))?);
    // A row of hashed ids is no item's own.
    let shared = |spec: &TableSpec| spec.side == Side::Item && (!spec.is_ids || spec.is_hashed);
    for table in model.tables.iter().filter(|t| shared(&t.spec)) {
        update_named(&mut digest, &table.spec.name, &table.values);
    }
    for (name, weight) in model.weights(Side::Item) {
        update_named(&mut digest, &name, &floats(&weight)?);
    }
    let bytes = digest.finalize();
    Ok(SpaceId(u64::from_be_bytes(std::array::from_fn(|i| bytes[i]))))
}

fn shared_vocabularies<'a>(
    schema: &Schema,
    vocabularies: &'a Vocabularies,
) -> BTreeMap<&'a str, &'a crate::features::Learned> {
    let id = schema.item.features.iter().find(|f| matches!(f.kind, FeatureKind::Id { .. })).map(|f| f.name.as_str());
    vocabularies.item.iter().map(|(name, l)| (name.as_str(), l)).filter(|&(name, _)| Some(name) != id).collect()
}

fn update_named(digest: &mut Sha256, name: &str, values: &[f32]) {
    digest.update((name.len() as u64).to_le_bytes());
    digest.update(name);
    digest.update((values.len() as u64).to_le_bytes());
    values.iter().for_each(|v| digest.update(v.to_le_bytes()));
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, BundleError> {
    let flat = tensor.flatten_all().and_then(|t| t.to_vec1());
    flat.map_err(|e| BundleError::Embed(EmbedError::Internal(e.to_string())))
}

fn json(file: &str, value: &impl Serialize) -> Result<Vec<u8>, BundleError> {
    serde_json::to_vec(value).map_err(|e| invalid(file, e))
}

fn invalid(file: &str, description: impl std::fmt::Display) -> BundleError {
    BundleError::Invalid { file: file.to_owned(), description: description.to_string() }
}

/// The encoder of a schema and its vocabularies, with the errors of a bundle.
fn encoder(schema: Schema, vocabularies: &Vocabularies) -> Result<crate::features::Encoder, BundleError> {
    crate::features::Encoder::new(Arc::new(schema), vocabularies).map_err(|e| invalid(files::VOCABULARIES, e))
}
