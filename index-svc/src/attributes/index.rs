//! [`AttributeIndex`]: finds the rows of a generation that a predicate allows.

use std::{collections::BTreeMap, sync::Arc};

use pagoda_ann::Bitmap;
use roaring::RoaringBitmap;

use super::{Columns, cache::Cache, postings::Postings};
use crate::filter::{Predicate, Resolved, Step};

/// Where so few rows are left, the next condition is checked row by row rather than as a bitmap of its own: when it would have at least so
/// many times as many rows.
const ROW_BY_ROW_RATIO: u64 = 8;
/// Fewer matches than one row in so many are kept as a list.
const FEW_ONE_IN: u64 = 64;

/// The attributes of a generation's rows. Immutable.
#[derive(Debug)]
pub struct AttributeIndex {
    columns: Columns,
    postings: BTreeMap<Arc<str>, Postings>,
    cache: Cache,
}

/// The rows that a predicate allows.
#[derive(Debug, PartialEq)]
pub enum Matches {
    /// Ascending.
    Few(Vec<u32>),
    /// A bit for each row.
    Many(Bitmap),
}

impl AttributeIndex {
    /// Makes the postings of columns that grow no more.
    pub fn new(mut columns: Columns) -> Self {
        columns.shrink_to_fit();
        let postings = columns.iter().map(|(name, column)| (name.clone(), Postings::of(column))).collect();
        Self { columns, postings, cache: Cache::default() }
    }

    /// Memory that it holds, in bytes, but for what it remembers.
    pub fn memory_bytes(&self) -> usize {
        self.columns.memory_bytes() + self.postings.values().map(Postings::memory_bytes).sum::<usize>()
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The rows that a predicate allows; remembered for the next time.
    pub fn matching(&self, predicate: &Predicate) -> Arc<Matches> {
        self.cache.get_or(predicate, || self.find(predicate))
    }

    /// The rows that a predicate allows, if they were asked for lately.
    pub fn remembered(&self, predicate: &Predicate) -> Option<Arc<Matches>> {
        self.cache.get(predicate)
    }

    fn find(&self, predicate: &Predicate) -> Matches {
        let resolved = predicate.resolve(&self.columns);
        let rows = self.columns.rows();
        let found = self.rows(&resolved);
        if found.len() < rows as u64 / FEW_ONE_IN {
            return Matches::Few(found.iter().collect());
        }
        let mut words = vec![0u64; rows.div_ceil(64)];
        found.iter().for_each(|row| words[row as usize / 64] |= 1 << (row % 64));
        Matches::Many(Bitmap::from_words(words, rows))
    }

    /// Begins with the condition that leaves the fewest rows, and narrows them one by one.
    fn rows(&self, resolved: &Resolved<'_>) -> RoaringBitmap {
        let (mut wanted, unwanted): (Vec<_>, Vec<_>) =
            resolved.steps().iter().map(|step| (self.count_at_most(step), step)).partition(|(_, step)| !step.none);
        wanted.sort_by_key(|(count, _)| *count);
        let mut wanted = wanted.into_iter();
        let mut found = match wanted.next() {
            Some((_, step)) => self.rows_of(step),
            None => every(self.columns.rows()),
        };
        for (count, step) in wanted.chain(unwanted) {
            if found.is_empty() {
                break;
            } else if found.len().saturating_mul(ROW_BY_ROW_RATIO) < count {
                found = found.iter().filter(|row| step.is_met_by(*row)).collect();
            } else if step.none {
                found -= self.rows_of(step);
            } else {
                found &= self.rows_of(step);
            }
        }
        found
    }

    fn count_at_most(&self, step: &Step<'_>) -> u64 {
        self.postings.get(step.attribute).map_or(0, |postings| postings.count_at_most(&step.members))
    }

    /// The rows that have a member, wanted or not.
    fn rows_of(&self, step: &Step<'_>) -> RoaringBitmap {
        self.postings.get(step.attribute).map(|postings| postings.rows(&step.members)).unwrap_or_default()
    }
}

impl Matches {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Few(rows) => rows.len(),
            Self::Many(bitmap) => bitmap.count(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn every(rows: usize) -> RoaringBitmap {
    let mut every = RoaringBitmap::new();
    every.insert_range(0..rows as u32);
    every
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::columns::tests::{attributes, columns, declared},
        *,
    };
    use crate::filter::tests::{filter, meets};

    fn rows_of(matches: &Matches) -> Vec<u32> {
        match matches {
            Matches::Few(rows) => rows.clone(),
            Matches::Many(bitmap) => bitmap.iter().collect(),
        }
    }

    proptest! {
        #[test]
        fn bitmaps_and_columns_find_what_looking_at_each_item_finds(
            rows in prop::collection::vec(attributes(), 0..200), filter in filter(),
        ) {
            let index = AttributeIndex::new(columns(&rows));
            let predicate = filter.bind(&declared()).unwrap();
            let expected: Vec<u32> =
                (0..).zip(&rows).filter(|(_, row)| meets(&filter, row)).map(|(row, _)| row).collect();
            prop_assert!(index.remembered(&predicate).is_none());
            prop_assert_eq!(&rows_of(&index.matching(&predicate)), &expected);
            prop_assert_eq!(&rows_of(&index.remembered(&predicate).unwrap()), &expected);
            prop_assert_eq!(&rows_of(&index.matching(&predicate)), &expected, "remembered");
            let resolved = predicate.resolve(index.columns());
            let by_row: Vec<u32> = (0..rows.len() as u32).filter(|row| resolved.is_met_by(*row)).collect();
            prop_assert_eq!(by_row, expected);
        }
    }

    #[test]
    fn ranges_over_many_distinct_values_are_exact() {
        use crate::{
            attributes::{AttributeKind, Declarations},
            filter::{Bound, Condition, Filter, Range, Test},
            item::Value,
        };
        let declared: Declarations = [("n".into(), AttributeKind::Integer)].into_iter().collect();
        let mut columns = Columns::new(&declared);
        // Every 7th row has none; the others run through all values in no order.
        let value = |row: i64| (row % 7 != 0).then_some(row * 7919 % 10_007);
        for row in 0..10_007 {
            columns.push(&value(row).map(|n| ("n".into(), Value::Integer(n))).into_iter().collect());
        }
        let index = AttributeIndex::new(columns);
        for (first, last) in [(5000, 5010), (0, 9000), (9000, 20_000), (10, 9), (-5, -1)] {
            let bound = |n| Some(Bound { value: Value::Integer(n), exclusive: false });
            let test = Test::Range(Range { lower: bound(first), upper: bound(last) });
            let filter = Filter { all: vec![Condition { attribute: "n".into(), test }] };
            let expected: Vec<u32> = (0..10_007)
                .filter(|row| value(*row).is_some_and(|n| first <= n && n <= last))
                .map(|r| r as u32)
                .collect();
            assert_eq!(rows_of(&index.matching(&filter.bind(&declared).unwrap())), expected, "{first}..={last}");
        }
    }
}
