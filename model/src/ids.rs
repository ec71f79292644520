//! The newtypes that keep apart what must not be mixed: ids of users and items, embedding spaces, model versions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest id of a user or an item, in bytes.
pub const ID_BYTES_LIMIT: usize = 128;

macro_rules! entity_id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The id of ", $what, ": 1 to 128 bytes of UTF-8 without control characters.")]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and wraps an id; the error says what is wrong with it.
            pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidId> {
                let id = id.as_ref();
                check_id(id).map(|()| Self(id.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(id: String) -> Result<Self, InvalidId> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

entity_id!(UserId, "a user");
entity_id!(ItemId, "an item");

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It is empty.
    #[error("an id must not be empty")]
    Empty,
    /// It is too long.
    #[error("an id has at most {ID_BYTES_LIMIT} bytes, found {0}")]
    TooLong(usize),
    /// It holds a control character.
    #[error("an id must not hold control characters")]
    ControlCharacter,
}

fn check_id(id: &str) -> Result<(), InvalidId> {
    match id.len() {
        0 => Err(InvalidId::Empty),
        n if n > ID_BYTES_LIMIT => Err(InvalidId::TooLong(n)),
        _ if id.chars().any(char::is_control) => Err(InvalidId::ControlCharacter),
        _ => Ok(()),
    }
}

/// An embedding space: the set of models whose user and item embeddings may be compared. A digest of everything
/// on the item side that appended training leaves alone; shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpaceId(pub u64);

/// A model version: an embedding space and a revision within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The embedding space.
    pub space: SpaceId,
    /// The revision, from 0.
    pub revision: u32,
}

/// A text that is no space id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a space id has 16 lower-case hexadecimal digits, found `{0}`")]
pub struct InvalidSpaceId(String);

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

impl FromStr for SpaceId {
    type Err = InvalidSpaceId;
    fn from_str(text: &str) -> Result<Self, InvalidSpaceId> {
        let invalid = || InvalidSpaceId(text.chars().take(40).collect());
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(invalid());
        }
        u64::from_str_radix(text, 16).map(SpaceId).map_err(|_| invalid())
    }
}

impl TryFrom<String> for SpaceId {
    type Error = InvalidSpaceId;
    fn try_from(text: String) -> Result<Self, InvalidSpaceId> {
        text.parse()
    }
}

impl From<SpaceId> for String {
    fn from(space: SpaceId) -> String {
        space.to_string()
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        assert_eq!(ItemId::new(""), Err(InvalidId::Empty));
        assert_eq!(ItemId::new("a\0b"), Err(InvalidId::ControlCharacter));
        assert_eq!(ItemId::new("x".repeat(129)), Err(InvalidId::TooLong(129)));
        assert_eq!(ItemId::new("né").unwrap().as_str(), "né");
    }

    #[test]
    fn a_space_id_reads_what_it_writes() {
        let space = SpaceId(0x0123_4567_89ab_cdef);
        assert_eq!(space.to_string().parse(), Ok(space));
        for bad in ["", "123", "0123456789ABCDEF", "0123456789abcdeg", "+123456789abcdef"] {
            assert!(bad.parse::<SpaceId>().is_err(), "{bad}");
        }
    }
}
