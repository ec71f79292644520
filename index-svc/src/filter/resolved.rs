//! [`Resolved`]: a predicate for the columns of some rows, and [`Groups`], the groups that their rows are in.

use std::sync::Arc;

use super::{GroupLimit, Predicate, Wanted};
use crate::attributes::{Column, Columns, Key, NumericColumn, TextColumn};

/// A predicate with its texts looked up in the dictionaries of some columns.
#[derive(Clone, Debug)]
pub struct Resolved<'a>(Vec<Step<'a>>);

/// One condition.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The attribute.
    pub attribute: &'a str,
    /// Whether a row must have none of the members, rather than one.
    pub none: bool,
    /// The members.
    pub members: Members<'a>,
}

/// Values, and the column to look for them in.
#[derive(Clone, Debug)]
pub enum Members<'a> {
    /// Texts that occur; ascending.
    #[allow(missing_docs)]
    Codes { column: &'a TextColumn, codes: Vec<u32> },
    /// Keys; ascending.
    #[allow(missing_docs)]
    Keys { column: &'a NumericColumn, keys: &'a [Key] },
    /// From the first to the last.
    #[allow(missing_docs)]
    Range { column: &'a NumericColumn, first: Key, last: Key },
    /// The columns have no such attribute, so that no row has a member.
    Nowhere,
}

/// The column that rows are grouped by.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a>(Option<&'a Column>);

/// A group, the same in the columns of all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey<'a> {
    /// The rows that have a text.
    Text(&'a str),
    /// The rows that have an integer or a number.
    Key(Key),
}

impl Predicate {
    /// The predicate for these columns.
    pub fn resolve<'a>(&'a self, columns: &'a Columns) -> Resolved<'a> {
        let steps = self.conditions().map(|(attribute, none, wanted)| {
            let members = Members::of(columns.get(attribute), wanted);
            Step { attribute, none, members }
        });
        Resolved(steps.collect())
    }
}

impl<'a> Resolved<'a> {
    /// The conditions.
    pub fn steps(&self) -> &[Step<'a>] {
        &self.0
    }

    /// Whether a row meets all conditions.
    pub fn is_met_by(&self, row: u32) -> bool {
        self.0.iter().all(|step| step.is_met_by(row))
    }
}

impl Step<'_> {
    /// Whether a row meets the condition.
    pub fn is_met_by(&self, row: u32) -> bool {
        self.members.any(row) != self.none
    }
}

impl<'a> Members<'a> {
    fn of(column: Option<&'a Column>, wanted: &'a Wanted) -> Self {
        match (column, wanted) {
            (Some(Column::Text(column)), Wanted::Texts(texts)) => {
                let mut codes: Vec<_> = texts.iter().filter_map(|text| column.code_of(text)).collect();
                codes.sort_unstable();
                Self::Codes { column, codes }
            }
            (Some(Column::Integer(column) | Column::Number(column)), Wanted::Keys(keys)) => Self::Keys { column, keys },
            (Some(Column::Integer(column) | Column::Number(column)), Wanted::Range(first, last)) => {
                Self::Range { column, first: *first, last: *last }
            }
            _ => Self::Nowhere,
        }
    }

    /// Whether a row has one of them.
    fn any(&self, row: u32) -> bool {
        match self {
            Self::Codes { column, codes } => column.codes_of(row).iter().any(|code| codes.binary_search(code).is_ok()),
            Self::Keys { column, keys } => column.get(row).is_some_and(|key| keys.binary_search(&key).is_ok()),
            Self::Range { column, first, last } => column.get(row).is_some_and(|key| *first <= key && key <= *last),
            Self::Nowhere => false,
        }
    }
}

impl<'a> Groups<'a> {
    /// The groups of these columns' rows.
    pub fn of(columns: &'a Columns, limit: &GroupLimit) -> Self {
        Self(columns.get(&limit.attribute))
    }

    /// The texts of the column, if every row has one: all groups that rows are in, and perhaps such that they were in.
    pub fn of_every_row(self) -> Option<&'a [Arc<str>]> {
        match self.0 {
            Some(Column::Text(column)) if column.rows_without() == 0 => Some(column.dictionary()),
            _ => None,
        }
    }

    /// The groups that a row is in; none: it is a group of its own.
    pub fn of_row(self, row: u32) -> impl Iterator<Item = GroupKey<'a>> {
        let (texts, key) = match self.0 {
            Some(Column::Text(column)) => (Some(column), None),
            Some(Column::Integer(column) | Column::Number(column)) => (None, column.get(row)),
            None => (None, None),
        };
        let texts = texts.into_iter().flat_map(move |column| {
            column.codes_of(row).iter().map(|code| GroupKey::Text(Arc::as_ref(column.text_of(*code))))
        });
        texts.chain(key.map(GroupKey::Key))
    }
}
