//! [`Postings`]: which rows have a value, for one column.

use roaring::{MultiOps, RoaringBitmap};

use super::{Column, Key, NumericColumn};
use crate::filter::Members;

/// A numeric column of more distinct values than this has its rows sorted instead of a bitmap a value.
const DISTINCT_MAX: usize = 4096;

/// The rows of each value of a column.
#[derive(Debug)]
pub(super) enum Postings {
    /// By code of the dictionary.
    Texts(Vec<RoaringBitmap>),
    /// By key; the keys ascend.
    Few { keys: Vec<Key>, rows: Vec<RoaringBitmap> },
    /// The rows that have a key, by key and row.
    Many { order: Vec<u32> },
}

impl Postings {
    pub(super) fn of(column: &Column) -> Self {
        match column {
            Column::Text(texts) => {
                let mut postings = vec![RoaringBitmap::new(); texts.dictionary().len()];
                for row in 0..texts.rows() as u32 {
                    for code in texts.codes_of(row) {
                        postings[*code as usize].insert(row);
                    }
                }
                Self::Texts(postings)
            }
            Column::Integer(keys) | Column::Number(keys) => Self::of_keys(keys),
        }
    }

    fn of_keys(column: &NumericColumn) -> Self {
        let mut sorted: Vec<(Key, u32)> = column.iter().map(|(row, key)| (key, row)).collect();
        sorted.sort_unstable();
        let distinct = sorted.chunk_by(|a, b| a.0 == b.0);
        if distinct.clone().take(DISTINCT_MAX + 1).count() > DISTINCT_MAX {
            return Self::Many { order: sorted.iter().map(|(_, row)| *row).collect() };
        }
        let rows_of = |same: &[(Key, u32)]| same.iter().map(|(_, row)| *row).collect();
        let (keys, rows) = distinct.map(|same| (same[0].0, rows_of(same))).unzip();
        Self::Few { keys, rows }
    }

    /// At least as many rows have one of the members.
    pub(super) fn count_at_most(&self, members: &Members<'_>) -> u64 {
        let sum = |rows: &[RoaringBitmap]| rows.iter().map(RoaringBitmap::len).sum();
        match (self, members) {
            (Self::Texts(rows), Members::Codes { codes, .. }) => {
                codes.iter().map(|code| rows[*code as usize].len()).sum()
            }
            (Self::Few { rows, keys }, Members::Keys { keys: wanted, .. }) => {
                wanted.iter().filter_map(|key| keys.binary_search(key).ok()).map(|at| rows[at].len()).sum()
            }
            (Self::Few { rows, keys }, Members::Range { first, last, .. }) => sum(within(keys, rows, *first, *last)),
            (Self::Many { order }, Members::Keys { column, keys }) => {
                keys.iter().map(|key| slice(order, column, *key, *key).len() as u64).sum()
            }
            (Self::Many { order }, Members::Range { column, first, last }) => {
                slice(order, column, *first, *last).len() as u64
            }
            _ => 0,
        }
    }

    /// The rows that have one of the members.
    pub(super) fn rows(&self, members: &Members<'_>) -> RoaringBitmap {
        match (self, members) {
            (Self::Texts(rows), Members::Codes { codes, .. }) => codes.iter().map(|code| &rows[*code as usize]).union(),
            (Self::Few { rows, keys }, Members::Keys { keys: wanted, .. }) => {
                wanted.iter().filter_map(|key| keys.binary_search(key).ok()).map(|at| &rows[at]).union()
            }
            (Self::Few { rows, keys }, Members::Range { first, last, .. }) => within(keys, rows, *first, *last).union(),
            (Self::Many { order }, Members::Keys { column, keys }) => {
                keys.iter().flat_map(|key| slice(order, column, *key, *key)).copied().collect()
            }
            (Self::Many { order }, Members::Range { column, first, last }) => {
                let rows = slice(order, column, *first, *last);
                // Many rows in the order of their values are slower to collect than all rows are to look at.
                if rows.len() < column.rows() / 16 {
                    return rows.iter().copied().collect();
                }
                column.iter().filter(|(_, key)| first <= key && key <= last).map(|(row, _)| row).collect()
            }
            _ => RoaringBitmap::new(),
        }
    }
}

/// What of ascending keys lies in a range, which may be empty.
fn within<'a, T>(keys: &[Key], of_keys: &'a [T], first: Key, last: Key) -> &'a [T] {
    let from = keys.partition_point(|key| *key < first);
    let to = keys.partition_point(|key| *key <= last);
    &of_keys[from..to.max(from)]
}

fn slice<'a>(order: &'a [u32], column: &NumericColumn, first: Key, last: Key) -> &'a [u32] {
    let from = order.partition_point(|row| column.get(*row) < Some(first));
    let to = order.partition_point(|row| column.get(*row) <= Some(last));
    &order[from..to.max(from)]
}
