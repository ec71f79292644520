//! The bundle as files, and back.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::{
    BundleError, GoldenExample, ModelBundle, SAMPLE_USERS_LIMIT, encoder, invalid, json,
    manifest::{FORMAT_VERSION, FileDigest, MANIFEST, Manifest},
    space_id, tensors,
};
use crate::{Schema, features::Vocabularies};

/// Tables and weights.
pub(super) const TENSORS: &str = "model.safetensors";
/// What the encoder learned.
pub(super) const VOCABULARIES: &str = "vocabularies.json";
const SCHEMA: &str = "schema.toml";
const METRICS: &str = "metrics.json";
const GOLDEN: &str = "golden.json";
const SAMPLE_USERS: &str = "sample_users.json";

/// A recomputed golden example must have at least this cosine with the stored one.
const GOLDEN_COSINE: f32 = 0.9999;

impl ModelBundle {
    /// The bundle's files by name.
    pub fn to_files(&self) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
        let mut files = BTreeMap::from([
            (TENSORS.to_owned(), tensors::write(&self.model)?),
            (SCHEMA.to_owned(), self.schema().to_toml().into_bytes()),
            (VOCABULARIES.to_owned(), json(VOCABULARIES, &self.vocabularies)?),
            (METRICS.to_owned(), json(METRICS, &self.metrics)?),
            (GOLDEN.to_owned(), json(GOLDEN, &self.golden)?),
            (SAMPLE_USERS.to_owned(), json(SAMPLE_USERS, &self.sample_users)?),
        ]);
        let digests = files.iter().map(|(name, bytes)| (name.clone(), FileDigest::of(bytes))).collect();
        files.insert(MANIFEST.to_owned(), self.manifest(digests).to_bytes()?);
        Ok(files)
    }

    /// Reads a bundle, or refuses it and says why: digests, sizes, shapes, finiteness, the space id, then the golden examples.
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, BundleError> {
        let bundle = Self::read(files)?;
        let derived = space_id(&bundle.architecture, &bundle.vocabularies, &bundle.model)?;
        if bundle.version.revision == 0 && derived != bundle.version.space {
            return Err(invalid(
                MANIFEST,
                format!("states space {}, its weights have {derived}", bundle.version.space),
            ));
        }
        bundle.check_golden()?;
        Ok(bundle)
    }

    fn manifest(&self, files: BTreeMap<String, FileDigest>) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            model_version: self.version,
            architecture: self.architecture.clone(),
            seed: self.seed,
            files,
        }
    }

    fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, BundleError> {
        let manifest = Manifest::from_bytes(file(files, MANIFEST)?)?;
        for name in [TENSORS, SCHEMA, VOCABULARIES, METRICS, GOLDEN, SAMPLE_USERS] {
            manifest.check(name, file(files, name)?)?;
        }
        if let Some(fault) = manifest.architecture.faults().first() {
            return Err(invalid(MANIFEST, fault));
        }
        let schema = read_schema(file(files, SCHEMA)?)?;
        if let Some(fault) = manifest.architecture.schema_faults(&schema).first() {
            return Err(invalid(MANIFEST, fault));
        }
        let vocabularies: Vocabularies = from_json(files, VOCABULARIES)?;
        let encoder = encoder(schema, &vocabularies)?;
        let model = tensors::read(file(files, TENSORS)?, encoder, &manifest.architecture)?;
        let bundle = Self {
            version: manifest.model_version,
            seed: manifest.seed,
            architecture: manifest.architecture,
            vocabularies,
            model,
            metrics: from_json(files, METRICS)?,
            golden: from_json(files, GOLDEN)?,
            sample_users: from_json(files, SAMPLE_USERS)?,
        };
        bundle.check_counts().map(|()| bundle)
    }

    fn check_counts(&self) -> Result<(), BundleError> {
        if self.sample_users.len() > SAMPLE_USERS_LIMIT {
            return Err(invalid(
                SAMPLE_USERS,
                format!("at most {SAMPLE_USERS_LIMIT} users, found {}", self.sample_users.len()),
            ));
        }
        if self.golden.is_empty() || self.golden.len() > SAMPLE_USERS_LIMIT {
            return Err(invalid(GOLDEN, format!("1 to {SAMPLE_USERS_LIMIT} examples, found {}", self.golden.len())));
        }
        Ok(())
    }

    fn check_golden(&self) -> Result<(), BundleError> {
        for (index, GoldenExample { side, entity, embedding }) in self.golden.iter().enumerate() {
            if embedding.dim() != self.embedding_dim() {
                return Err(invalid(GOLDEN, format!("example {index} has {} components", embedding.dim())));
            }
            let found = self.embed(*side, std::slice::from_ref(entity))?;
            let cosine = found[0].dot(embedding);
            if cosine.is_nan() || cosine <= GOLDEN_COSINE {
                let id = entity.id.clone();
                return Err(BundleError::Golden { index, side: *side, id, cosine, limit: GOLDEN_COSINE });
            }
        }
        Ok(())
    }
}

fn file<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8], BundleError> {
    files.get(name).map(Vec::as_slice).ok_or_else(|| BundleError::Missing(name.to_owned()))
}

fn from_json<T: DeserializeOwned>(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Result<T, BundleError> {
    serde_json::from_slice(file(files, name)?).map_err(|e| invalid(name, e))
}

fn read_schema(bytes: &[u8]) -> Result<Schema, BundleError> {
    let text = std::str::from_utf8(bytes).map_err(|e| invalid(SCHEMA, e))?;
    Schema::from_toml(text).map_err(|e| invalid(SCHEMA, e))
}
