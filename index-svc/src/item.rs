//! [`Item`]: what an index holds of one item, and [`Attributes`], the values that searches may filter by.

use std::{collections::BTreeMap, sync::Arc};

use crate::ids::ItemId;

/// One item: its id, its embedding, its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The id.
    pub id: ItemId,
    /// The embedding, of as many values as its space has dimensions.
    pub embedding: Vec<f32>,
    /// The attributes; those that it does not name it does not have.
    pub attributes: Attributes,
}

/// The attributes of one item, by name. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Option<Arc<BTreeMap<Arc<str>, Value>>>);

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One text or more, such as tags; no two alike matter.
    Texts(Vec<Arc<str>>),
    /// An integer.
    Integer(i64),
    /// A finite number.
    Number(f64),
}

impl Attributes {
    /// The value of an attribute, if the item has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().flat_map(|values| values.iter())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |values| values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes they take.
    pub fn byte_count(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.byte_count()).sum()
    }
}

impl FromIterator<(Arc<str>, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(values: I) -> Self {
        let values: BTreeMap<_, _> = values.into_iter().collect();
        Self((!values.is_empty()).then(|| Arc::new(values)))
    }
}

impl Value {
    /// About how many bytes it takes.
    pub fn byte_count(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.iter().map(|text| text.len() + 4).sum(),
            Self::Integer(_) | Self::Number(_) => 8,
        }
    }
}

impl Item {
    /// An item without attributes.
    pub fn new(id: ItemId, embedding: Vec<f32>) -> Self {
        Self { id, embedding, attributes: Attributes::default() }
    }

    /// About how many bytes it takes in a commit.
    pub fn byte_count(&self) -> usize {
        self.id.as_str().len() + 4 * self.embedding.len() + 12 + self.attributes.byte_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_by_name() {
        let attributes: Attributes =
            [("year".into(), Value::Integer(1999)), ("tags".into(), Value::Texts(vec!["a".into()]))]
                .into_iter()
                .collect();
        assert_eq!(attributes.get("year"), Some(&Value::Integer(1999)));
        assert_eq!((attributes.get("none"), attributes.len()), (None, 2));
        assert_eq!(attributes.iter().map(|(name, _)| name.as_ref()).collect::<Vec<_>>(), ["tags", "year"]);
        assert_eq!(Attributes::default(), [].into_iter().collect());
    }
}
