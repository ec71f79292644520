//! [`Bitmap`]: which rows a search may find.

/// A set of row numbers, one bit each, in the layout that Faiss's bitmap selector reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    bytes: Vec<u8>,
    rows: usize,
    count: usize,
}

impl Bitmap {
    /// All of `rows` rows.
    pub fn full(rows: usize) -> Self {
        let mut bytes = vec![0xff; rows.div_ceil(8)];
        if let (Some(last), used @ 1..) = (bytes.last_mut(), rows % 8) {
            *last = (1 << used) - 1;
        }
        Self { bytes, rows, count: rows }
    }

    /// None of `rows` rows.
    pub fn none(rows: usize) -> Self {
        Self { bytes: vec![0; rows.div_ceil(8)], rows, count: 0 }
    }

    /// How many rows it speaks of.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many of them are in the set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a row is in the set; one beyond the end is not.
    pub fn contains(&self, row: u32) -> bool {
        self.bytes.get(row as usize / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    /// Puts a row in. One beyond the end is a mistake of the caller's and panics.
    pub fn insert(&mut self, row: u32) {
        assert!((row as usize) < self.rows, "row {row} of {}", self.rows);
        self.count += usize::from(!self.contains(row));
        self.bytes[row as usize / 8] |= 1 << (row % 8);
    }

    /// Takes a row out; one beyond the end was never in.
    pub fn remove(&mut self, row: u32) {
        if self.contains(row) {
            self.bytes[row as usize / 8] &= !(1 << (row % 8));
            self.count -= 1;
        }
    }

    /// The rows in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bits = |(i, &byte): (usize, &u8)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| i as u32 * 8 + bit)
        };
        self.bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).flat_map(bits)
    }

    /// One bit a row, the lowest of each byte first.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(rows in 1usize..70, full: bool, changes in prop::collection::vec((any::<bool>(), 0u32..70), 0..60)) {
            let mut bitmap = if full { Bitmap::full(rows) } else { Bitmap::none(rows) };
            let mut set: BTreeSet<u32> = if full { (0..rows as u32).collect() } else { BTreeSet::new() };
            for (insert, row) in changes.into_iter().filter(|(_, row)| (*row as usize) < rows) {
                if insert { bitmap.insert(row); set.insert(row); } else { bitmap.remove(row); set.remove(&row); }
            }
            prop_assert_eq!(bitmap.iter().collect::<BTreeSet<_>>(), set.clone());
            prop_assert_eq!(bitmap.count(), set.len());
            prop_assert!((0..80).all(|row| bitmap.contains(row) == set.contains(&row)));
        }
    }
}
