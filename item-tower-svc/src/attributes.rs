//! What the index is told of items beside their embeddings: the values of the features that searches filter by.

use std::collections::BTreeMap;

use pagoda_model::{
    Entity, FeatureValue,
    features::{FILTERABLE_BYTES_LIMIT, too_long_to_filter_by, too_many_to_filter_by},
    schema::{EntitySchema, FeatureKind},
};

/// The kind of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKind {
    /// Texts, of a category or a list of them.
    Text,
    /// An integer. None of our features is one, but another writer may have declared it.
    Integer,
    /// A number.
    Number,
}

/// The attributes that a generation declares, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared(pub BTreeMap<String, AttributeKind>);

/// The value of one attribute of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// One text or more.
    Texts(Vec<String>),
    /// A number.
    Number(f64),
}

impl Declared {
    /// The filterable features of a catalog: what a full refresh declares.
    pub fn by(schema: &EntitySchema) -> Self {
        let filterable = schema.features.iter().filter(|feature| feature.filterable);
        let kinds = filterable.filter_map(|feature| Some((feature.name.clone(), kind_of(&feature.kind)?)));
        Self(kinds.collect())
    }

    /// An item's attributes, as far as they are declared. An empty text says nothing, as an absent one does; one that is too long to filter by is left
    /// out, which no filter can tell.
    pub fn of(&self, item: &Entity) -> Vec<(String, Attribute)> {
        let declared = self.0.iter().filter_map(|(name, kind)| {
            let attribute = match (kind, item.features.get(name)?) {
                (AttributeKind::Text, FeatureValue::Text(text)) => texts(std::slice::from_ref(text))?,
                (AttributeKind::Text, FeatureValue::Texts(list)) => texts(list)?,
                (AttributeKind::Number, FeatureValue::Number(number)) => Attribute::Number(*number),
                _ => return None,
            };
            Some((name.clone(), attribute))
        });
        declared.collect()
    }

    /// Those that another does not declare so.
    pub(crate) fn beyond(&self, other: &Self) -> Vec<String> {
        let beyond = self.0.iter().filter(|(name, kind)| other.0.get(*name) != Some(kind));
        beyond.map(|(name, _)| name.clone()).collect()
    }

    /// What of an item cannot be filtered by as it is: features and why.
    pub(crate) fn faults<'a>(&'a self, item: &'a Entity) -> impl Iterator<Item = (&'a str, String)> {
        let values = self.0.keys().filter_map(move |name| Some((name.as_str(), item.features.get(name)?)));
        values.filter_map(|(name, value)| {
            Some((name, too_many_to_filter_by(value).or_else(|| too_long_to_filter_by(value))?))
        })
    }
}

fn kind_of(kind: &FeatureKind) -> Option<AttributeKind> {
    match kind {
        FeatureKind::Categorical | FeatureKind::CategoricalList => Some(AttributeKind::Text),
        FeatureKind::Numeric { .. } => Some(AttributeKind::Number),
        FeatureKind::Id { .. }
        | FeatureKind::Sequence { .. }
        | FeatureKind::Text { .. }
        | FeatureKind::Dense { .. } => None,
    }
}

fn texts(texts: &[String]) -> Option<Attribute> {
    let may_be_kept = |text: &&String| (1..=FILTERABLE_BYTES_LIMIT).contains(&text.len());
    let texts: Vec<String> = texts.iter().filter(may_be_kept).cloned().collect();
    (!texts.is_empty()).then_some(Attribute::Texts(texts))
}

#[cfg(test)]
mod tests {
    use pagoda_model::schema::{Feature, NumericScale};

    use super::*;

    #[test]
    fn filterable_features_become_attributes() {
        let features = vec![
            Feature::new("genre", FeatureKind::CategoricalList).filterable(),
            Feature::new("brand", FeatureKind::Categorical).filterable(),
            Feature::new("price", FeatureKind::Numeric { scale: NumericScale::Log }).filterable(),
            Feature::new("weight", FeatureKind::Numeric { scale: NumericScale::Log }),
        ];
        let declared = Declared::by(&EntitySchema { id: "id".into(), title: None, features });
        assert_eq!(declared.0.keys().collect::<Vec<_>>(), ["brand", "genre", "price"]);
        let features = [
            ("genre", FeatureValue::Texts(vec!["War".into(), String::new(), "x".repeat(129)])),
            ("brand", FeatureValue::Text(String::new())),
            ("price", FeatureValue::Number(2.5)),
            ("weight", FeatureValue::Number(1.0)),
        ];
        let item = Entity { id: "a".into(), features: features.map(|(name, value)| (name.to_owned(), value)).into() };
        let expected = [("genre", Attribute::Texts(vec!["War".into()])), ("price", Attribute::Number(2.5))];
        assert_eq!(declared.of(&item), expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(declared.of(&Entity::of_id("b")), []);
        let faults: Vec<_> = declared.faults(&item).collect();
        assert_eq!((faults.len(), faults[0].0), (1, "genre"));
        assert!(faults[0].1.contains("at most 128 bytes, found 129"), "{faults:?}");
    }
}
