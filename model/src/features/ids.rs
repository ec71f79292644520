//! [`IdRows`]: which rows of its table an id has.
//!
//! Ids of a vocabulary have one row each, behind the rows of the unknown, of which a hash of the id chooses one. Hashed ids have the
//! rows of two hashes, and their mean, so that two ids that share one row still differ (Svenstrup et al., NIPS 2017).

use std::sync::Arc;

use super::{Vocabulary, text};

/// The seeds of the hash of the unknown, and of the two hashes of hashed ids.
const UNKNOWN_SEED: u64 = 0x2545_f491_4f6c_dd1d;
const HASH_SEEDS: [u64; 2] = [0x27d4_eb2f_1656_67c5, 0x94d0_49bb_1331_11eb];

/// The rows of ids, of one feature or of a history.
#[derive(Clone, Debug)]
pub(crate) enum IdRows {
    /// Rows 0 to `unknown_rows` are those of unknown ids; known ones follow in the vocabulary's order.
    Known { vocabulary: Arc<Vocabulary>, unknown_rows: usize },
    /// Two of `buckets` rows.
    Hashed { buckets: usize },
}

impl IdRows {
    /// How many rows the table needs.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Known { vocabulary, unknown_rows } => unknown_rows + vocabulary.texts().len(),
            Self::Hashed { buckets } => *buckets,
        }
    }

    /// How many of them are those of unknown ids.
    pub(crate) fn unknown_rows(&self) -> usize {
        match self {
            Self::Known { unknown_rows, .. } => *unknown_rows,
            Self::Hashed { .. } => 0,
        }
    }

    pub(crate) fn is_hashed(&self) -> bool {
        matches!(self, Self::Hashed { .. })
    }

    /// How many rows a known id has.
    pub(crate) fn rows_per_id(&self) -> usize {
        match self {
            Self::Known { .. } => 1,
            Self::Hashed { .. } => HASH_SEEDS.len(),
        }
    }

    /// An id's rows, or those of the unknown.
    pub(crate) fn of(&self, id: &str) -> Vec<u32> {
        let rows = self.known(id);
        if rows.is_empty() { self.hidden(id) } else { rows }
    }

    /// The rows of an id that has some of its own; none for an unknown one. Every hashed id has rows, but for the empty id.
    pub(crate) fn known(&self, id: &str) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.rows_per_id());
        self.push_known(id, &mut rows);
        rows
    }

    /// The same, appended; whether there are any.
    pub(crate) fn push_known(&self, id: &str, rows: &mut Vec<u32>) -> bool {
        let before = rows.len();
        match self {
            Self::Known { vocabulary, unknown_rows } => {
                rows.extend(vocabulary.place(id).map(|place| *unknown_rows as u32 + place));
            }
            Self::Hashed { .. } if id.is_empty() => {}
            Self::Hashed { buckets } => rows.extend(HASH_SEEDS.map(|seed| text::row(id.as_bytes(), seed, *buckets))),
        }
        rows.len() > before
    }

    /// The rows that an id has while it is not known: one of those of the unknown. Of hashed ids none, which is zeros: no row is
    /// theirs alone, so that there is none to learn what the unknown are like.
    pub(crate) fn hidden(&self, id: &str) -> Vec<u32> {
        match self {
            Self::Known { unknown_rows, .. } => vec![text::row(id.as_bytes(), UNKNOWN_SEED, *unknown_rows)],
            Self::Hashed { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(unknown_rows: usize) -> IdRows {
        let vocabulary = Vocabulary::try_from(vec!["a".to_owned(), "b".to_owned()]).unwrap();
        IdRows::Known { vocabulary: Arc::new(vocabulary), unknown_rows }
    }

    #[test]
    fn known_ids_stand_behind_the_rows_of_the_unknown() {
        assert_eq!(
            (known(1).of("a"), known(1).of("b"), known(1).of("c"), known(1).rows()),
            (vec![1], vec![2], vec![0], 3)
        );
        assert_eq!((known(7).of("a"), known(7).of("b"), known(7).rows()), (vec![7], vec![8], 9));
        assert!(known(7).known("c").is_empty());
    }

    #[test]
    fn the_unknown_are_spread_over_their_rows_and_stay_where_they_are() {
        let ids = known(8);
        let rows: std::collections::BTreeSet<u32> = (0..200).flat_map(|n| ids.of(&format!("new{n}"))).collect();
        assert_eq!(rows, (0..8).collect());
        assert_eq!(ids.of("new1"), ids.of("new1"));
        assert_eq!(ids.hidden("new1"), ids.of("new1"));
        assert!(ids.hidden("a")[0] < 8, "a known id that is hidden is as an unknown one");
        // Bundles of other releases depend on these.
        assert_eq!(["x", "y", "z"].map(|id| ids.of(id)[0]), PINNED_UNKNOWN);
    }

    #[test]
    fn hashed_ids_have_two_rows_that_hardly_any_other_has() {
        let ids = IdRows::Hashed { buckets: 1000 };
        let pairs: std::collections::BTreeSet<Vec<u32>> = (0..1000).map(|n| ids.of(&format!("i{n}"))).collect();
        assert!(pairs.len() >= 998, "{} of 1000 differ", pairs.len());
        assert!(pairs.iter().all(|pair| pair.len() == 2 && pair.iter().all(|&row| row < 1000)));
        assert_eq!(["x", "y"].map(|id| ids.of(id)), PINNED_HASHED);
        assert!(ids.hidden("x").is_empty() && ids.of("").is_empty());
    }

    const PINNED_UNKNOWN: [u32; 3] = [1, 5, 4];
    const PINNED_HASHED: [[u32; 2]; 2] = [[7, 878], [509, 98]];
}
