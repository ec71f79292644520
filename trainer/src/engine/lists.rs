//! [`Lists`]: many short lists in one allocation.

use std::ops::Range;

/// Lists of one batch's rows: list i is `values[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lists<T> {
    offsets: Vec<usize>,
    values: Vec<T>,
}

impl<T> Lists<T> {
    /// No lists yet.
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], values: Vec::new() }
    }

    /// Appends a list.
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = T>) {
        self.values.extend(list);
        self.offsets.push(self.values.len());
    }

    /// How many lists there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// A list by its number.
    pub(super) fn list(&self, i: usize) -> &[T] {
        &self.values[self.offsets[i]..self.offsets[i + 1]]
    }

    /// Where a list's values are among all.
    pub(super) fn range(&self, i: usize) -> Range<usize> {
        self.offsets[i]..self.offsets[i + 1]
    }

    /// Where each list begins, and where the last one ends.
    pub(super) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// All values, list after list.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }
}

impl<T, L: IntoIterator<Item = T>> FromIterator<L> for Lists<T> {
    fn from_iter<I: IntoIterator<Item = L>>(lists: I) -> Self {
        let mut all = Self::new();
        lists.into_iter().for_each(|list| all.push(list));
        all
    }
}
