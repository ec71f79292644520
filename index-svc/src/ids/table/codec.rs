//! A table of ids as bytes, and back. This is a format: what was written stays readable.

use super::{IdRef, IdTable, IdTableError, Ids};
use crate::ids::{ITEM_ID_BYTES_LIMIT, InvalidId};

const MAGIC: &[u8; 8] = b"PAGIDTAB";
pub(super) const FORMAT_VERSION: u16 = 1;
const NUMBERS: u8 = 1;
const TEXTS: u8 = 2;

const _: () = assert!(ITEM_ID_BYTES_LIMIT <= u8::MAX as usize);

impl IdTable {
    /// As bytes: `PAGIDTAB`, a version (u16), then 1 and a u64 for each id, or 2 and each id behind its length (u8). Little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT_VERSION.to_le_bytes());
        match &self.ids {
            Ids::Numbers(numbers) => {
                out.push(NUMBERS);
                numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
            }
            Ids::Texts(texts) => {
                out.push(TEXTS);
                for row in 0..self.len() {
                    let id = texts.get(row);
                    out.push(id.len() as u8);
                    out.extend(id.as_bytes());
                }
            }
        }
        out
    }

    /// Reads what [`IdTable::encode`] wrote, of as many rows as are expected. Whatever the bytes are: no panic, and no more memory than a small
    /// multiple of theirs.
    pub fn decode(bytes: &[u8], rows: usize) -> Result<Self, IdTableError> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or(IdTableError::Foreign)?;
        let (version, bytes) = bytes.split_first_chunk().ok_or(IdTableError::Foreign)?;
        match u16::from_le_bytes(*version) {
            FORMAT_VERSION => {}
            other => return Err(IdTableError::UnknownVersion(other)),
        }
        match bytes.split_first() {
            Some((&NUMBERS, numbers)) => Self::decode_numbers(numbers, rows),
            Some((&TEXTS, texts)) => Self::decode_texts(texts, rows),
            _ => Err(IdTableError::Foreign),
        }
    }

    fn decode_numbers(bytes: &[u8], rows: usize) -> Result<Self, IdTableError> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || numbers.len() != rows {
            return Err(IdTableError::WrongLength(rows));
        }
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
        let text = |number: u64| IdRef::Number(number);
        match (1..rows).find(|n| text(numbers[n - 1]).cmp(&text(numbers[*n])).is_ge()) {
            Some(n) => Err(IdTableError::NotAscending(n)),
            None => Ok(Self::of(Ids::Numbers(numbers))),
        }
    }

    fn decode_texts(mut bytes: &[u8], rows: usize) -> Result<Self, IdTableError> {
        // An id takes two bytes at least.
        if bytes.len() < rows.saturating_mul(2) {
            return Err(IdTableError::WrongLength(rows));
        }
        let mut ids = Vec::with_capacity(rows);
        while let Some((len, rest)) = bytes.split_first() {
            let (id, rest) = rest.split_at_checked(*len as usize).ok_or(IdTableError::WrongLength(rows))?;
            ids.push(std::str::from_utf8(id).map_err(|_| InvalidId("an item id is not UTF-8".into()))?);
            bytes = rest;
        }
        if ids.len() != rows {
            return Err(IdTableError::WrongLength(rows));
        }
        Self::new(ids.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{ids, table},
        *,
    };

    proptest! {
        #[test]
        fn what_is_written_is_read(ids in ids()) {
            let table = table(&ids);
            let bytes = table.encode();
            prop_assert!(IdTable::decode(&bytes, ids.len()).as_ref() == Ok(&table));
            prop_assert!(IdTable::decode(&bytes, ids.len() + 1).is_err());
            prop_assert!(ids.is_empty() || IdTable::decode(&bytes[..bytes.len() - 1], ids.len()).is_err());
        }

        #[test]
        fn damaged_bytes_never_panic(ids in ids(), at: prop::sample::Index, byte: u8) {
            let mut bytes = table(&ids).encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = IdTable::decode(&bytes, ids.len()) {
                prop_assert!((0..read.len() as u32).all(|row| read.get(row).with_text(|id| read.row_of(id)) == Some(row)));
            }
        }

        #[test]
        fn random_bytes_never_panic(kind in 0u8..4, bytes in prop::collection::vec(any::<u8>(), 0..100), rows in 0usize..20) {
            let framed = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &[kind], &bytes].concat();
            let _ = IdTable::decode(&framed, rows);
            let _ = IdTable::decode(&bytes, rows);
        }
    }

    #[test]
    fn what_is_no_table_of_ids_is_refused() {
        let new = |ids: &[&str]| IdTable::new(ids.iter().copied());
        assert_eq!(new(&["b", "a"]), Err(IdTableError::NotAscending(1)));
        assert_eq!(new(&["a", "a"]), Err(IdTableError::NotAscending(1)));
        assert!(matches!(new(&["a\nb"]), Err(IdTableError::InvalidId(_))));
        assert_eq!(IdTable::decode(b"PAGIDTAB\x02\x00", 0), Err(IdTableError::UnknownVersion(2)));
        assert_eq!(IdTable::decode(b"x", 0), Err(IdTableError::Foreign));
    }
}
