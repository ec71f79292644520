//! Raw features: what a caller, a table or a log says of a user or an item, before the schema encodes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One raw feature value. Absence from [`RawFeatures`] means unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FeatureValue {
    /// For `numeric`.
    Number(f64),
    /// For `id`, `categorical` and `text`.
    Text(String),
    /// For `categorical_list` and `sequence` (item ids, oldest first). Before `Floats`, so that an empty list reads as one of these.
    Texts(Vec<String>),
    /// For `dense`.
    Floats(Vec<f32>),
}

/// Raw feature values by the feature's name in the schema.
pub type RawFeatures = BTreeMap<String, FeatureValue>;
