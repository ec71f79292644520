//! From entities to Arrow columns.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, StringArray,
    builder::{Float32Builder, ListBuilder, StringBuilder},
};
use pagoda_model::{
    Entity, FeatureValue,
    schema::{EntitySchema, Feature},
};

use crate::{
    decode::Wanted,
    entities::{at, wanted},
    error::DatasetError,
};

pub(super) type NamedColumn = (String, ArrayRef);

/// The id, the title, and each feature that is no other column already.
pub(super) fn entity_columns(
    schema: &EntitySchema,
    entities: &[Entity],
    titles: &[Option<String>],
) -> Result<Vec<NamedColumn>, DatasetError> {
    let ids: ArrayRef = Arc::new(entities.iter().map(|e| Some(e.id.as_str())).collect::<StringArray>());
    let mut columns = vec![(schema.id.clone(), ids)];
    for feature in &schema.features {
        if let Some(wanted) = wanted(&feature.kind) {
            let column = feature_column(feature, wanted, entities)
                .map_err(|e| DatasetError::malformed("a table to be written", e))?;
            columns.push((feature.name.clone(), column));
        }
    }
    if let Some(title) = schema.title.as_ref().filter(|title| columns.iter().all(|(name, _)| name != *title)) {
        columns.insert(1, (title.clone(), Arc::new(titles.iter().map(Option::as_deref).collect::<StringArray>())));
    }
    Ok(columns)
}

fn feature_column(feature: &Feature, wanted: Wanted, entities: &[Entity]) -> Result<ArrayRef, String> {
    let values = entities.iter().map(|e| e.features.get(&feature.name));
    let column = match wanted {
        Wanted::Texts => texts(values),
        Wanted::Numbers => floats(values),
        Wanted::Number => numbers(values),
        Wanted::Id | Wanted::Text | Wanted::Time => text(values),
    };
    column.ok_or_else(|| at(&feature.name, &format!("expected {} or nothing", wanted.described())))
}

fn text<'a>(values: impl Iterator<Item = Option<&'a FeatureValue>>) -> Option<ArrayRef> {
    let text = |value: Option<&'a FeatureValue>| match value {
        None => Some(None),
        Some(FeatureValue::Text(text)) => Some(Some(text.as_str())),
        Some(_) => None,
    };
    values.map(text).collect::<Option<Vec<_>>>().map(|texts| Arc::new(StringArray::from(texts)) as ArrayRef)
}

fn numbers<'a>(values: impl Iterator<Item = Option<&'a FeatureValue>>) -> Option<ArrayRef> {
    let number = |value: Option<&FeatureValue>| match value {
        None => Some(None),
        Some(FeatureValue::Number(x)) => Some(Some(*x)),
        Some(_) => None,
    };
    values.map(number).collect::<Option<Vec<_>>>().map(|numbers| Arc::new(Float64Array::from(numbers)) as ArrayRef)
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a FeatureValue>>) -> Option<ArrayRef> {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for value in values {
        match value {
            None => builder.append_null(),
            Some(FeatureValue::Texts(texts)) => builder.append_value(texts.iter().map(Some)),
            // An empty list read from JSON is a list of either kind.
            Some(FeatureValue::Floats(floats)) if floats.is_empty() => builder.append(true),
            Some(_) => return None,
        }
    }
    Some(Arc::new(builder.finish()))
}

fn floats<'a>(values: impl Iterator<Item = Option<&'a FeatureValue>>) -> Option<ArrayRef> {
    let mut builder = ListBuilder::new(Float32Builder::new());
    for value in values {
        match value {
            None => builder.append_null(),
            Some(FeatureValue::Floats(floats)) => builder.append_value(floats.iter().map(|x| Some(*x))),
            Some(_) => return None,
        }
    }
    Some(Arc::new(builder.finish()))
}
