//! What the training data taught the encoder: which texts have rows, and how numbers are scaled.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{InvalidFeatures, validate};
use crate::{
    Entity, FeatureValue, Schema, Side,
    schema::{EntitySchema, FeatureKind, NumericScale},
};

/// The row of categories, tags and numbers that training did not see. Unknown ids may have more rows than this one
/// ([`Vocabularies::oov_rows`]).
pub const OUT_OF_VOCABULARY: u32 = 0;

const BUCKETS: usize = 10;

/// The most out-of-vocabulary rows of a vocabulary of ids.
const OOV_ROWS_LIMIT: usize = 1 << 24;

/// Texts and their rows. Of categories and tags the first text has row 1, since row 0 is [`OUT_OF_VOCABULARY`]; of ids it has the
/// row behind all those of the unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Vocabulary {
    texts: Vec<String>,
    places: HashMap<String, u32>,
}

impl Vocabulary {
    /// The row of a category or a tag, or [`OUT_OF_VOCABULARY`].
    pub fn row(&self, text: &str) -> u32 {
        self.place(text).map_or(OUT_OF_VOCABULARY, |place| place + 1)
    }

    /// Where the text stands, from 0.
    pub fn place(&self, text: &str) -> Option<u32> {
        self.places.get(text).copied()
    }

    /// How many rows a table of categories or tags needs: one per text and one for the rest.
    pub fn rows(&self) -> usize {
        self.texts.len() + 1
    }

    /// The texts, by place.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl TryFrom<Vec<String>> for Vocabulary {
    type Error = InvalidVocabularies;
    fn try_from(texts: Vec<String>) -> Result<Self, InvalidVocabularies> {
        if texts.len() >= u32::MAX as usize - OOV_ROWS_LIMIT {
            return Err(InvalidVocabularies(format!("a vocabulary of {} texts is too large", texts.len())));
        }
        let places: HashMap<String, u32> = texts.iter().cloned().zip(0..).collect();
        if places.len() != texts.len() {
            return Err(InvalidVocabularies("a text occurs twice in a vocabulary".into()));
        }
        Ok(Self { texts, places })
    }
}

impl From<Vocabulary> for Vec<String> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.texts
    }
}

/// What was learned of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Learned {
    /// Ids, categories, tags.
    Texts(Vocabulary),
    /// Mean and standard deviation of the (possibly log-scaled) numbers.
    Moments {
        /// The mean.
        mean: f64,
        /// The standard deviation, above 0.
        deviation: f64,
    },
    /// The bounds between buckets, ascending.
    Bounds(Vec<f64>),
}

/// What was learned of every feature that learns, by side and feature. A sequence appears only when the item side has no
/// id feature whose table it could share. Hashed ids learn nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabularies {
    /// The users' features.
    pub user: BTreeMap<String, Learned>,
    /// The items' features.
    pub item: BTreeMap<String, Learned>,
    /// How many rows unknown ids have, of every vocabulary of ids; a hash of the id chooses. They are trained as well, see the trainer's
    /// id dropout. Bundles of format 1 have one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub oov_rows: usize,
}

/// Vocabularies that do not fit the schema or themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidVocabularies(pub String);

impl Default for Vocabularies {
    fn default() -> Self {
        Self { user: BTreeMap::new(), item: BTreeMap::new(), oov_rows: 1 }
    }
}

const fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_one(rows: &usize) -> bool {
    *rows == 1
}

impl Vocabularies {
    /// Checks the number of rows of the unknown.
    pub(super) fn check_oov_rows(&self) -> Result<(), InvalidVocabularies> {
        if (1..=OOV_ROWS_LIMIT).contains(&self.oov_rows) {
            return Ok(());
        }
        Err(InvalidVocabularies(format!("oov_rows: is between 1 and {OOV_ROWS_LIMIT}, found {}", self.oov_rows)))
    }

    /// One side's features.
    pub fn side(&self, side: Side) -> &BTreeMap<String, Learned> {
        match side {
            Side::User => &self.user,
            Side::Item => &self.item,
        }
    }
}

/// How large a vocabulary may get, and how often a text must occur to get a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VocabularyLimits {
    /// Texts that occur less often share the out-of-vocabulary rows.
    pub min_count: u64,
    /// The most frequent texts win, ties by text.
    pub size_max: usize,
    /// How many out-of-vocabulary rows each vocabulary of ids has, 1 to 2^24.
    pub oov_rows: usize,
}

impl Default for VocabularyLimits {
    /// Everything that occurs has a row, and the unknown share one.
    fn default() -> Self {
        Self { min_count: 1, size_max: usize::MAX, oov_rows: 1 }
    }
}

/// Learns vocabularies from the training data. Ids are given apart ([`Self::observe_id`]), because an id deserves a row only
/// when training examples will teach it something.
pub struct VocabularyBuilder<'a> {
    schema: &'a Schema,
    texts: [BTreeMap<String, HashMap<String, u64>>; 2],
    numbers: [BTreeMap<String, Vec<f64>>; 2],
}

impl<'a> VocabularyBuilder<'a> {
    /// Nothing learned yet.
    pub fn new(schema: &'a Schema) -> Self {
        Self { schema, texts: Default::default(), numbers: Default::default() }
    }

    /// Learns an entity's categories, tags and numbers, not its id.
    pub fn observe(&mut self, side: Side, entity: &Entity) -> Result<(), InvalidFeatures> {
        let schema = side_schema(self.schema, side);
        validate(schema, entity)?;
        for feature in &schema.features {
            let Some(value) = entity.features.get(&feature.name) else { continue };
            match (&feature.kind, value) {
                (FeatureKind::Categorical, FeatureValue::Text(text)) => self.count(side, &feature.name, text, 1),
                (FeatureKind::CategoricalList, FeatureValue::Texts(texts)) => {
                    texts.iter().for_each(|text| self.count(side, &feature.name, text, 1));
                }
                (FeatureKind::Numeric { scale }, FeatureValue::Number(number)) => {
                    self.numbers[side.index()]
                        .entry(feature.name.clone())
                        .or_default()
                        .push(pre_scaled(*scale, *number));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Learns an id that training examples use, once per use.
    pub fn observe_id(&mut self, side: Side, id: &str) {
        self.observe_id_times(side, id, 1);
    }

    /// Learns an id that so many training examples use; at 0 it stays unknown.
    pub fn observe_id_times(&mut self, side: Side, id: &str, times: u64) {
        if let Some((name, hash_buckets)) = id_feature(side_schema(self.schema, side)) {
            if hash_buckets.is_none() {
                self.count(side, name, id, times);
            }
        } else if let (Side::Item, Some((history, _))) = (side, self.schema.history()) {
            self.count(Side::User, history, id, times);
        }
    }

    /// The vocabularies: the same for the same observations in any order.
    pub fn finish(self, limits: VocabularyLimits) -> Vocabularies {
        let learn = |side: Side| {
            let features = &side_schema(self.schema, side).features;
            let learned = features.iter().filter_map(|f| {
                let texts = self.texts[side.index()].get(&f.name);
                let numbers = self.numbers[side.index()].get(&f.name).map_or(&[][..], Vec::as_slice);
                learned_of(&f.kind, texts, numbers, limits, shares_id_table(self.schema)).map(|l| (f.name.clone(), l))
            });
            learned.collect()
        };
        Vocabularies { user: learn(Side::User), item: learn(Side::Item), oov_rows: limits.oov_rows }
    }

    fn count(&mut self, side: Side, feature: &str, text: &str, times: u64) {
        if times == 0 {
            return;
        }
        let counts = &mut self.texts[side.index()];
        if !counts.contains_key(feature) {
            counts.insert(feature.to_owned(), HashMap::new());
        }
        let Some(counts) = counts.get_mut(feature) else { return };
        match counts.get_mut(text) {
            Some(count) => *count += times,
            None => drop(counts.insert(text.to_owned(), times)),
        }
    }
}

/// One side of a schema.
pub(crate) fn side_schema(schema: &Schema, side: Side) -> &EntitySchema {
    match side {
        Side::User => &schema.user,
        Side::Item => &schema.item,
    }
}

/// The name of a side's id feature, if it has one, and how many rows its ids share by hashes, if they do.
pub(crate) fn id_feature(schema: &EntitySchema) -> Option<(&str, Option<usize>)> {
    schema.features.iter().find_map(|f| match f.kind {
        FeatureKind::Id { hash_buckets } => Some((f.name.as_str(), hash_buckets)),
        _ => None,
    })
}

fn shares_id_table(schema: &Schema) -> bool {
    id_feature(&schema.item).is_some()
}

fn learned_of(
    kind: &FeatureKind,
    texts: Option<&HashMap<String, u64>>,
    numbers: &[f64],
    limits: VocabularyLimits,
    shares_id_table: bool,
) -> Option<Learned> {
    match kind {
        FeatureKind::Id { hash_buckets: Some(_) } => None,
        FeatureKind::Id { .. } | FeatureKind::Categorical | FeatureKind::CategoricalList => {
            Some(Learned::Texts(ranked(texts, limits)))
        }
        FeatureKind::Sequence { .. } if !shares_id_table => Some(Learned::Texts(ranked(texts, limits))),
        FeatureKind::Numeric { scale: NumericScale::Bucket } => Some(Learned::Bounds(deciles(numbers))),
        FeatureKind::Numeric { .. } => Some(moments(numbers)),
        FeatureKind::Sequence { .. } | FeatureKind::Text { .. } | FeatureKind::Dense { .. } => None,
    }
}

fn ranked(counts: Option<&HashMap<String, u64>>, limits: VocabularyLimits) -> Vocabulary {
    let mut counts: Vec<(&String, u64)> =
        counts.into_iter().flatten().map(|(t, &n)| (t, n)).filter(|&(_, n)| n >= limits.min_count).collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    counts.truncate(limits.size_max.min(u32::MAX as usize - OOV_ROWS_LIMIT - 1));
    Vocabulary::try_from(counts.into_iter().map(|(t, _)| t.clone()).collect::<Vec<_>>())
        .expect("keys of a map are distinct and few enough")
}

fn moments(numbers: &[f64]) -> Learned {
    let count = numbers.len().max(1) as f64;
    let mean = numbers.iter().map(|x| x / count).sum::<f64>();
    let variance = numbers.iter().map(|x| (x - mean) * ((x - mean) / count)).sum::<f64>();
    let deviation = variance.sqrt();
    // A constant column, or one too wild to have moments, is passed through as zero by the clamp of the encoder.
    let usable = mean.is_finite() && deviation.is_finite() && deviation > 1e-12;
    if usable {
        Learned::Moments { mean, deviation }
    } else {
        Learned::Moments { mean: finite_or_zero(mean), deviation: 1.0 }
    }
}

fn finite_or_zero(x: f64) -> f64 {
    if x.is_finite() { x } else { 0.0 }
}

fn deciles(numbers: &[f64]) -> Vec<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut bounds: Vec<f64> = (1..BUCKETS).filter_map(|i| sorted.get(i * sorted.len() / BUCKETS).copied()).collect();
    bounds.dedup();
    bounds
}

/// sign(x) ln(1 + |x|) for [`NumericScale::Log`], else x.
pub(super) fn pre_scaled(scale: NumericScale, x: f64) -> f64 {
    match scale {
        NumericScale::Log => x.signum() * x.abs().ln_1p(),
        NumericScale::Standardise | NumericScale::Bucket => x,
    }
}
