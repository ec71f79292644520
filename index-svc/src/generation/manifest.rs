//! [`Manifest`]: what a generation is, and the digests of its objects.

use std::collections::BTreeMap;

use pagoda_ann::{Parameters, Spec, Tuning};
use pagoda_commit_log::Lsn;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{attributes::Declarations, build::Header, ids::ModelVersion};

/// The first format: one shard whose objects lie beside the manifest.
pub(super) const FORMAT_FLAT: u32 = 1;
/// The format that is written: shards in folders.
pub(super) const FORMAT_SHARDED: u32 = 2;

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format_version: u32,
    /// The model that made the embeddings.
    pub model: ModelVersion,
    /// The values of an embedding.
    pub embedding_dim: usize,
    /// Writes up to this position are contained.
    pub covers_lsn: Lsn,
    /// How long it may be published; older versions did not say so, and theirs are never collected.
    #[serde(default)]
    pub lifetime: Option<Lifetime>,
    /// How many shards it has.
    #[serde(default = "one")]
    pub shard_count: u32,
    /// How the vectors are indexed, in shards of the usual size.
    pub spec: Spec,
    /// What was measured.
    pub report: Report,
    /// How each shard is searched, by number; older versions say the parameters in the report alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunings: Vec<Tuning>,
    /// The attributes that items may have.
    #[serde(default, skip_serializing_if = "Declarations::is_empty")]
    pub attributes: Declarations,
    /// What the attributes of each shard take in memory, by number, in bytes; older versions did not say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attribute_bytes: Vec<u64>,
    /// When it was built, by this machine's clock, in milliseconds since the Unix epoch: for people alone. Older versions did not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_ms: Option<u64>,
    /// The gates that refuse it; it is published only if an operator forces it.
    #[serde(default)]
    pub failed_gates: Vec<GateFailure>,
    /// The other objects. Empty until they are written.
    pub files: BTreeMap<String, FileDigest>,
}

/// What was measured of a generation while it was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Items held.
    pub item_count: usize,
    /// recall_at_100 of approximate against exact search; of several shards, the lowest.
    pub recall_at_100: f64,
    /// recall_at_500 with the same parameters; older versions did not measure it.
    #[serde(default)]
    pub recall_at_500: Option<f64>,
    /// With so many queries.
    pub query_count: usize,
    /// Whether the queries were user embeddings; items flatter.
    pub measured_with_users: bool,
    /// The search parameters it was measured with, the generation's own.
    pub parameters: Parameters,
    /// The mean cosine of pairs of items, -1 to 1: near 1 they are all alike. Older versions did not measure it.
    #[serde(default)]
    pub mean_cosine: Option<f64>,
    /// Seconds the build took.
    pub build_s: f64,
}

/// A gate that refuses a generation, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateFailure {
    /// Which gate.
    pub gate: String,
    /// What it wants.
    pub expected: String,
    /// What it saw.
    pub found: String,
}

/// When a generation that no space retains ceases to be one, in positions of the log: no clock decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The position that was visible when it began to be stored.
    pub begun_lsn: Lsn,
    /// Past this position it cannot be published any more.
    pub publishable_until_lsn: Lsn,
    /// Who has seen this position, and that no space retains it, may delete its objects.
    pub collectable_from_lsn: Lsn,
    /// Writes up to this position are contained. Who has seen that its space no longer knows the later ones one by one, and does not retain it, may delete
    /// its objects as well. Older versions did not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers_lsn: Option<Lsn>,
}

/// The size and digest of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of a generation that is not on the store yet.
    pub fn of_build(header: &Header, shard_count: u32, spec: Spec, report: Report) -> Self {
        Self {
            format_version: FORMAT_SHARDED,
            model: header.model,
            embedding_dim: header.embedding_dim,
            covers_lsn: header.covers,
            lifetime: None,
            shard_count,
            spec,
            report,
            tunings: Vec::new(),
            attributes: header.attributes.clone(),
            attribute_bytes: Vec::new(),
            built_ms: None,
            failed_gates: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// How a shard is searched.
    pub(super) fn tuning(&self, shard: u32) -> Tuning {
        self.tunings.get(shard as usize).cloned().unwrap_or_else(|| self.report.parameters.into())
    }

    /// Where an object of a shard lies, relative to the generation.
    pub(super) fn shard_path(&self, shard: u32, name: &str) -> String {
        match self.format_version {
            FORMAT_FLAT => name.to_owned(),
            _ => format!("shard-{shard}/{name}"),
        }
    }
}

impl Lifetime {
    /// Of a generation that covers so much, begins to be stored now, and becomes old when the log has grown by so many commits.
    pub fn of(covers: Lsn, begun: Lsn, age_commits: u64) -> Self {
        Self {
            begun_lsn: begun,
            publishable_until_lsn: Lsn(begun.0.saturating_add(age_commits / 2)),
            collectable_from_lsn: Lsn(begun.0.saturating_add(age_commits)),
            covers_lsn: Some(covers),
        }
    }
}

impl FileDigest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one() -> u32 {
    1
}
