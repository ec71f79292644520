//! [`Bitmap`]: which rows a search may find.

/// A set of row numbers, one bit each, in words of 64, the lowest row of a word in its lowest bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    rows: usize,
    count: usize,
}

impl Bitmap {
    /// All of `rows` rows.
    pub fn full(rows: usize) -> Self {
        Self::from_words(vec![u64::MAX; rows.div_ceil(64)], rows)
    }

    /// None of `rows` rows.
    pub fn none(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], rows, count: 0 }
    }

    /// Of `rows` rows those whose bits are set in the words; bits beyond the end are cleared. Too few words are a mistake of the
    /// caller's and panic.
    pub fn from_words(mut words: Vec<u64>, rows: usize) -> Self {
        assert_eq!(words.len(), rows.div_ceil(64), "words for {rows} rows");
        if let (Some(last), used @ 1..) = (words.last_mut(), rows % 64) {
            *last &= (1 << used) - 1;
        }
        let count = count_ones(&words);
        Self { words, rows, count }
    }

    /// Of `rows` rows these, in any order; panics where one is beyond the end.
    pub fn of(rows: usize, members: impl IntoIterator<Item = u32>) -> Self {
        let mut bitmap = Self::none(rows);
        members.into_iter().for_each(|row| bitmap.insert(row));
        bitmap
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
    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Speaks of one row more, which is in the set.
    pub fn push(&mut self) {
        if self.rows.is_multiple_of(64) {
            self.words.push(0);
        }
        self.rows += 1;
        self.insert(self.rows as u32 - 1);
    }

    /// Puts a row in. One beyond the end is a mistake of the caller's and panics.
    pub fn insert(&mut self, row: u32) {
        assert!((row as usize) < self.rows, "row {row} of {}", self.rows);
        self.count += usize::from(!self.contains(row));
        self.words[row as usize / 64] |= 1 << (row % 64);
    }

    /// Takes a row out; one beyond the end was never in.
    pub fn remove(&mut self, row: u32) {
        if self.contains(row) {
            self.words[row as usize / 64] &= !(1 << (row % 64));
            self.count -= 1;
        }
    }

    /// Keeps the rows that are in the other set too; both speak of as many rows, or it panics.
    pub fn intersect(&mut self, other: &Self) {
        self.combine(other, |own, other| own & other);
    }

    /// Takes out the rows of the other set; both speak of as many rows, or it panics.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |own, other| own & !other);
    }

    /// Puts in the rows of the other set; both speak of as many rows, or it panics.
    pub fn unite(&mut self, other: &Self) {
        self.combine(other, |own, other| own | other);
    }

    /// The rows in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.words).flat_map(|(i, word)| Bits(*word).map(move |bit| i * 64 + bit))
    }

    /// 64 rows a word, the lowest row in the lowest bit; no bit beyond the end is set.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    fn combine(&mut self, other: &Self, of: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.rows, other.rows, "sets of as many rows");
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own = of(*own, *other));
        self.count = count_ones(&self.words);
    }
}

/// The set bits of a word, ascending.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.checked_sub(1)?;
        Some(bit)
    }
}

fn count_ones(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(rows in 1usize..200, full: bool, changes in prop::collection::vec((any::<bool>(), 0u32..200), 0..60)) {
            let mut bitmap = if full { Bitmap::full(rows) } else { Bitmap::none(rows) };
            let mut set: BTreeSet<u32> = if full { (0..rows as u32).collect() } else { BTreeSet::new() };
            for (insert, row) in changes.into_iter().filter(|(_, row)| (*row as usize) < rows) {
                if insert { bitmap.insert(row); set.insert(row); } else { bitmap.remove(row); set.remove(&row); }
            }
            prop_assert_eq!(bitmap.iter().collect::<BTreeSet<_>>(), set.clone());
            prop_assert_eq!(bitmap.count(), set.len());
            prop_assert!((0..300).all(|row| bitmap.contains(row) == set.contains(&row)));
        }

        #[test]
        fn sets_combine_like_sets(a in prop::collection::btree_set(0u32..150, 0..90), b in prop::collection::btree_set(0u32..150, 0..90)) {
            let of = |set: &BTreeSet<u32>| Bitmap::of(150, set.iter().copied());
            let combined = |combine: fn(&mut Bitmap, &Bitmap)| { let mut own = of(&a); combine(&mut own, &of(&b)); own };
            prop_assert_eq!(combined(Bitmap::intersect), of(&(&a & &b)));
            prop_assert_eq!(combined(Bitmap::subtract), of(&(&a - &b)));
            prop_assert_eq!(combined(Bitmap::unite), of(&(&a | &b)));
        }
    }
}
