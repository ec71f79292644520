//! [`Encoder`]: validated entities to table rows and floats.

use std::sync::Arc;

use super::{
    Column, EncodedBatch, IdRows, InvalidFeatures, InvalidVocabularies, Learned, Vocabularies, Vocabulary, text,
    validate,
    vocabulary::{id_feature, pre_scaled, side_schema},
};
use crate::{
    Entity, FeatureValue, Schema, Side,
    schema::{EntitySchema, Feature, FeatureKind, NumericScale},
};

/// Scaled numbers are clamped to this many standard deviations, so that no input can overflow a tower.
const NUMBER_LIMIT: f64 = 10.0;
/// Components of dense features are clamped to this size, for the same reason.
const DENSE_LIMIT: f32 = 1e4;

/// Encodes entities of both sides. Made from a schema and what was learned; never fails on a validated entity.
#[derive(Clone, Debug)]
pub struct Encoder {
    schema: Arc<Schema>,
    encodings: [Vec<Encoding>; 2],
}

/// How one feature is encoded.
#[derive(Clone, Debug)]
pub(crate) enum Encoding {
    /// The entity's id.
    Id { ids: IdRows },
    /// One row.
    Category { vocabulary: Arc<Vocabulary> },
    /// Many rows: tags.
    Tags { vocabulary: Arc<Vocabulary> },
    /// The newest `max_length` items that training knew; others have no meaning in a history, and are left out.
    History { ids: IdRows, max_length: usize, shared: bool },
    /// `[scaled value, 1]`, or `[0, 0]` when absent.
    Number { scale: NumericScale, mean: f64, deviation: f64 },
    /// Row 0 when absent, else 1 + the number of bounds passed.
    Bucket { bounds: Vec<f64> },
    /// Hashed letter trigrams and words.
    Text { buckets: usize },
    /// The vector and 1, or zeros when absent.
    Dense { dim: usize },
}

impl Encoder {
    /// Joins a schema with what was learned; what does not fit together is an error.
    pub fn new(schema: Arc<Schema>, vocabularies: &Vocabularies) -> Result<Self, InvalidVocabularies> {
        vocabularies.check_oov_rows()?;
        let shared = shared_ids(&schema, vocabularies)?;
        let encodings = |side| side_encodings(&schema, side, vocabularies, shared.as_ref());
        let encodings = [encodings(Side::User)?, encodings(Side::Item)?];
        Ok(Self { schema, encodings })
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn encodings(&self, side: Side) -> &[Encoding] {
        &self.encodings[side.index()]
    }

    /// A batch of one side without entities.
    pub fn empty_batch(&self, side: Side) -> EncodedBatch {
        EncodedBatch::new(self.encodings(side).iter().map(Encoding::empty_column).collect())
    }

    /// Validates an entity, encodes it and appends it; on a fault the batch is unchanged.
    pub fn encode_into(&self, side: Side, entity: &Entity, batch: &mut EncodedBatch) -> Result<(), InvalidFeatures> {
        let schema = side_schema(&self.schema, side);
        validate(schema, entity)?;
        let encodings = self.encodings(side);
        batch.push_with(|number, column| {
            let value = entity.features.get(&schema.features[number].name);
            encodings[number].push(entity, value, column);
        });
        Ok(())
    }

    /// The rows that an item has in histories, in the table that these use: [`Self::rows_per_item`] of them, or none for an item that
    /// histories leave out.
    pub fn history_rows(&self, item_id: &str) -> Vec<u32> {
        self.item_ids().map_or_else(Vec::new, |ids| ids.known(item_id))
    }

    /// How many rows an item of a history has: 2 where ids are hashed, else 1. An item's row is their mean.
    pub fn rows_per_item(&self) -> usize {
        self.item_ids().map_or(1, IdRows::rows_per_id)
    }

    /// The rows that an id of a side would have if it was unknown: what id dropout teaches. Empty, which is zeros, where ids are hashed.
    pub fn hidden_id_rows(&self, side: Side, id: &str) -> Vec<u32> {
        let own = self.encodings(side).iter().find_map(|e| match e {
            Encoding::Id { ids } => Some(ids.hidden(id)),
            _ => None,
        });
        own.unwrap_or_default()
    }

    /// The column number of a side's id feature, if it has one.
    pub fn id_column(&self, side: Side) -> Option<usize> {
        self.encodings(side).iter().position(|e| matches!(e, Encoding::Id { .. }))
    }

    fn item_ids(&self) -> Option<&IdRows> {
        let users = self.encodings(Side::User).iter().filter_map(|e| match e {
            Encoding::History { ids, .. } => Some(ids),
            _ => None,
        });
        let items = self.encodings(Side::Item).iter().filter_map(|e| match e {
            Encoding::Id { ids } => Some(ids),
            _ => None,
        });
        users.chain(items).next()
    }

    /// The column number of the user's history and its maximum length, if the schema declares one.
    pub fn history_column(&self) -> Option<(usize, usize)> {
        self.encodings(Side::User).iter().enumerate().find_map(|(number, e)| match e {
            Encoding::History { max_length, .. } => Some((number, *max_length)),
            _ => None,
        })
    }
}

impl Encoding {
    fn empty_column(&self) -> Column {
        match self {
            Self::Number { .. } => Column::floats(2),
            Self::Dense { dim } => Column::floats(dim + 1),
            _ => Column::bags(),
        }
    }

    fn push(&self, entity: &Entity, value: Option<&FeatureValue>, column: &mut Column) {
        match column {
            Column::Bags { .. } => column.push_bag(&self.rows(entity, value)),
            Column::Floats { values, .. } => self.push_floats(value, values),
        }
    }

    fn rows(&self, entity: &Entity, value: Option<&FeatureValue>) -> Vec<u32> {
        match (self, value) {
            (Self::Id { ids }, Some(FeatureValue::Text(id))) => ids.of(id),
            (Self::Id { ids }, _) => ids.of(&entity.id),
            (Self::Category { vocabulary }, Some(FeatureValue::Text(text))) => vec![vocabulary.row(text)],
            (Self::Category { .. }, _) => vec![super::OUT_OF_VOCABULARY],
            (Self::Tags { vocabulary }, Some(FeatureValue::Texts(texts))) => {
                texts.iter().map(|t| vocabulary.row(t)).collect()
            }
            (Self::History { ids, max_length, .. }, Some(FeatureValue::Texts(items))) => {
                newest_known(ids, items, *max_length)
            }
            (Self::Bucket { bounds }, Some(FeatureValue::Number(x))) => {
                vec![1 + bounds.partition_point(|b| b <= x) as u32]
            }
            (Self::Bucket { .. }, _) => vec![super::OUT_OF_VOCABULARY],
            (Self::Text { buckets }, Some(FeatureValue::Text(text))) => text::hashed_rows(text, *buckets),
            _ => Vec::new(),
        }
    }

    fn push_floats(&self, value: Option<&FeatureValue>, values: &mut Vec<f32>) {
        match (self, value) {
            (Self::Number { scale, mean, deviation }, Some(FeatureValue::Number(x))) => {
                let scaled = (pre_scaled(*scale, *x) - mean) / deviation;
                values.extend([scaled.clamp(-NUMBER_LIMIT, NUMBER_LIMIT) as f32, 1.0]);
            }
            (Self::Dense { .. }, Some(FeatureValue::Floats(floats))) => {
                values.extend(floats.iter().map(|f| f.clamp(-DENSE_LIMIT, DENSE_LIMIT)));
                values.push(1.0);
            }
            (Self::Dense { dim }, _) => values.extend(std::iter::repeat_n(0.0, dim + 1)),
            _ => values.extend([0.0; 2]),
        }
    }
}

fn newest_known(ids: &IdRows, items: &[String], max_length: usize) -> Vec<u32> {
    let mut rows = Vec::with_capacity(max_length.min(items.len()) * ids.rows_per_id());
    let known = items.iter().rev().filter(|item| ids.push_known(item, &mut rows));
    known.take(max_length).for_each(drop);
    rows.reverse();
    rows
}

fn shared_ids(schema: &Schema, vocabularies: &Vocabularies) -> Result<Option<IdRows>, InvalidVocabularies> {
    let Some((name, hash_buckets)) = id_feature(&schema.item) else { return Ok(None) };
    id_rows(Side::Item, name, hash_buckets, vocabularies).map(Some)
}

fn id_rows(
    side: Side,
    name: &str,
    hash_buckets: Option<usize>,
    vocabularies: &Vocabularies,
) -> Result<IdRows, InvalidVocabularies> {
    match hash_buckets {
        Some(buckets) => Ok(IdRows::Hashed { buckets }),
        None => {
            let vocabulary = texts_of(side, name, vocabularies)?;
            Ok(IdRows::Known { vocabulary, unknown_rows: vocabularies.oov_rows })
        }
    }
}

fn texts_of(side: Side, name: &str, vocabularies: &Vocabularies) -> Result<Arc<Vocabulary>, InvalidVocabularies> {
    match vocabularies.side(side).get(name) {
        Some(Learned::Texts(vocabulary)) => Ok(Arc::new(vocabulary.clone())),
        _ => Err(InvalidVocabularies(format!("{side}.feature `{name}`: expected a vocabulary of texts"))),
    }
}

fn side_encodings(
    schema: &Schema,
    side: Side,
    vocabularies: &Vocabularies,
    shared: Option<&IdRows>,
) -> Result<Vec<Encoding>, InvalidVocabularies> {
    let features: &EntitySchema = side_schema(schema, side);
    features.features.iter().map(|f| encoding_of(f, side, vocabularies, shared)).collect()
}

fn encoding_of(
    feature: &Feature,
    side: Side,
    vocabularies: &Vocabularies,
    shared: Option<&IdRows>,
) -> Result<Encoding, InvalidVocabularies> {
    let texts = || texts_of(side, &feature.name, vocabularies);
    let ids = |hash_buckets| match shared {
        // Of the items' vocabulary there is one copy.
        Some(shared) if side == Side::Item => Ok(shared.clone()),
        _ => id_rows(side, &feature.name, hash_buckets, vocabularies),
    };
    Ok(match feature.kind {
        FeatureKind::Id { hash_buckets } => Encoding::Id { ids: ids(hash_buckets)? },
        FeatureKind::Categorical => Encoding::Category { vocabulary: texts()? },
        FeatureKind::CategoricalList => Encoding::Tags { vocabulary: texts()? },
        FeatureKind::Sequence { max_length } => {
            let items = shared.map_or_else(|| ids(None), |shared| Ok(shared.clone()))?;
            Encoding::History { ids: items, max_length, shared: shared.is_some() }
        }
        FeatureKind::Numeric { scale } => numeric_encoding(feature, scale, side, vocabularies)?,
        FeatureKind::Text { buckets } => Encoding::Text { buckets },
        FeatureKind::Dense { dim } => Encoding::Dense { dim },
    })
}

fn numeric_encoding(
    feature: &Feature,
    scale: NumericScale,
    side: Side,
    vocabularies: &Vocabularies,
) -> Result<Encoding, InvalidVocabularies> {
    let fault = |expected: &str| InvalidVocabularies(format!("{side}.feature `{}`: expected {expected}", feature.name));
    match (scale, vocabularies.side(side).get(&feature.name)) {
        (NumericScale::Bucket, Some(Learned::Bounds(bounds))) => {
            let ascending =
                bounds.is_sorted_by(|a, b| a < b) && bounds.iter().all(|b| b.is_finite()) && bounds.len() < 1000;
            if ascending {
                Ok(Encoding::Bucket { bounds: bounds.clone() })
            } else {
                Err(fault("ascending finite bounds"))
            }
        }
        (NumericScale::Log | NumericScale::Standardise, Some(&Learned::Moments { mean, deviation })) => {
            let sound = mean.is_finite() && deviation.is_finite() && deviation > 0.0;
            if sound {
                Ok(Encoding::Number { scale, mean, deviation })
            } else {
                Err(fault("a finite mean and a deviation above 0"))
            }
        }
        _ => Err(fault("the learned scale")),
    }
}
