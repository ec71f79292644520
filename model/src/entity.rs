//! A user or an item with its raw features, and which of the two it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::RawFeatures;

/// The user tower or the item tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Users.
    User,
    /// Items.
    Item,
}

impl Side {
    /// Both, in the order in which arrays indexed by [`Side::index`] hold them.
    pub const BOTH: [Self; 2] = [Self::User, Self::Item];

    /// 0 for users, 1 for items.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Item => "item",
        })
    }
}

/// A user or an item as a caller, a table or a log knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Its id; may be empty for a user nobody has a name for.
    #[serde(default)]
    pub id: String,
    /// What is known of it; absent features are unknown, which is ordinary.
    #[serde(default)]
    pub features: RawFeatures,
}

impl Entity {
    /// An entity of which only the id is known.
    pub fn of_id(id: impl Into<String>) -> Self {
        Self { id: id.into(), features: RawFeatures::new() }
    }
}
