//! [`Mask`]: which rows one search may find, without a bitmap of its own for every search.

use std::cell::RefCell;

use crate::{AnnError, Bitmap};

/// Where fewer than one in so many rows may be found, a row is looked up before it is scored, else after.
const LOOK_FIRST_ONE_IN: usize = 3;

/// The rows that may be found: those of a bitmap (all, without one) but for the excluded ones.
///
/// Excluding a few thousand rows this way costs in proportion to them, not to the rows of the index, as a copied bitmap would.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mask<'a> {
    /// The rows that may be found; none: all.
    pub allowed: Option<&'a Bitmap>,
    /// But for these, in any order, also such that are not allowed anyway or given twice. One beyond the end is none.
    pub excluded: &'a [u32],
}

/// A mask made ready to be asked.
#[derive(Debug)]
pub(crate) struct Sieve<'a> {
    allowed: Option<&'a Bitmap>,
    excluded: Option<Excluded<'a>>,
    rows: usize,
    count: usize,
}

/// Excluded rows as bits of this thread's scratch, which is all zeros between searches.
#[derive(Debug)]
struct Excluded<'a> {
    words: Vec<u64>,
    rows: &'a [u32],
}

thread_local! {
    static SCRATCH: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl<'a> Mask<'a> {
    /// Every row.
    pub const ALL: Mask<'static> = Mask { allowed: None, excluded: &[] };

    /// The rows of a bitmap.
    pub fn of(allowed: &'a Bitmap) -> Self {
        Self { allowed: Some(allowed), excluded: &[] }
    }

    pub(crate) fn sieve(self, rows: usize) -> Result<Sieve<'a>, AnnError> {
        if let Some(found) = self.allowed.map(Bitmap::rows).filter(|found| *found != rows) {
            return Err(AnnError::WrongBitmap { expected: rows, found });
        }
        // A bitmap of all rows is none.
        let allowed = self.allowed.filter(|allowed| allowed.count() < rows);
        let mut sieve = Sieve { allowed, excluded: None, rows, count: allowed.map_or(rows, Bitmap::count) };
        if !self.excluded.is_empty() {
            sieve.exclude(self.excluded);
        }
        Ok(sieve)
    }
}

impl<'a> Sieve<'a> {
    /// How many rows pass.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether every row passes.
    pub(crate) fn is_open(&self) -> bool {
        self.count == self.rows
    }

    /// Whether so few pass that a row is looked up before it is scored.
    pub(crate) fn looks_first(&self) -> bool {
        self.count < self.rows / LOOK_FIRST_ONE_IN
    }

    /// Whether a row passes; one beyond the end does not.
    #[inline]
    pub(crate) fn passes(&self, row: u32) -> bool {
        let allowed = self.allowed.map_or((row as usize) < self.rows, |allowed| allowed.contains(row));
        allowed && self.excluded.as_ref().is_none_or(|excluded| !bit(&excluded.words, row))
    }

    /// The rows that pass, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let allowed = self.allowed.map(Bitmap::iter);
        let every = if allowed.is_some() { 0 } else { self.rows as u32 };
        let excluded = move |row: &u32| self.excluded.as_ref().is_none_or(|excluded| !bit(&excluded.words, *row));
        allowed.into_iter().flatten().chain(0..every).filter(excluded)
    }

    /// What passes as a bitmap, for who reads no sieve.
    pub(crate) fn to_bitmap(&self) -> Bitmap {
        let mut bitmap = self.allowed.cloned().unwrap_or_else(|| Bitmap::full(self.rows));
        self.excluded.iter().flat_map(|excluded| excluded.rows).for_each(|row| bitmap.remove(*row));
        bitmap
    }

    fn exclude(&mut self, rows: &'a [u32]) {
        let mut words = SCRATCH.take();
        if words.len() < self.rows.div_ceil(64) {
            words.resize(self.rows.div_ceil(64), 0);
        }
        for &row in rows.iter().filter(|row| (**row as usize) < self.rows) {
            let is_first = !bit(&words, row);
            words[row as usize / 64] |= 1 << (row % 64);
            self.count -= usize::from(is_first && self.allowed.is_none_or(|allowed| allowed.contains(row)));
        }
        self.excluded = Some(Excluded { words, rows });
    }
}

impl Drop for Excluded<'_> {
    fn drop(&mut self) {
        let mut words = std::mem::take(&mut self.words);
        for row in self.rows {
            if let Some(word) = words.get_mut(*row as usize / 64) {
                *word = 0;
            }
        }
        // Two sieves of one thread at once: the scratch that was larger stays.
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < words.len() {
                *scratch = words;
            }
        });
    }
}

#[inline]
fn bit(words: &[u64], row: u32) -> bool {
    words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn passes_what_is_allowed_and_not_excluded(
            rows in 1usize..200, allowed in prop::option::of(prop::collection::btree_set(0u32..200, 0..90)), excluded in prop::collection::vec(0u32..220, 0..90),
        ) {
            let bitmap = allowed.as_ref().map(|set| Bitmap::of(rows, set.iter().copied().filter(|row| (*row as usize) < rows)));
            let expected: BTreeSet<u32> = (0..rows as u32)
                .filter(|row| allowed.as_ref().is_none_or(|set| set.contains(row)) && !excluded.contains(row))
                .collect();
            // Twice on one thread, and two at once: what one leaves behind must not reach the next.
            let mask = Mask { allowed: bitmap.as_ref(), excluded: &excluded };
            for _ in 0..2 {
                let (sieve, beside) = (mask.sieve(rows).unwrap(), Mask { allowed: None, excluded: &[0] }.sieve(rows).unwrap());
                prop_assert_eq!(sieve.count(), expected.len());
                prop_assert_eq!(sieve.iter().collect::<BTreeSet<_>>(), expected.clone());
                prop_assert_eq!(sieve.to_bitmap().iter().collect::<BTreeSet<_>>(), expected.clone());
                prop_assert!((0..300).all(|row| sieve.passes(row) == expected.contains(&row)));
                prop_assert_eq!(beside.count(), rows - 1);
            }
            prop_assert!(Mask::ALL.sieve(rows).unwrap().is_open());
        }
    }
}
