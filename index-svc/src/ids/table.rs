//! [`IdTable`]: the ids of a generation's rows, packed, and the row of each.
//!
//! Ids that are all decimal numbers take 8 bytes each, others their own bytes and 4. Rows are found by a table of row numbers, about 8 bytes an
//! id, so that an id is never stored twice.

mod codec;
mod id_ref;

use std::hash::{DefaultHasher, Hasher};

pub use self::id_ref::IdRef;
use self::{codec::FORMAT_VERSION, id_ref::canonical};
use super::InvalidId;

/// No row has this number: there are at most 2^31.
const FREE: u32 = u32::MAX;
/// Rows whose places are counted from the same base.
const BLOCK_ROWS: usize = 1 << 16;

/// Ids by row, in the order of their text, each once.
#[derive(Debug, Default, PartialEq)]
pub struct IdTable {
    ids: Ids,
    /// Rows by the hash of their id; a power of two of them, at most half of them taken.
    slots: Vec<u32>,
}

/// Why bytes are no table of ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTableError {
    /// Not written by us.
    #[error("they do not begin as ids do")]
    Foreign,
    /// A newer program wrote them.
    #[error("format version {0}, this program reads {FORMAT_VERSION}: use a newer one")]
    UnknownVersion(u16),
    /// They are of another number of rows, or end within one, or something follows the last.
    #[error("they are not {0} ids")]
    WrongLength(usize),
    /// An id is none.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The ids are not sorted, or one is there twice.
    #[error("id {0} is not greater than the one before")]
    NotAscending(usize),
}

#[derive(Debug, PartialEq)]
enum Ids {
    Numbers(Vec<u64>),
    Texts(Texts),
}

#[derive(Debug, Default, PartialEq)]
struct Texts {
    text: String,
    /// Where each row begins, counted from its block's base; one more at the end.
    starts: Vec<u32>,
    bases: Vec<usize>,
}

impl IdTable {
    /// Packs ids, which ascend.
    pub fn new<'a>(ids: impl ExactSizeIterator<Item = &'a str> + Clone) -> Result<Self, IdTableError> {
        let mut before: Option<&str> = None;
        for (n, id) in ids.clone().enumerate() {
            super::check_item_id(id)?;
            if before.is_some_and(|before| before >= id) {
                return Err(IdTableError::NotAscending(n));
            }
            before = Some(id);
        }
        let numbers: Option<Vec<u64>> = ids.clone().map(canonical).collect();
        Ok(Self::of(match numbers {
            Some(mut numbers) => {
                numbers.shrink_to_fit();
                Ids::Numbers(numbers)
            }
            None => Ids::Texts(Texts::of(ids)),
        }))
    }

    fn of(ids: Ids) -> Self {
        let mut table = Self { slots: vec![FREE; slot_count(ids.len())], ids };
        for row in 0..table.len() as u32 {
            let mut slot = table.slot_of(table.get(row));
            while table.slots[slot] != FREE {
                slot = table.after(slot);
            }
            table.slots[slot] = row;
        }
        table
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a row; panics beyond the end.
    pub fn get(&self, row: u32) -> IdRef<'_> {
        match &self.ids {
            Ids::Numbers(numbers) => IdRef::Number(numbers[row as usize]),
            Ids::Texts(texts) => IdRef::Text(texts.get(row as usize)),
        }
    }

    /// The row of an id, if it is here.
    pub fn row_of(&self, id: &str) -> Option<u32> {
        let id = match &self.ids {
            Ids::Numbers(_) => IdRef::Number(canonical(id)?),
            Ids::Texts(_) => IdRef::Text(id),
        };
        let mut slot = self.slot_of(id);
        loop {
            match self.slots[slot] {
                FREE => return None,
                row if self.get(row) == id => return Some(row),
                _ => slot = self.after(slot),
            }
        }
    }

    /// All ids by row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = IdRef<'_>> {
        (0..self.len()).map(|row| self.get(row as u32))
    }

    /// The bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let ids = match &self.ids {
            Ids::Numbers(numbers) => numbers.capacity() * 8,
            Ids::Texts(texts) => texts.text.capacity() + texts.starts.capacity() * 4 + texts.bases.capacity() * 8,
        };
        ids + self.slots.capacity() * 4
    }

    /// At most how many bytes the table of so many rows takes in memory, by the bytes that it was written as: for texts just so many, for numbers up to 3
    /// a row more, since these bytes may be either.
    pub fn estimate_bytes(encoded_bytes: usize, rows: usize) -> usize {
        let numbers = rows * 8;
        let bases = (rows + 1).div_ceil(BLOCK_ROWS).next_power_of_two().max(4);
        // Each is written behind its length.
        let texts = encoded_bytes.saturating_sub(rows) + (rows + 1) * 4 + bases * 8;
        numbers.max(texts) + slot_count(rows) * 4
    }

    fn slot_of(&self, id: IdRef<'_>) -> usize {
        let hash = match id {
            // Multiplying by 2^64 over the golden ratio spreads neighbours.
            IdRef::Number(number) => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            IdRef::Text(text) => {
                let mut hasher = DefaultHasher::new();
                hasher.write(text.as_bytes());
                hasher.finish()
            }
        };
        // The upper half: the lower bits of a product are those of its factors.
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.starts.len().saturating_sub(1),
        }
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::Numbers(Vec::new())
    }
}

impl Texts {
    fn of<'a>(ids: impl ExactSizeIterator<Item = &'a str> + Clone) -> Self {
        let bytes = ids.clone().map(str::len).sum();
        let mut texts =
            Self { text: String::with_capacity(bytes), starts: Vec::with_capacity(ids.len() + 1), bases: Vec::new() };
        ids.for_each(|id| {
            texts.begin_row();
            texts.text.push_str(id);
        });
        texts.begin_row();
        texts
    }

    fn begin_row(&mut self) {
        if self.starts.len().is_multiple_of(BLOCK_ROWS) {
            self.bases.push(self.text.len());
        }
        let base = self.bases[self.starts.len() / BLOCK_ROWS];
        self.starts.push((self.text.len() - base) as u32);
    }

    fn get(&self, row: usize) -> &str {
        &self.text[self.start(row)..self.start(row + 1)]
    }

    fn start(&self, row: usize) -> usize {
        self.bases[row / BLOCK_ROWS] + self.starts[row] as usize
    }
}

/// A power of two, so that a row's slot is some of its hash's bits.
fn slot_count(rows: usize) -> usize {
    (rows * 2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    pub(super) fn ids() -> impl Strategy<Value = BTreeSet<String>> {
        let number = prop_oneof![(0u64..300).prop_map(|n| n.to_string()), any::<u64>().prop_map(|n| n.to_string())];
        let text = prop_oneof!["[0-9]{1,21}", "[a-zé0-9 ]{1,8}", "[^\\p{Cc}]{1,32}"];
        let numbers = prop::collection::btree_set(number, 0..60);
        let texts = prop::collection::btree_set(text, 0..60);
        prop_oneof![numbers, texts]
    }

    pub(super) fn table(ids: &BTreeSet<String>) -> IdTable {
        IdTable::new(ids.iter().map(String::as_str)).unwrap()
    }

    proptest! {
        #[test]
        fn every_id_is_found_in_its_row_and_no_other(ids in ids(), others in ids()) {
            let table = table(&ids);
            prop_assert_eq!(table.iter().map(String::from).collect::<Vec<_>>(), ids.iter().cloned().collect::<Vec<_>>());
            for (row, id) in (0..).zip(&ids) {
                prop_assert_eq!(table.row_of(id), Some(row));
                prop_assert!(table.get(row).to_id().as_str() == id);
            }
            for other in others.difference(&ids) {
                prop_assert_eq!(table.row_of(other), None);
            }
            prop_assert!((1..table.len() as u32).all(|row| table.get(row - 1) < table.get(row)));
        }

        #[test]
        fn the_estimate_is_what_the_table_takes_or_a_little_more(ids in ids()) {
            let read = IdTable::decode(&table(&ids).encode(), ids.len()).unwrap();
            let (estimate, taken) = (IdTable::estimate_bytes(read.encode().len(), ids.len()), read.memory_bytes());
            prop_assert!((taken..=taken + 3 * ids.len() + 64).contains(&estimate), "{} for {}", estimate, taken);
        }

    }

    #[test]
    fn numbers_take_eight_bytes_and_sort_as_texts() {
        let mut ids: Vec<String> = (0..100_000u64).map(|n| n.to_string()).collect();
        ids.sort();
        let table = IdTable::new(ids.iter().map(String::as_str)).unwrap();
        assert_eq!(table.memory_bytes(), 100_000 * 8 + 262_144 * 4);
        assert_eq!(table.row_of("10"), Some(2), "after 0, 1");
        assert_eq!((table.row_of("010"), table.row_of("+10"), table.row_of("")), (None, None, None));
    }

    #[test]
    fn ids_beyond_the_first_block_are_found() {
        let ids: Vec<String> = (0..70_000).map(|n| format!("item{n:06}")).collect();
        let table = IdTable::new(ids.iter().map(String::as_str)).unwrap();
        for row in [0, 65_534, 65_535, 65_536, 69_999] {
            assert_eq!(table.get(row).to_id().as_str(), ids[row as usize]);
            assert_eq!(table.row_of(&ids[row as usize]), Some(row));
        }
        let header = 11;
        assert_eq!(IdTable::estimate_bytes(table.encode().len(), ids.len()), table.memory_bytes() + header);
    }
}
