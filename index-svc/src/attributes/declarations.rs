//! [`Declarations`]: which attributes the items of a generation may have, and of which kind each is.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::item::{Attributes, Value};

/// The longest name of an attribute, and the longest text, in bytes.
pub const ATTRIBUTE_BYTES_LIMIT: usize = 128;
/// The most attributes that are declared.
pub const ATTRIBUTES_LIMIT: usize = 64;
/// The most texts that one attribute of one item has.
pub const TEXTS_LIMIT: usize = 64;

/// What the values of an attribute are. The codes are those of `attributes.bin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeKind {
    /// Texts, any number an item.
    Text = 1,
    /// One integer an item.
    Integer = 2,
    /// One finite number an item.
    Number = 3,
}

/// The declared attributes by name. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Declarations(Arc<BTreeMap<Arc<str>, AttributeKind>>);

impl Declarations {
    /// The kind of an attribute, if it is declared.
    pub fn kind(&self, name: &str) -> Option<AttributeKind> {
        self.0.get(name).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, AttributeKind)> {
        self.0.iter().map(|(name, kind)| (name, *kind))
    }

    /// Whether none is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What an item's attributes have that is not declared so: the name, and the reason for who asks for it.
    pub fn faults<'a>(
        &'a self,
        attributes: &'a Attributes,
    ) -> impl Iterator<Item = (&'a Arc<str>, impl Fn() -> String + 'a)> + 'a {
        let declared = attributes.iter().map(move |(name, value)| (name, value, self.kind(name)));
        let faults = declared.filter(|(_, value, kind)| kind.is_none_or(|kind| !kind.takes(value)));
        faults.map(move |(name, _, kind)| {
            let reason = move || match kind {
                None => self.not_declared(name),
                Some(kind) => format!("expected {kind}, as `{name}` is declared"),
            };
            (name, reason)
        })
    }

    /// Says that an attribute is not declared, and which are.
    pub fn not_declared(&self, name: &str) -> String {
        let names: Vec<_> = self.iter().map(|(name, _)| name.as_ref()).collect();
        format!("`{name}` is not declared by the current generation, which declares [{}]", names.join(", "))
    }
}

impl FromIterator<(Arc<str>, AttributeKind)> for Declarations {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, AttributeKind)>>(declared: I) -> Self {
        Self(Arc::new(declared.into_iter().collect()))
    }
}

impl AttributeKind {
    fn takes(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Text, Value::Texts(_)) | (Self::Integer, Value::Integer(_)) | (Self::Number, Value::Number(_))
        )
    }
}

impl std::fmt::Display for AttributeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "texts",
            Self::Integer => "an integer",
            Self::Number => "a number",
        })
    }
}
