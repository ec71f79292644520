//! [`Postings`]: which rows have a value, for one column.

use std::collections::HashMap;

use roaring::{MultiOps, RoaringBitmap};

use super::{Column, Key, NumericColumn, TextColumn};
use crate::filter::Members;

/// A numeric column of more distinct values than this has its rows sorted instead of a bitmap a value.
const DISTINCT_MAX: usize = 4096;
/// A text of no more rows than this has them in a list, since a bitmap takes a few hundred bytes whatever it holds.
const RARE_MAX: usize = 64;
/// What a bitmap takes, and each of its containers, of at most 65,536 rows.
const BITMAP_BYTES: usize = size_of::<RoaringBitmap>();
const CONTAINER_BYTES: usize = 40;

/// The rows of each value of a column.
#[derive(Debug)]
pub(super) enum Postings {
    /// By code of the dictionary.
    Texts(Texts),
    /// By key; the keys ascend.
    Few { keys: Vec<Key>, rows: Vec<RoaringBitmap> },
    /// The rows that have a key, by key and row.
    Many { order: Vec<u32> },
}

/// The rows of each text.
#[derive(Debug)]
pub(super) struct Texts {
    /// Of those that many rows have.
    common: HashMap<u32, RoaringBitmap>,
    /// Of the others, text by text.
    rare: Vec<u32>,
    /// Where the rows of each text end among these.
    ends: Vec<u32>,
}

impl Postings {
    pub(super) fn of(column: &Column) -> Self {
        match column {
            Column::Text(texts) => Self::Texts(Texts::of(texts)),
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
            (Self::Texts(texts), Members::Codes { codes, .. }) => codes.iter().map(|code| texts.count(*code)).sum(),
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
            (Self::Texts(texts), Members::Codes { codes, .. }) => texts.rows(codes),
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

    /// Memory that it holds, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Texts(Texts { common, rare, ends }) => {
                common.values().map(bitmap_bytes).sum::<usize>() + (rare.capacity() + ends.capacity()) * 4
            }
            Self::Few { keys, rows } => size_of_val(keys.as_slice()) + rows.iter().map(bitmap_bytes).sum::<usize>(),
            Self::Many { order } => order.capacity() * 4,
        }
    }
}

impl Texts {
    fn of(column: &TextColumn) -> Self {
        let mut ends = vec![0u32; column.dictionary().len()];
        let postings =
            || (0..column.rows() as u32).flat_map(|row| column.codes_of(row).iter().map(move |code| (*code, row)));
        postings().for_each(|(code, _)| ends[code as usize] += 1);
        let is_common = |count: &u32| *count as usize > RARE_MAX;
        let mut common: HashMap<u32, RoaringBitmap> = (0..)
            .zip(&ends)
            .filter(|(_, count)| is_common(count))
            .map(|(code, _)| (code, RoaringBitmap::new()))
            .collect();
        // Each text's place begins where it will end once its rows are there.
        let mut next = 0;
        for end in &mut ends {
            let count = if is_common(end) { 0 } else { *end };
            *end = next;
            next += count;
        }
        let mut rare = vec![0; next as usize];
        for (code, row) in postings() {
            if let Some(rows) = common.get_mut(&code) {
                rows.insert(row);
            } else {
                let end = &mut ends[code as usize];
                rare[*end as usize] = row;
                *end += 1;
            }
        }
        Self { common, rare, ends }
    }

    fn count(&self, code: u32) -> u64 {
        self.common.get(&code).map_or(self.rare_rows(code).len() as u64, RoaringBitmap::len)
    }

    fn rows(&self, codes: &[u32]) -> RoaringBitmap {
        let mut rows = codes.iter().filter_map(|code| self.common.get(code)).union();
        codes.iter().for_each(|code| rows.extend(self.rare_rows(*code)));
        rows
    }

    /// None where the text is common.
    fn rare_rows(&self, code: u32) -> &[u32] {
        let first = (code as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rare[first as usize..self.ends[code as usize] as usize]
    }
}

/// Memory that a bitmap holds. Its statistics take an array's values for four bytes, and a bitset's for its bits.
fn bitmap_bytes(bitmap: &RoaringBitmap) -> usize {
    let found = bitmap.statistics();
    let arrays = found.n_bytes_array_containers / 2;
    let bitsets = u64::from(found.n_bitset_containers) << 13;
    BITMAP_BYTES
        + found.n_containers as usize * CONTAINER_BYTES
        + (arrays + bitsets + found.n_bytes_run_containers) as usize
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
