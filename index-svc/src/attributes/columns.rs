//! [`Columns`]: the attributes of rows, column by column. Rows are only added.

use std::{collections::BTreeMap, sync::Arc};

use super::{AttributeKind, Declarations, Key, TextColumn};
use crate::item::{Attributes, Value};

/// The declared attributes of rows 0, 1, ...
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    rows: usize,
    columns: BTreeMap<Arc<str>, Column>,
}

/// One attribute of all rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Texts.
    Text(TextColumn),
    /// Integers.
    Integer(NumericColumn),
    /// Numbers.
    Number(NumericColumn),
}

/// At most one key a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumericColumn {
    keys: Vec<Key>,
    present: Vec<bool>,
}

impl Columns {
    /// Columns for the declared attributes, without rows.
    pub fn new(declarations: &Declarations) -> Self {
        let columns = declarations.iter().map(|(name, kind)| (name.clone(), Column::empty(kind))).collect();
        Self { rows: 0, columns }
    }

    /// Rows of which nothing is declared.
    pub fn without_attributes(rows: usize) -> Self {
        Self { rows, columns: BTreeMap::new() }
    }

    /// Whether there is a column for each declared attribute, of its kind, and no other.
    pub fn fit(&self, declarations: &Declarations) -> bool {
        let columns = self.columns.iter().map(|(name, column)| (name, column.kind()));
        columns.eq(declarations.iter())
    }

    /// Columns that were filled one by one, each with as many rows.
    pub(super) fn of(rows: usize, columns: BTreeMap<Arc<str>, Column>) -> Self {
        debug_assert!(columns.values().all(|column| column.rows() == rows));
        Self { rows, columns }
    }

    /// Adds a row. What is not declared, or of another kind, is passed over: whoever admits writes has refused it, and a log cannot be
    /// unwritten.
    pub fn push(&mut self, attributes: &Attributes) {
        for (name, column) in &mut self.columns {
            column.push(attributes.get(name));
        }
        self.rows += 1;
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Memory that they hold, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let of_column = |column: &Column| match column {
            Column::Text(texts) => texts.memory_bytes(),
            Column::Integer(keys) | Column::Number(keys) => keys.memory_bytes(),
        };
        self.columns.values().map(of_column).sum()
    }

    /// Gives back what was kept for rows to come.
    pub(super) fn shrink_to_fit(&mut self) {
        self.columns.values_mut().for_each(|column| match column {
            Column::Text(texts) => texts.shrink_to_fit(),
            Column::Integer(keys) | Column::Number(keys) => keys.shrink_to_fit(),
        });
    }

    /// The column of an attribute.
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// All columns by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Column)> {
        self.columns.iter()
    }

    /// The attributes of a row as they were pushed.
    pub fn row(&self, row: u32) -> Attributes {
        self.iter().filter_map(|(name, column)| Some((name.clone(), column.value(row)?))).collect()
    }
}

impl Column {
    fn empty(kind: AttributeKind) -> Self {
        match kind {
            AttributeKind::Text => Self::Text(TextColumn::default()),
            AttributeKind::Integer => Self::Integer(NumericColumn::default()),
            AttributeKind::Number => Self::Number(NumericColumn::default()),
        }
    }

    /// The kind of the attribute.
    pub fn kind(&self) -> AttributeKind {
        match self {
            Self::Text(_) => AttributeKind::Text,
            Self::Integer(_) => AttributeKind::Integer,
            Self::Number(_) => AttributeKind::Number,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Self::Text(texts) => texts.rows(),
            Self::Integer(keys) | Self::Number(keys) => keys.rows(),
        }
    }

    fn push(&mut self, value: Option<&Value>) {
        match (self, value) {
            (Self::Text(column), Some(Value::Texts(texts))) => column.push(texts),
            (Self::Text(column), _) => column.push(&[]),
            (Self::Integer(column), Some(Value::Integer(integer))) => column.push(Some(Key::of_integer(*integer))),
            (Self::Number(column), Some(Value::Number(number))) => column.push(Some(Key::of_number(*number))),
            (Self::Integer(column) | Self::Number(column), _) => column.push(None),
        }
    }

    fn value(&self, row: u32) -> Option<Value> {
        match self {
            Self::Text(column) => {
                let texts: Vec<_> = column.codes_of(row).iter().map(|code| column.text_of(*code).clone()).collect();
                (!texts.is_empty()).then_some(Value::Texts(texts))
            }
            Self::Integer(column) => column.get(row).map(|key| Value::Integer(key.to_integer())),
            Self::Number(column) => column.get(row).map(|key| Value::Number(key.to_number())),
        }
    }
}

impl NumericColumn {
    /// Adds a row.
    pub fn push(&mut self, key: Option<Key>) {
        self.keys.push(key.unwrap_or(Key(0)));
        self.present.push(key.is_some());
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The key of a row, if it has one.
    pub fn get(&self, row: u32) -> Option<Key> {
        self.present[row as usize].then(|| self.keys[row as usize])
    }

    fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Key>() + self.present.capacity()
    }

    fn shrink_to_fit(&mut self) {
        self.keys.shrink_to_fit();
        self.present.shrink_to_fit();
    }

    /// Gives a row that has a key another one.
    pub(super) fn set(&mut self, row: u32, key: Key) {
        self.keys[row as usize] = key;
    }

    /// The rows that have a key, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Key)> + '_ {
        (0..).zip(&self.keys).zip(&self.present).filter(|(_, present)| **present).map(|((row, key), _)| (row, *key))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn declared() -> Declarations {
        [("tag", AttributeKind::Text), ("year", AttributeKind::Integer), ("price", AttributeKind::Number)]
            .map(|(name, kind)| (name.into(), kind))
            .into_iter()
            .collect()
    }

    pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
        let tags = prop::collection::btree_set(0u8..6, 0..3)
            .prop_map(|tags| tags.iter().map(|tag| format!("t{tag}").into()).collect::<Vec<_>>());
        let year = prop::option::of(1990i64..1996);
        let price = prop::option::of((-3i8..3).prop_map(|price| f64::from(price) / 2.0));
        (tags, year, price).prop_map(|(tags, year, price)| {
            let tags = (!tags.is_empty()).then_some(("tag".into(), Value::Texts(tags)));
            let year = year.map(|year| ("year".into(), Value::Integer(year)));
            let price = price.map(|price| ("price".into(), Value::Number(price)));
            tags.into_iter().chain(year).chain(price).collect()
        })
    }

    pub(crate) fn columns(rows: &[Attributes]) -> Columns {
        let mut columns = Columns::new(&declared());
        rows.iter().for_each(|row| columns.push(row));
        columns
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_pushed(rows in prop::collection::vec(attributes(), 0..40)) {
            let columns = columns(&rows);
            prop_assert_eq!(columns.rows(), rows.len());
            for (row, attributes) in (0..).zip(&rows) {
                prop_assert_eq!(&columns.row(row), attributes);
            }
        }
    }

    #[test]
    fn what_is_not_declared_or_of_another_kind_is_passed_over() {
        let odd = [("other".into(), Value::Integer(1)), ("year".into(), Value::Number(1.0))].into_iter().collect();
        let columns = columns(&[odd]);
        assert!(columns.row(0).is_empty());
    }
}
