//! Columns as bytes, and back: `attributes.bin` of a generation.
//!
//! `PAGATTRS`, a version (u16), the number of rows and of columns; then each column: its kind (u8), its name, and a text column's dictionary
//! followed by each row's count and codes, or a numeric column's presence (u8 a row) and the keys of the rows that have one (i64). Numbers
//! are little-endian, counts, lengths and codes LEB128. Postings are not stored: they are made from the columns in little time, and what is not
//! there cannot be damaged.

use std::{collections::BTreeMap, sync::Arc};

use super::{ATTRIBUTE_BYTES_LIMIT, AttributeKind, Column, Columns, Key, NumericColumn, TEXTS_LIMIT, TextColumn};

const MAGIC: &[u8; 8] = b"PAGATTRS";
const FORMAT_VERSION: u16 = 1;

/// Why bytes are no columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    /// Not written by us.
    #[error("they do not begin as attributes do")]
    Foreign,
    /// A newer program wrote them.
    #[error("format version {0}, this program reads {FORMAT_VERSION}: use a newer one")]
    UnknownVersion(u16),
    /// They end too early.
    #[error("they end within {0}")]
    Truncated(&'static str),
    /// Something is what it must not be.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Columns {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT_VERSION.to_le_bytes());
        put_count(&mut out, self.rows());
        put_count(&mut out, self.iter().len());
        for (name, column) in self.iter() {
            out.push(column.kind() as u8);
            put_text(&mut out, name);
            match column {
                Column::Text(texts) => put_texts(&mut out, texts),
                Column::Integer(keys) | Column::Number(keys) => put_keys(&mut out, keys),
            }
        }
        out
    }

    /// Reads what [`Columns::encode`] wrote, of as many rows as are expected. Whatever the bytes are: no panic, and no more memory than a
    /// small multiple of theirs and of the rows.
    pub fn decode(bytes: &[u8], rows: usize) -> Result<Self, ColumnsError> {
        let mut bytes = Reader(bytes);
        if bytes.take(MAGIC.len(), "the magic").ok() != Some(MAGIC) {
            return Err(ColumnsError::Foreign);
        }
        match u16::from_le_bytes(bytes.array("the version")?) {
            FORMAT_VERSION => {}
            other => return Err(ColumnsError::UnknownVersion(other)),
        }
        if bytes.count("the number of rows")? != rows {
            return Err(ColumnsError::Invalid("they are of another number of rows"));
        }
        let mut columns = BTreeMap::new();
        for _ in 0..bytes.count("the number of columns")? {
            let [kind] = bytes.array("a kind")?;
            let name = bytes.text()?;
            if columns.insert(name, bytes.column(kind, rows)?).is_some() {
                return Err(ColumnsError::Invalid("a column is there twice"));
            }
        }
        match bytes.0 {
            [] => Ok(Self::of(rows, columns)),
            _ => Err(ColumnsError::Invalid("something follows the last column")),
        }
    }
}

fn put_texts(out: &mut Vec<u8>, column: &TextColumn) {
    put_count(out, column.dictionary().len());
    column.dictionary().iter().for_each(|text| put_text(out, text));
    for row in 0..column.rows() as u32 {
        let codes = column.codes_of(row);
        put_count(out, codes.len());
        codes.iter().for_each(|code| put_count(out, *code as usize));
    }
}

fn put_keys(out: &mut Vec<u8>, column: &NumericColumn) {
    out.extend((0..column.rows() as u32).map(|row| u8::from(column.get(row).is_some())));
    column.iter().for_each(|(_, key)| out.extend(key.0.to_le_bytes()));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend(text.as_bytes());
}

fn put_count(out: &mut Vec<u8>, mut count: usize) {
    while count >= 0x80 {
        out.push(count as u8 | 0x80);
        count >>= 7;
    }
    out.push(count as u8);
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], ColumnsError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(ColumnsError::Truncated(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ColumnsError> {
        self.take(N, what).map(|taken| std::array::from_fn(|i| taken[i]))
    }

    /// At most 32 bits.
    fn count(&mut self, what: &'static str) -> Result<usize, ColumnsError> {
        let mut count = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(what)?;
            count |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(count)
                    .map(|n| n as usize)
                    .map_err(|_| ColumnsError::Invalid("a count is too large"));
            }
        }
        Err(ColumnsError::Invalid("a count is too large"))
    }

    fn text(&mut self) -> Result<Arc<str>, ColumnsError> {
        match self.count("the length of a text")? {
            n @ 1..=ATTRIBUTE_BYTES_LIMIT => {
                let text = std::str::from_utf8(self.take(n, "a text")?);
                text.map(Arc::from).map_err(|_| ColumnsError::Invalid("a text is not UTF-8"))
            }
            _ => Err(ColumnsError::Invalid("a text is empty or too long")),
        }
    }

    fn column(&mut self, kind: u8, rows: usize) -> Result<Column, ColumnsError> {
        match kind {
            kind if kind == AttributeKind::Text as u8 => self.texts(rows).map(Column::Text),
            kind if kind == AttributeKind::Integer as u8 => self.keys(rows, |_| true).map(Column::Integer),
            kind if kind == AttributeKind::Number as u8 => {
                // A number's own key: neither NaN nor infinite, and not -0.
                let finite = |key: Key| key.to_number().is_finite() && Key::of_number(key.to_number()) == key;
                self.keys(rows, finite).map(Column::Number)
            }
            _ => Err(ColumnsError::Invalid("a column is of an unknown kind")),
        }
    }

    fn texts(&mut self, rows: usize) -> Result<TextColumn, ColumnsError> {
        let mut column = TextColumn::default();
        let dictionary_len = self.count("the size of a dictionary")?;
        for code in 0..dictionary_len {
            let text = self.text()?;
            if column.code_or_new(&text) as usize != code {
                return Err(ColumnsError::Invalid("a dictionary has a text twice"));
            }
        }
        let mut codes = Vec::new();
        for _ in 0..rows {
            codes.clear();
            let count = self.count("the texts of a row")?;
            if count > TEXTS_LIMIT {
                return Err(ColumnsError::Invalid("a row has too many texts"));
            }
            for _ in 0..count {
                match self.count("the texts of a row")? {
                    code if code < dictionary_len && !codes.contains(&(code as u32)) => codes.push(code as u32),
                    _ => return Err(ColumnsError::Invalid("a row has a text twice, or one that is not there")),
                }
            }
            column.push_codes(&codes);
        }
        Ok(column)
    }

    fn keys(&mut self, rows: usize, holds: impl Fn(Key) -> bool) -> Result<NumericColumn, ColumnsError> {
        let mut column = NumericColumn::default();
        for present in self.take(rows, "the presence of a column's values")? {
            let key = match present {
                0 => None,
                1 => Some(Key(0)),
                _ => return Err(ColumnsError::Invalid("a presence is neither 0 nor 1")),
            };
            column.push(key);
        }
        let present: Vec<u32> = column.iter().map(|(row, _)| row).collect();
        for row in present {
            let key = Key(i64::from_le_bytes(self.array("a column's values")?));
            if !holds(key) {
                return Err(ColumnsError::Invalid("a number is not finite"));
            }
            column.set(row, key);
        }
        Ok(column)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::columns::tests::{attributes, columns},
        *,
    };
    use crate::item::Attributes;

    proptest! {
        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec(attributes(), 0..40)) {
            let columns = columns(&rows);
            let bytes = columns.encode();
            prop_assert_eq!(Columns::decode(&bytes, rows.len()), Ok(columns));
            prop_assert!(Columns::decode(&bytes, rows.len() + 1).is_err());
            prop_assert!(Columns::decode(&bytes[..bytes.len() - 1], rows.len()).is_err());
            prop_assert!(Columns::decode(&[&bytes[..], &[0]].concat(), rows.len()).is_err());
        }

        #[test]
        fn damaged_bytes_never_panic(
            rows in prop::collection::vec(attributes(), 1..20), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let mut bytes = columns(&rows).encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Columns::decode(&bytes, rows.len());
            let _ = Columns::decode(&bytes[..cut.index(bytes.len())], rows.len());
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), rows in 0usize..50) {
            let framed = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &[rows as u8], &bytes].concat();
            let _ = Columns::decode(&framed, rows);
            let _ = Columns::decode(&bytes, rows);
        }
    }

    #[test]
    fn the_format_on_disk() {
        let row: Attributes = [
            ("tag".into(), crate::item::Value::Texts(vec!["a".into()])),
            ("year".into(), crate::item::Value::Integer(2)),
        ]
        .into_iter()
        .collect();
        let expected = b"PAGATTRS\x01\x00\x01\x03\
            \x03\x05price\x00\
            \x01\x03tag\x01\x01a\x01\x00\
            \x02\x04year\x01\x02\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(columns(&[row]).encode(), expected);
    }

    #[test]
    fn another_version_and_foreign_bytes_are_refused_plainly() {
        assert_eq!(Columns::decode(b"PAGATTRS\x02\x00", 0), Err(ColumnsError::UnknownVersion(2)));
        assert_eq!(Columns::decode(b"something else", 0), Err(ColumnsError::Foreign));
        assert_eq!(Columns::decode(b"", 0), Err(ColumnsError::Foreign));
    }
}
