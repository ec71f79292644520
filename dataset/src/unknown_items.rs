//! Unknown items: rows of the log, of scores or of hard negatives that name items which the items' table does not have, counted apart from bad rows.
//!
//! Such a row is well-formed: an item that has left the catalog leaves its interactions behind, and a popular one many of them. So they are left
//! out, as bad rows are, but have a limit of their own, wide enough for what a catalog loses, and near enough to find tables that do not
//! belong together.

use std::collections::HashSet;

use crate::{
    bad_rows::{BadRows, Limits, RowCounter, shown},
    error::DatasetError,
    source::{Column, Row, Source},
};

/// How many items are named.
const ITEMS_SHOWN: usize = 5;

/// The rows that were left out because the items' table does not have their item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownItems {
    /// How many rows.
    pub rows: u64,
    /// How many items they name.
    pub items: u64,
    /// The first row of each of the first few items, such as "interactions.csv row 12: `a`".
    pub first: Vec<String>,
}

/// Which items the rows of a file may be of.
#[derive(Clone, Copy)]
pub struct KnownItems<'a> {
    /// Whether the catalog has an item of this id.
    pub has: &'a dyn Fn(&str) -> bool,
    /// Which share of the rows may be of others, 0 to 1; as `unknown_items_share_max` of `[interactions]` in the schema says.
    pub unknown_share_max: f64,
}

/// The rows of a file that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Those that cannot be what the file holds.
    pub bad_rows: BadRows,
    /// Those of items that the catalog does not have.
    pub unknown_items: UnknownItems,
}

/// Counts the unknown items of one file.
#[derive(Default)]
pub(crate) struct UnknownCounter {
    unknown: UnknownItems,
    ids: HashSet<Box<str>>,
}

impl UnknownItems {
    /// What was left out, in words and with the first ones; None if nothing was.
    pub fn note(&self) -> Option<String> {
        let more = self.items - self.first.len() as u64;
        let more = if more > 0 { format!("\n  and {more} more items") } else { String::new() };
        (self.rows > 0).then(|| format!("{}; they were left out:\n  {}{more}", self.counted(), self.first.join("\n  ")))
    }

    fn counted(&self) -> String {
        let of = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let rows = of(self.rows, "row is", "rows are");
        format!("{rows} of {} that the items' table does not have", of(self.items, "item", "items"))
    }
}

impl KnownItems<'_> {
    /// No item is unknown: for a reader without a catalog.
    pub const ALL: Self = Self { has: &|_| true, unknown_share_max: 0.0 };
}

impl LeftOut {
    /// What was left out, a note for each kind that was.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.bad_rows.note().into_iter().chain(self.unknown_items.note())
    }
}

/// Whether the catalog has an item; where not, its row is counted.
type Knows<'a> = &'a mut dyn FnMut(&str) -> bool;

/// Reads a file beside the tables row by row. `read` asks of each row's item whether the catalog has it: where not, the row is to be left out.
pub(crate) fn read_known(
    source: &Source,
    columns: &[Column],
    limits: &Limits,
    items: KnownItems<'_>,
    read: &mut dyn FnMut(Row<'_>, Knows<'_>) -> Result<(), String>,
) -> Result<LeftOut, DatasetError> {
    let file = &source.name;
    let (mut counter, mut unknown) = (RowCounter::new(file, limits), UnknownCounter::default());
    source.read(columns, limits, &mut |row| {
        let number = row.number;
        let outcome = read(row, &mut |item| {
            let knows = (items.has)(item);
            if !knows {
                unknown.count(file, number, item);
            }
            knows
        });
        counter.count(number, outcome)
    })?;
    let rows = counter.rows();
    let bad_rows = counter.finish()?;
    let unknown_items = unknown.finish(file, rows, items.unknown_share_max)?;
    Ok(LeftOut { bad_rows, unknown_items })
}

impl UnknownCounter {
    /// Counts a row of a file.
    pub(crate) fn count(&mut self, file: &str, row: u64, item: &str) {
        self.unknown.rows += 1;
        if self.ids.contains(item) {
            return;
        }
        self.ids.insert(item.into());
        self.unknown.items += 1;
        if self.unknown.first.len() < ITEMS_SHOWN {
            self.unknown.first.push(format!("{file} row {row}: {}", shown(item)));
        }
    }

    /// What was counted, if it is no more than a share of all rows.
    pub(crate) fn finish(self, file: &str, rows: u64, share_max: f64) -> Result<UnknownItems, DatasetError> {
        if self.unknown.rows as f64 <= rows as f64 * share_max {
            return Ok(self.unknown);
        }
        let UnknownItems { first, .. } = &self.unknown;
        Err(DatasetError::TooManyUnknownItems {
            file: file.to_owned(),
            counted: self.unknown.counted(),
            rows,
            share_max,
            first: first.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rows: &[&str]) -> UnknownCounter {
        let mut counter = UnknownCounter::default();
        (1..).zip(rows).for_each(|(row, item)| counter.count("log.csv", row, item));
        counter
    }

    #[test]
    fn each_item_is_named_once_and_a_few_of_them() {
        let unknown = counted(&["a", "b", "a", "a"]).finish("log.csv", 8, 0.5).unwrap();
        assert_eq!((unknown.rows, unknown.items), (4, 2));
        let note = unknown.note().unwrap();
        assert!(note.starts_with("4 rows are of 2 items that the items' table does not have"), "{note}");
        assert!(note.ends_with("\n  log.csv row 1: `a`\n  log.csv row 2: `b`"), "{note}");
        let many = counted(&["a", "b", "c", "d", "e", "f", "g"]).finish("log.csv", 99, 0.5).unwrap();
        assert!(many.note().unwrap().ends_with("row 5: `e`\n  and 2 more items"));
        assert_eq!(UnknownItems::default().note(), None);
    }

    #[test]
    fn past_the_share_the_numbers_and_the_key_are_named() {
        let error = counted(&["a", "a"]).finish("log.csv", 3, 0.5).unwrap_err().to_string();
        for part in ["log.csv", "2 rows are of 1 item", "of 3", "unknown_items_share_max = 0.5", "row 1: `a`"] {
            assert!(error.contains(part), "expected {part} in {error}");
        }
        assert!(counted(&["a", "a"]).finish("log.csv", 2, 1.0).is_ok() && counted(&["a"]).finish("l", 9, 0.0).is_err());
        assert_eq!(counted(&[]).finish("log.csv", 0, 0.0).unwrap(), UnknownItems::default());
    }
}
