//! `manifest.json`: what the bundle is, and the digests of its other files. It carries its own digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BundleError, invalid, json};
use crate::{ModelVersion, two_tower::Architecture};

/// The manifest's name.
pub(super) const MANIFEST: &str = "manifest.json";
/// The format that this release writes, and the newest that it reads. Format 1 had towers of hidden layers and a skip alone, means of
/// histories, one row of the unknown, and an output layer also where there was no hidden one; all of it is a case of format 2.
pub(super) const FORMAT_VERSION: u32 = 2;

/// The manifest's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format_version: u32,
    pub(super) model_version: ModelVersion,
    pub(super) architecture: Architecture,
    pub(super) seed: u64,
    pub(super) files: BTreeMap<String, FileDigest>,
}

/// A file's length and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileDigest {
    bytes: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    sha256: String,
    manifest: Manifest,
}

impl Manifest {
    /// The file: the manifest and the digest of its JSON.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let sha256 = sha256_hex(&json(MANIFEST, self)?);
        json(MANIFEST, &Sealed { sha256, manifest: self.clone() })
    }

    /// Reads a manifest that is, byte for byte, what [`Self::to_bytes`] writes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        check_format_version(bytes)?;
        let Sealed { manifest, .. } = serde_json::from_slice(bytes).map_err(|e| invalid(MANIFEST, e))?;
        if manifest.to_bytes()? != bytes {
            return Err(invalid(MANIFEST, "its content does not have the digest it states"));
        }
        Ok(manifest)
    }

    /// Checks a file's length and digest.
    pub(super) fn check(&self, file: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let expected = self.files.get(file).ok_or_else(|| BundleError::Missing(file.to_owned()))?;
        let found = FileDigest::of(bytes);
        if *expected == found {
            return Ok(());
        }
        let describe = |d: &FileDigest| format!("{} bytes with sha256 {}", d.bytes, d.sha256);
        Err(BundleError::Corrupt { file: file.to_owned(), expected: describe(expected), found: describe(&found) })
    }
}

impl FileDigest {
    /// Measures a file.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
    }
}

/// A newer format may have any other shape, so its version is read first, alone.
fn check_format_version(bytes: &[u8]) -> Result<(), BundleError> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| invalid(MANIFEST, e))?;
    let found = value.pointer("/manifest/format_version").and_then(serde_json::Value::as_u64);
    match found.map(|v| u32::try_from(v).unwrap_or(u32::MAX)) {
        Some(found) if found > FORMAT_VERSION => Err(BundleError::NewerFormat { found, supported: FORMAT_VERSION }),
        Some(_) => Ok(()),
        None => Err(invalid(MANIFEST, "it states no format version")),
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
