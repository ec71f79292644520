//! What is wrong with an entity's features, all at once.

use crate::{
    Entity, FeatureValue, ID_BYTES_LIMIT,
    schema::{EntitySchema, FeatureKind},
};

/// The longest text of a feature, in bytes.
pub const TEXT_BYTES_LIMIT: usize = 4096;
/// The most texts in one list.
pub const LIST_LENGTH_LIMIT: usize = 10_000;

/// The longest text that can be filtered by, in bytes: the index keeps them whole.
pub const FILTERABLE_BYTES_LIMIT: usize = 128;
/// The most texts in a list that is filtered by.
const FILTERABLE_LENGTH_LIMIT: usize = 64;

/// One fault of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureFault {
    /// The feature's name; empty for the entity's id.
    pub feature: String,
    /// What was found and what was expected.
    pub description: String,
}

/// Every fault of one entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|f| format!("feature `{}`: {}", f.feature, f.description)).collect::<Vec<_>>().join("; "))]
pub struct InvalidFeatures(pub Vec<FeatureFault>);

/// Checks an entity against its side of the schema: names, kinds, finiteness, lengths. Reports every fault.
pub fn validate(schema: &EntitySchema, entity: &Entity) -> Result<(), InvalidFeatures> {
    let mut faults = Vec::new();
    if entity.id.len() > ID_BYTES_LIMIT {
        let description = format!("an id has at most {ID_BYTES_LIMIT} bytes, found {}", entity.id.len());
        faults.push(FeatureFault { feature: String::new(), description });
    }
    for (name, value) in &entity.features {
        let declared = schema.features.iter().find(|f| f.name == *name);
        let fault = declared.map_or_else(|| Some(not_declared(schema)), |f| fault_of(&f.kind, value));
        if let Some(description) = fault {
            faults.push(FeatureFault { feature: name.chars().take(128).collect(), description });
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(InvalidFeatures(faults)) }
}

/// Why a good value cannot be kept to filter by: it has too many texts. To leave some out would let a filter's `none_of` find what it must not.
pub fn too_many_to_filter_by(value: &FeatureValue) -> Option<String> {
    let found = texts_of(value).len();
    let fault = || format!("a filterable list has at most {FILTERABLE_LENGTH_LIMIT} texts, found {found}");
    (found > FILTERABLE_LENGTH_LIMIT).then(fault)
}

/// Why a text of a good value cannot be kept to filter by: it is too long. No filter can name it either, so that every filter answers the same
/// without it.
pub fn too_long_to_filter_by(value: &FeatureValue) -> Option<String> {
    let long = texts_of(value).iter().find(|text| text.len() > FILTERABLE_BYTES_LIMIT)?;
    Some(format!("a filterable text has at most {FILTERABLE_BYTES_LIMIT} bytes, found {}", long.len()))
}

fn texts_of(value: &FeatureValue) -> &[String] {
    match value {
        FeatureValue::Text(text) => std::slice::from_ref(text),
        FeatureValue::Texts(texts) => texts,
        FeatureValue::Number(_) | FeatureValue::Floats(_) => &[],
    }
}

fn not_declared(schema: &EntitySchema) -> String {
    let names: Vec<&str> = schema.features.iter().map(|f| f.name.as_str()).take(20).collect();
    format!("the schema has no such feature; it has {}", names.join(", "))
}

fn fault_of(kind: &FeatureKind, value: &FeatureValue) -> Option<String> {
    match (kind, value) {
        (FeatureKind::Id { .. } | FeatureKind::Categorical | FeatureKind::Text { .. }, FeatureValue::Text(text)) => {
            text_fault(text)
        }
        (FeatureKind::CategoricalList | FeatureKind::Sequence { .. }, FeatureValue::Texts(texts)) => texts_fault(texts),
        // An empty JSON list reads as a list of numbers.
        (FeatureKind::CategoricalList | FeatureKind::Sequence { .. }, FeatureValue::Floats(none))
            if none.is_empty() =>
        {
            None
        }
        (FeatureKind::Numeric { .. }, FeatureValue::Number(number)) => number_fault(*number),
        (FeatureKind::Dense { dim }, FeatureValue::Floats(floats)) => floats_fault(*dim, floats),
        _ => Some(format!("expected {}, found {}", expected(kind), found(value))),
    }
}

fn text_fault(text: &str) -> Option<String> {
    (text.len() > TEXT_BYTES_LIMIT)
        .then(|| format!("a text has at most {TEXT_BYTES_LIMIT} bytes, found {}", text.len()))
}

fn texts_fault(texts: &[String]) -> Option<String> {
    if texts.len() > LIST_LENGTH_LIMIT {
        return Some(format!("a list has at most {LIST_LENGTH_LIMIT} texts, found {}", texts.len()));
    }
    texts.iter().find_map(|text| text_fault(text))
}

fn number_fault(number: f64) -> Option<String> {
    (!number.is_finite()).then(|| format!("expected a finite number, found {number}"))
}

fn floats_fault(dim: usize, floats: &[f32]) -> Option<String> {
    if floats.len() != dim {
        return Some(format!("expected {dim} numbers, found {}", floats.len()));
    }
    let bad = floats.iter().position(|f| !f.is_finite())?;
    Some(format!("expected finite numbers, found {} at position {bad}", floats[bad]))
}

fn expected(kind: &FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Id { .. } | FeatureKind::Categorical | FeatureKind::Text { .. } => "a text",
        FeatureKind::CategoricalList => "a list of texts",
        FeatureKind::Sequence { .. } => "a list of item ids",
        FeatureKind::Numeric { .. } => "a number",
        FeatureKind::Dense { .. } => "a list of numbers",
    }
}

fn found(value: &FeatureValue) -> &'static str {
    match value {
        FeatureValue::Number(_) => "a number",
        FeatureValue::Text(_) => "a text",
        FeatureValue::Floats(_) => "a list of numbers",
        FeatureValue::Texts(_) => "a list of texts",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Feature, NumericScale};

    fn schema() -> EntitySchema {
        let feature = |name: &str, kind| Feature::new(name, kind);
        EntitySchema {
            id: "id".into(),
            title: None,
            features: vec![
                feature("tags", FeatureKind::CategoricalList),
                feature("price", FeatureKind::Numeric { scale: NumericScale::Log }),
                feature("image", FeatureKind::Dense { dim: 2 }),
                feature("title", FeatureKind::Text { buckets: 8 }),
            ],
        }
    }

    fn entity(features: &[(&str, FeatureValue)]) -> Entity {
        Entity { id: "a".into(), features: features.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect() }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let bad = entity(&[
            ("tags", FeatureValue::Text("x".into())),
            ("price", FeatureValue::Number(f64::NAN)),
            ("image", FeatureValue::Floats(vec![1.0])),
            ("title", FeatureValue::Text("x".repeat(TEXT_BYTES_LIMIT + 1))),
            ("colour", FeatureValue::Text("red".into())),
        ]);
        let InvalidFeatures(faults) = validate(&schema(), &bad).unwrap_err();
        let names: Vec<&str> = faults.iter().map(|f| f.feature.as_str()).collect();
        assert_eq!(names, ["colour", "image", "price", "tags", "title"]);
    }

    #[test]
    fn infinities_inside_a_dense_vector_are_found() {
        let bad = entity(&[("image", FeatureValue::Floats(vec![1.0, f32::INFINITY]))]);
        assert!(validate(&schema(), &bad).unwrap_err().to_string().contains("position 1"));
    }

    #[test]
    fn the_empty_list_of_json_is_an_empty_list_of_tags() {
        let value: FeatureValue = serde_json::from_str("[]").unwrap();
        assert_eq!(validate(&schema(), &entity(&[("tags", value)])), Ok(()));
    }

    #[test]
    fn an_absent_feature_is_ordinary() {
        assert_eq!(validate(&schema(), &entity(&[])), Ok(()));
    }

    #[test]
    fn what_cannot_be_filtered_by_is_told_apart_and_no_business_of_the_towers() {
        let long = "x".repeat(FILTERABLE_BYTES_LIMIT + 1);
        let text = FeatureValue::Text(long.clone());
        assert!(too_long_to_filter_by(&text).unwrap().contains("at most 128 bytes, found 129"));
        let one_of_two = FeatureValue::Texts(vec!["a".into(), long.clone()]);
        assert!(too_long_to_filter_by(&one_of_two).is_some() && too_many_to_filter_by(&one_of_two).is_none());
        let many = FeatureValue::Texts(vec!["a".into(); FILTERABLE_LENGTH_LIMIT + 1]);
        assert!(too_many_to_filter_by(&many).unwrap().contains("at most 64 texts, found 65"));
        assert_eq!(too_long_to_filter_by(&FeatureValue::Floats(vec![0.0; 100])), None);
        let mut schema = schema();
        schema.features[0].filterable = true;
        assert_eq!(validate(&schema, &entity(&[("tags", many)])), Ok(()));
        assert_eq!(validate(&schema, &entity(&[("tags", one_of_two)])), Ok(()));
    }
}
