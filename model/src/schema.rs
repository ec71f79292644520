//! `schema.toml`: which features users and items have, where the tables keep them, and what an interaction is.

mod written;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use written::WrittenFeature;

/// The features of both sides and the shape of the interactions table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The users' side.
    pub user: EntitySchema,
    /// The items' side.
    pub item: EntitySchema,
    /// The log.
    #[serde(default)]
    pub interactions: InteractionSchema,
}

/// One side: its id column and its features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntitySchema {
    /// The column of the id.
    pub id: String,
    /// The column of a title that a person can read, if there is one; it is shown, never encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The features, in the order in which the tower concatenates them.
    #[serde(default, rename = "feature")]
    pub features: Vec<Feature>,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenFeature")]
pub struct Feature {
    /// Its name, which is also its column in the table.
    pub name: String,
    /// Whether searches may filter and group by it: for items' categories, lists of categories and numbers. Says nothing to the towers, so that it
    /// may differ between a catalog and the model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub filterable: bool,
    /// What it is.
    #[serde(flatten)]
    pub kind: FeatureKind,
}

/// What a feature is, and with that how it is encoded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureKind {
    /// The entity's own id: one embedding row each, and some for ids never seen in training. With `hash_buckets`, for vocabularies
    /// without bound: so many rows that all ids share, of which each has the mean of the two that two hashes choose.
    Id {
        /// How many rows hashed ids share; absent: ids are not hashed.
        #[serde(skip_serializing_if = "Option::is_none")]
        hash_buckets: Option<usize>,
    },
    /// One of a set of texts: one embedding row each.
    Categorical,
    /// A set of tags: the mean of their embedding rows.
    CategoricalList,
    /// The user's item ids, oldest first: the mean of rows of the item id table. Derived from the interactions,
    /// never from the users' table.
    Sequence {
        /// How many of the newest are used.
        max_length: usize,
    },
    /// A number.
    Numeric {
        /// How it is scaled.
        scale: NumericScale,
    },
    /// A text: letter n-grams as in DSSM (Huang et al., CIKM 2013) and word tokens, hashed into `buckets` rows, pooled by their mean.
    Text {
        /// How many rows the n-grams share.
        buckets: usize,
    },
    /// A vector made elsewhere.
    Dense {
        /// Its length.
        dim: usize,
    },
}

/// How a number is scaled before it enters the tower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumericScale {
    /// (x - mean) / standard deviation, both of the training data.
    #[default]
    Standardise,
    /// The same of sign(x) ln(1 + |x|).
    Log,
    /// The number of the training data's decile, embedded as a category.
    Bucket,
}

/// The interactions table's columns, and what its events weigh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InteractionSchema {
    /// The column of the user's id.
    pub user: String,
    /// The column of the item's id.
    pub item: String,
    /// The column of the time, in seconds since the Unix epoch.
    pub timestamp: String,
    /// The column of the event; absent from the table: all rows are of the weight 1.
    pub event: String,
    /// The weight of each event. Above 0: a positive, which enters histories; 0: an impression without a click. Events not listed are bad rows.
    pub events: BTreeMap<String, f32>,
    /// How test interactions are told from training ones.
    pub split: Split,
    /// Which share of the rows may name items that the items' table does not have, 0 to 1. They are left out. Says nothing to the towers.
    #[serde(skip_serializing_if = "is_usual_share")]
    pub unknown_items_share_max: f64,
}

/// How test interactions are told from training ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The newest share of all positives, whoever they are of: nothing after the cut is seen in training.
    #[default]
    Temporal,
    /// Each user's last positive.
    LeaveLastOut,
    /// The column `split` says `train` or `test`.
    Given,
}

impl Default for InteractionSchema {
    fn default() -> Self {
        Self {
            user: "user_id".into(),
            item: "item_id".into(),
            timestamp: "timestamp".into(),
            event: "event".into(),
            events: BTreeMap::from([("impression".into(), 0.0), ("click".into(), 1.0)]),
            split: Split::Temporal,
            unknown_items_share_max: UNKNOWN_ITEMS_SHARE_MAX,
        }
    }
}

/// [`InteractionSchema::unknown_items_share_max`] where the schema does not say.
const UNKNOWN_ITEMS_SHARE_MAX: f64 = 0.5;

fn is_usual_share(share: &f64) -> bool {
    *share == UNKNOWN_ITEMS_SHARE_MAX
}

/// The column that says `train` or `test` where [`Split::Given`] is declared.
pub const SPLIT_COLUMN: &str = "split";

/// What is wrong with a schema: every fault at once, each naming its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad schema:\n  {}", .0.join("\n").replace('\n', "\n  "))]
pub struct InvalidSchema(pub Vec<String>);

impl Schema {
    /// Reads and validates a schema.
    pub fn from_toml(text: &str) -> Result<Self, InvalidSchema> {
        let schema: Self = toml::from_str(text).map_err(|e| InvalidSchema(vec![e.to_string().trim().to_owned()]))?;
        schema.validate()?;
        Ok(schema)
    }

    /// Writes the schema as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a schema is representable in TOML")
    }

    /// Reports every fault at once.
    pub fn validate(&self) -> Result<(), InvalidSchema> {
        let mut faults = Vec::new();
        validate_side("user", &self.user, &mut faults);
        validate_side("item", &self.item, &mut faults);
        for feature in &self.item.features {
            if matches!(feature.kind, FeatureKind::Sequence { .. }) {
                faults
                    .push(format!("item.feature `{}`: a sequence is a user's history, items have none", feature.name));
            }
        }
        for (event, weight) in &self.interactions.events {
            if !(0.0..=1e6).contains(weight) {
                faults.push(format!("interactions.events.{event}: a weight is between 0 and 1e6, found {weight}"));
            }
        }
        let share = self.interactions.unknown_items_share_max;
        if !(0.0..=1.0).contains(&share) {
            faults.push(format!("interactions.unknown_items_share_max: a share is between 0 and 1, found {share}"));
        }
        if faults.is_empty() { Ok(()) } else { Err(InvalidSchema(faults)) }
    }

    /// The schema as the towers see it: what is filterable is the index's business, and what is refused the tables'.
    pub fn of_towers(&self) -> Self {
        let interactions =
            InteractionSchema { unknown_items_share_max: UNKNOWN_ITEMS_SHARE_MAX, ..self.interactions.clone() };
        Self { user: self.user.of_towers(), item: self.item.of_towers(), interactions }
    }

    /// The user's history, if the schema declares one: its name and maximum length.
    pub fn history(&self) -> Option<(&str, usize)> {
        self.user.features.iter().find_map(|f| match f.kind {
            FeatureKind::Sequence { max_length } => Some((f.name.as_str(), max_length)),
            _ => None,
        })
    }
}

impl EntitySchema {
    /// The side as its tower sees it.
    pub fn of_towers(&self) -> Self {
        let mut seen = self.clone();
        seen.features.iter_mut().for_each(|feature| feature.filterable = false);
        seen
    }
}

impl Feature {
    /// A feature that is not filterable.
    pub fn new(name: impl Into<String>, kind: FeatureKind) -> Self {
        Self { name: name.into(), filterable: false, kind }
    }

    /// The same, filterable.
    pub fn filterable(self) -> Self {
        Self { filterable: true, ..self }
    }

    fn may_be_filterable(&self) -> bool {
        matches!(self.kind, FeatureKind::Categorical | FeatureKind::CategoricalList | FeatureKind::Numeric { .. })
    }
}

fn validate_side(side: &str, entity: &EntitySchema, faults: &mut Vec<String>) {
    if entity.id.is_empty() {
        faults.push(format!("{side}.id: names the id's column, found nothing"));
    }
    if entity.features.is_empty() {
        faults.push(format!("{side}.feature: at least one feature is needed"));
    }
    let mut names = BTreeSet::new();
    let mut sequences = 0;
    for feature in &entity.features {
        let key = format!("{side}.feature `{}`", feature.name);
        if feature.name.is_empty() || feature.name.len() > 128 {
            faults.push(format!("{key}: a name has 1 to 128 bytes"));
        }
        if !names.insert(&feature.name) {
            faults.push(format!("{key}: the name is used twice"));
        }
        if feature.filterable && !(side == "item" && feature.may_be_filterable()) {
            faults.push(format!(
                "{key}: only an item's categorical, categorical_list and numeric features are filterable"
            ));
        }
        let (what, value, limit) = match feature.kind {
            FeatureKind::Sequence { max_length } => {
                sequences += 1;
                ("max_length", max_length, 10_000)
            }
            FeatureKind::Id { hash_buckets: Some(buckets) } => ("hash_buckets", buckets, 1 << 30),
            FeatureKind::Text { buckets } => ("buckets", buckets, 1 << 24),
            FeatureKind::Dense { dim } => ("dim", dim, 4096),
            _ => continue,
        };
        if !(1..=limit).contains(&value) {
            faults.push(format!("{key}: {what} is between 1 and {limit}, found {value}"));
        }
    }
    if sequences > 1 {
        faults.push(format!("{side}.feature: at most one sequence is supported, found {sequences}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[user]
id = "user_id"
[[user.feature]]
name = "history"
kind = "sequence"
max_length = 20
[item]
id = "item_id"
title = "title"
[[item.feature]]
name = "item_id"
kind = "id"
[[item.feature]]
name = "price"
kind = "numeric"
scale = "log"
[interactions.events]
impression = 0
click = 1
buy = 3
"#;

    #[test]
    fn a_schema_reads_what_it_writes() {
        let schema = Schema::from_toml(GOOD).unwrap();
        assert_eq!(schema.history(), Some(("history", 20)));
        assert_eq!(Schema::from_toml(&schema.to_toml()).unwrap(), schema);
    }

    #[test]
    fn what_is_filterable_is_read_and_written_and_not_seen_by_the_towers() {
        let text = GOOD.replace("kind = \"numeric\"", "kind = \"numeric\"\nfilterable = true");
        let schema = Schema::from_toml(&text).unwrap();
        assert!(schema.item.features[1].filterable);
        assert_eq!(Schema::from_toml(&schema.to_toml()).unwrap(), schema);
        assert_eq!(schema.of_towers().to_toml(), Schema::from_toml(GOOD).unwrap().to_toml());
        for wrong in ["kind = \"id\"", "kind = \"sequence\""] {
            let text = GOOD.replace(wrong, &format!("{wrong}\nfilterable = true"));
            assert!(Schema::from_toml(&text).unwrap_err().to_string().contains("filterable"), "{wrong}");
        }
    }

    #[test]
    fn how_many_items_may_be_unknown_is_read_and_written_and_not_seen_by_the_towers() {
        let with = |share| {
            GOOD.replace(
                "[interactions.events]",
                &format!("[interactions]\nunknown_items_share_max = {share}\n[interactions.events]"),
            )
        };
        let schema = Schema::from_toml(&with("0.9")).unwrap();
        assert_eq!(schema.interactions.unknown_items_share_max, 0.9);
        assert_eq!(Schema::from_toml(&schema.to_toml()).unwrap(), schema);
        assert_eq!(schema.of_towers().to_toml(), Schema::from_toml(GOOD).unwrap().to_toml());
        for bad in ["-0.1", "1.5", "nan"] {
            let error = Schema::from_toml(&with(bad)).unwrap_err().to_string();
            assert!(error.contains("unknown_items_share_max: a share is between 0 and 1"), "{error}");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let bad = GOOD
            .replace("max_length = 20", "max_length = 0")
            .replace("buy = 3", "buy = -3")
            .replace("\"price\"", "\"item_id\"");
        let error = Schema::from_toml(&bad).unwrap_err();
        assert_eq!(error.0.len(), 3, "{error}");
        assert_eq!(error.to_string().lines().count(), 4, "{error}");
    }

    #[test]
    fn ids_are_hashed_where_the_schema_says_so() {
        let hashed = GOOD.replace("kind = \"id\"", "kind = \"id\"\nhash_buckets = 1000");
        let schema = Schema::from_toml(&hashed).unwrap();
        assert_eq!(schema.item.features[0].kind, FeatureKind::Id { hash_buckets: Some(1000) });
        assert_eq!(Schema::from_toml(&schema.to_toml()).unwrap(), schema);
        assert_eq!(Schema::from_toml(GOOD).unwrap().item.features[0].kind, FeatureKind::Id { hash_buckets: None });
        let error = Schema::from_toml(&hashed.replace("1000", "0")).unwrap_err();
        assert!(error.to_string().contains("hash_buckets is between 1"), "{error}");
    }

    #[test]
    fn a_fault_of_a_feature_points_at_the_line_of_its_key() {
        for (good, bad) in [("\"numeric\"", "\"numerick\""), ("\"log\"", "\"logg\""), ("= 20", "= \"20\"")] {
            let text = GOOD.replace(good, bad);
            let line = 1 + text.lines().position(|line| line.contains(bad)).unwrap();
            let error = Schema::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}, column")) && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn what_a_feature_leaves_out_has_its_default_or_is_asked_for() {
        let kind = |text: &str| {
            let schema = Schema::from_toml(&GOOD.replace("kind = \"id\"", &format!("kind = \"{text}\"")));
            schema.map(|schema| schema.item.features[0].kind.clone())
        };
        assert_eq!(kind("text"), Ok(FeatureKind::Text { buckets: 16_384 }));
        assert_eq!(kind("numeric"), Ok(FeatureKind::Numeric { scale: NumericScale::Standardise }));
        assert!(kind("dense").unwrap_err().to_string().contains("`dim`"));
        let schema = Schema::from_toml(&GOOD.replace("max_length = 20", "")).unwrap();
        assert_eq!(schema.history(), Some(("history", 50)));
    }

    #[test]
    fn unknown_keys_and_kinds_are_refused() {
        assert!(Schema::from_toml(&GOOD.replace("title =", "titel =")).unwrap_err().to_string().contains("titel"));
        assert!(Schema::from_toml(&GOOD.replace("scale =", "scael =")).unwrap_err().to_string().contains("scael"));
        assert!(Schema::from_toml(&GOOD.replace("numeric", "numerick")).unwrap_err().to_string().contains("numerick"));
    }
}
