//! What must not be mixed: item ids, embedding spaces, model versions, generations.

mod table;

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::table::{IdRef, IdTable, IdTableError};

/// The longest item id, in bytes.
const ITEM_ID_BYTES_LIMIT: usize = 128;
const GENERATION_ID_BYTES_LIMIT: usize = 64;

/// A text that is no id of the kind wanted; says what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

impl InvalidId {
    pub(crate) fn new(why: String) -> Self {
        Self(why)
    }
}

/// An item's id: 1 to 128 bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(Arc<str>);

/// An embedding space: only embeddings of one space may be compared. 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpaceId(u64);

/// A model version: a space and a revision within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The embedding space.
    pub space: SpaceId,
    /// The revision, from 0.
    pub revision: u32,
}

/// A generation's id, of our own making: letters, digits and dashes, so that it can be part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GenerationId(Arc<str>);

impl ItemId {
    /// Checks and wraps an id.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        check_item_id(id).map(|()| Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ItemId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl GenerationId {
    /// The id of a generation of this model whose manifest has this SHA-256 (in hexadecimal digits).
    pub fn new(model: ModelVersion, manifest_sha256: &str) -> Self {
        Self(format!("{}-{}-{:.16}", model.space, model.revision, manifest_sha256).into())
    }

    /// Whether the manifest of this SHA-256 is the one that the id was made from.
    pub fn vouches_for(&self, manifest_sha256: &str) -> bool {
        self.0.rsplit('-').next().is_some_and(|digest| digest.len() == 16 && manifest_sha256.starts_with(digest))
    }

    /// The space of the model, which the id begins with.
    pub fn space(&self) -> Option<SpaceId> {
        self.0.split('-').next()?.parse().ok()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GenerationId {
    type Err = InvalidId;
    fn from_str(id: &str) -> Result<Self, InvalidId> {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        match id.len() {
            1..=GENERATION_ID_BYTES_LIMIT if id.bytes().all(is_word) => Ok(Self(id.into())),
            _ => Err(InvalidId("expected a generation id as BuildGeneration returned it".into())),
        }
    }
}

impl FromStr for SpaceId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let digits = (text.len() == 16 && text.bytes().all(is_digit)).then(|| u64::from_str_radix(text, 16).ok());
        digits.flatten().map(Self).ok_or_else(|| {
            let found: String = text.chars().take(40).collect();
            InvalidId(format!("expected a space id of 16 lower-case hexadecimal digits, found `{found}`"))
        })
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceId({self})")
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.revision)
    }
}

impl TryFrom<String> for SpaceId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<SpaceId> for String {
    fn from(space: SpaceId) -> Self {
        space.to_string()
    }
}

impl TryFrom<String> for GenerationId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<GenerationId> for String {
    fn from(id: GenerationId) -> Self {
        id.0.as_ref().into()
    }
}

fn check_item_id(id: &str) -> Result<(), InvalidId> {
    match id.len() {
        1..=ITEM_ID_BYTES_LIMIT if !id.chars().any(char::is_control) => Ok(()),
        1..=ITEM_ID_BYTES_LIMIT => Err(InvalidId("an item id must not hold control characters".into())),
        found => {
            Err(InvalidId(format!("expected an item id of 1 to {ITEM_ID_BYTES_LIMIT} bytes, found {found} bytes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_ids_are_refused() {
        for bad in ["", "a\0b", "a\nb", &"x".repeat(129)] {
            assert!(ItemId::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "..", "a/b", "A", &"x".repeat(65)] {
            assert!(bad.parse::<GenerationId>().is_err(), "{bad:?}");
        }
        for bad in ["", "123", "0123456789ABCDEF", "+123456789abcdef"] {
            assert!(bad.parse::<SpaceId>().is_err(), "{bad:?}");
        }
        assert_eq!("0123456789abcdef".parse::<SpaceId>().unwrap().to_string(), "0123456789abcdef");
    }
}
