//! [`TextColumn`]: the texts of each row as codes of a dictionary.

use std::{collections::HashMap, sync::Arc};

use super::TEXTS_LIMIT;

/// Texts by row, any number a row, no two alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextColumn {
    dictionary: Vec<Arc<str>>,
    by_text: HashMap<Arc<str>, u32>,
    /// Where the codes of each row end.
    ends: Vec<u32>,
    codes: Vec<u32>,
    /// How many rows have none.
    rows_without: usize,
}

impl TextColumn {
    /// Adds a row; texts that it has already are passed over, and so are those beyond the limit, which nobody admits.
    pub fn push(&mut self, texts: &[Arc<str>]) {
        let first = self.codes.len();
        for text in texts.iter().take(TEXTS_LIMIT) {
            let code = self.code_or_new(text);
            if !self.codes[first..].contains(&code) {
                self.codes.push(code);
            }
        }
        self.end_row(first);
    }

    /// Adds a row of codes; the caller has checked that they are of the dictionary and no two alike.
    pub(super) fn push_codes(&mut self, codes: &[u32]) {
        let first = self.codes.len();
        self.codes.extend_from_slice(codes);
        self.end_row(first);
    }

    /// How many rows have no text.
    pub fn rows_without(&self) -> usize {
        self.rows_without
    }

    /// Memory that it holds, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        // Behind two counters; allocators round up.
        let texts = self.dictionary.iter().map(|text| (16 + text.len()).next_multiple_of(16)).sum::<usize>();
        // A table is seven eighths full at most, and has a byte beside each place.
        let places = (self.by_text.capacity() * 8 / 7).next_power_of_two();
        let lists =
            self.dictionary.capacity() * size_of::<Arc<str>>() + (self.ends.capacity() + self.codes.capacity()) * 4;
        texts + places * (size_of::<(Arc<str>, u32)>() + 1) + lists
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.dictionary.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.codes.shrink_to_fit();
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The codes of a row.
    pub fn codes_of(&self, row: u32) -> &[u32] {
        let row = row as usize;
        let first = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.codes[first as usize..self.ends[row] as usize]
    }

    /// The code of a text, if a row has it.
    pub fn code_of(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    /// The text of a code.
    pub fn text_of(&self, code: u32) -> &Arc<str> {
        &self.dictionary[code as usize]
    }

    /// The texts that occur, by code.
    pub fn dictionary(&self) -> &[Arc<str>] {
        &self.dictionary
    }

    fn end_row(&mut self, first: usize) {
        self.rows_without += usize::from(self.codes.len() == first);
        self.ends.push(self.codes.len() as u32);
    }

    /// Adds a text to the dictionary, or finds it there.
    pub(super) fn code_or_new(&mut self, text: &Arc<str>) -> u32 {
        if let Some(code) = self.by_text.get(text) {
            return *code;
        }
        let code = self.dictionary.len() as u32;
        self.dictionary.push(text.clone());
        self.by_text.insert(text.clone(), code);
        code
    }
}
