//! An artefact's record: what the log of its kind keeps.

use std::collections::BTreeMap;

use bytes::Bytes;
use pagoda_commit_log::Lsn;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::RegistryError;

/// The record format that this release writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// The kinds of artefacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A model bundle; labelled with its model version, `space/revision`.
    Model,
    /// A catalog: `schema.toml` and the items' table.
    Catalog,
    /// What is known of every user: `schema.toml` and `users.parquet`, histories included.
    UserFeatures,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Model, Self::Catalog, Self::UserFeatures];

    /// The kind's name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Catalog => "catalog",
            Self::UserFeatures => "user-features",
        }
    }
}

/// An artefact.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number among its kind, from 1; a greater one is newer.
    pub version: u64,
    /// Its kind.
    pub kind: Kind,
    /// What its publisher calls it.
    pub label: String,
    /// Its files by name.
    pub files: BTreeMap<String, FileRef>,
    /// What its publisher says of it.
    pub metadata: Value,
}

/// A file by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The size in bytes.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    label: String,
    files: BTreeMap<String, FileRef>,
    metadata: Value,
}

impl FileRef {
    /// The reference to a content.
    pub fn of(bytes: &Bytes) -> Self {
        let digest = Sha256::digest(bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { sha256, bytes: bytes.len() as u64 }
    }

    /// Where the content lies in the store.
    pub fn path(&self) -> String {
        format!("blobs/{}", self.sha256)
    }
}

impl Entry {
    /// What tells it from every other artefact of its kind, wherever it is registered: SHA-256 of its record, 64 lower-case hexadecimal digits.
    pub fn digest(&self) -> String {
        FileRef::of(&self.encode()).sha256
    }

    /// Whether two entries are the same but for their versions and what is said of them.
    pub(crate) fn same_artefact(&self, other: &Self) -> bool {
        (self.kind, &self.label, &self.files) == (other.kind, &other.label, &other.files)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let Self { label, files, metadata, .. } = self.clone();
        serde_json::to_vec(&Record { format: FORMAT, label, files, metadata })
            .expect("a record is representable")
            .into()
    }

    pub(crate) fn decode(kind: Kind, lsn: Lsn, record: &Bytes) -> Result<Self, RegistryError> {
        let invalid = |why: String| RegistryError::InvalidRecord { kind: kind.name(), version: lsn.0, why };
        let Record { format, label, files, metadata } =
            serde_json::from_slice(record).map_err(|error| invalid(error.to_string()))?;
        if format > FORMAT {
            return Err(invalid(format!("its format is {format}, this release reads up to {FORMAT}")));
        }
        // A digest becomes part of a path.
        let is_digest = |digest: &str| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        match files.values().find(|file| !is_digest(&file.sha256)) {
            Some(file) => Err(invalid(format!("`{}` is no digest", file.sha256))),
            None => Ok(Self { version: lsn.0, kind, label, files, metadata }),
        }
    }
}
