//! [`Matrix`]: finite rows of one dimension, checked once, so that nothing behind it has to.

use std::{fmt, path::Path};

use crate::{AnnError, MappedFile, mapped::Floats};

/// Row numbers are `u32`, and Faiss's graphs number their nodes with an `i32`.
const ROWS_LIMIT: usize = i32::MAX as usize;
/// Beyond it the products of two rows of the largest dimension could be no number, on which a graph's search hangs.
pub(crate) const MAGNITUDE_LIMIT: f32 = 1e15;
/// Values checked at a time: within such a block nothing branches.
const CHECK_BLOCK: usize = 4096;

/// Rows of `dim` finite values each, in memory or in a mapped file. Shape `[rows, dim]`, row after row.
///
/// A clone copies what is in memory and shares what is mapped: put it into an `Arc` to share it.
#[derive(Clone)]
pub struct Matrix {
    dim: usize,
    values: Floats,
}

impl Matrix {
    /// No rows yet, each to have `dim` values (at least 1).
    pub fn empty(dim: usize) -> Self {
        assert!(dim > 0, "a row has at least one value");
        Self { dim, values: Floats::Owned(Vec::new()) }
    }

    /// Takes rows laid end to end. Refuses a ragged end, NaN, infinities and too many rows.
    pub fn new(dim: usize, values: Vec<f32>) -> Result<Self, AnnError> {
        Self::checked(dim, Floats::Owned(values))
    }

    /// Maps a file of rows laid end to end, little-endian 32-bit floats, and checks it like [`Matrix::new`]: no value is copied.
    /// The file must stay as it is; it may be replaced by a rename or removed.
    pub fn open(path: &Path, dim: usize) -> Result<Self, AnnError> {
        Self::mapped(MappedFile::open(path)?, dim)
    }

    /// As [`Matrix::open`], of a file that is mapped already.
    pub fn mapped(file: MappedFile, dim: usize) -> Result<Self, AnnError> {
        Self::checked(dim, Floats::mapped(file)?)
    }

    /// Adds a row at the end and returns its number. Mapped rows are copied into memory first.
    pub fn push(&mut self, row: &[f32]) -> Result<u32, AnnError> {
        check_vector(row, self.dim)?;
        let number = self.rows();
        if number == ROWS_LIMIT {
            return Err(AnnError::TooManyRows { limit: ROWS_LIMIT, found: number + 1 });
        }
        self.values.to_mut().extend_from_slice(row);
        Ok(number as u32)
    }

    /// The values a row has.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// One row; panics beyond the end.
    pub fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.dim..][..self.dim]
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Whether the rows lie in a mapped file, whose pages the kernel may take back, rather than in memory of the process.
    pub fn is_mapped(&self) -> bool {
        matches!(self.values, Floats::Mapped(_))
    }

    fn checked(dim: usize, values: Floats) -> Result<Self, AnnError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(AnnError::WrongDimension { expected: dim, found: values.len() % dim.max(1) });
        }
        check_finite(&values)?;
        let found = values.len() / dim;
        match found {
            0..=ROWS_LIMIT => Ok(Self { dim, values }),
            _ => Err(AnnError::TooManyRows { limit: ROWS_LIMIT, found }),
        }
    }
}

impl PartialEq for Matrix {
    fn eq(&self, other: &Self) -> bool {
        self.dim == other.dim && self.values() == other.values()
    }
}

/// Its shape: a million rows are no message.
impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mapped = if self.is_mapped() { ", mapped" } else { "" };
        write!(f, "Matrix[{}, {}{mapped}]", self.rows(), self.dim)
    }
}

/// Checks that a vector has `dim` values, all finite.
pub fn check_vector(vector: &[f32], dim: usize) -> Result<(), AnnError> {
    match vector.len() {
        found if found != dim => Err(AnnError::WrongDimension { expected: dim, found }),
        _ => check_finite(vector),
    }
}

fn check_finite(values: &[f32]) -> Result<(), AnnError> {
    let is_bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | !v.is_finite());
    let Some(block) = values.chunks(CHECK_BLOCK).position(is_bad) else { return Ok(()) };
    let first = block * CHECK_BLOCK;
    match values[first..].iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(AnnError::NotFinite { position: first + at, value: values[first + at] }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn file_of_values(values: &[f32]) -> tempfile::NamedTempFile {
        file_of(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_rows_is_refused() {
        assert_eq!(Matrix::new(2, vec![1.0; 3]), Err(AnnError::WrongDimension { expected: 2, found: 1 }));
        let mut values = vec![1.0; 10_000];
        values[9001] = f32::INFINITY;
        assert_eq!(Matrix::new(2, values), Err(AnnError::NotFinite { position: 9001, value: f32::INFINITY }));
        assert!(matches!(Matrix::empty(1).push(&[f32::NAN]), Err(AnnError::NotFinite { position: 0, .. })));
        assert!(matches!(Matrix::empty(2).push(&[1.0]), Err(AnnError::WrongDimension { expected: 2, found: 1 })));
    }

    #[test]
    fn rows_are_read_as_they_were_pushed() {
        let mut matrix = Matrix::empty(2);
        assert_eq!(matrix.push(&[1.0, 2.0]), Ok(0));
        assert_eq!(matrix.push(&[3.0, 4.0]), Ok(1));
        assert_eq!((matrix.rows(), matrix.row(1)), (2, [3.0, 4.0].as_slice()));
    }

    #[test]
    fn a_mapped_file_is_the_matrix_that_was_written_and_outlives_its_name() {
        let written = Matrix::new(2, vec![1.0, -2.0, 3.5, 0.0]).unwrap();
        let file = file_of_values(written.values());
        let mut mapped = Matrix::open(file.path(), 2).unwrap();
        file.close().unwrap();
        assert_eq!((&mapped, mapped.is_mapped()), (&written, true));
        assert_eq!(mapped.push(&[7.0, 8.0]), Ok(2));
        assert_eq!((mapped.rows(), mapped.row(2), mapped.is_mapped()), (3, [7.0, 8.0].as_slice(), false));
    }

    #[test]
    fn a_file_that_is_no_matrix_is_refused() {
        let open = |file: &tempfile::NamedTempFile, dim| Matrix::open(file.path(), dim);
        assert!(matches!(open(&file_of(&[0; 7]), 1), Err(AnnError::Unreadable { .. })));
        assert_eq!(open(&file_of(&[0; 12]), 2), Err(AnnError::WrongDimension { expected: 2, found: 1 }));
        assert!(matches!(open(&file_of_values(&[f32::NAN]), 1), Err(AnnError::NotFinite { position: 0, .. })));
        assert!(matches!(Matrix::open(Path::new("no/such/file"), 1), Err(AnnError::Unreadable { .. })));
        assert_eq!(open(&file_of(&[]), 3).map(|matrix| matrix.rows()), Ok(0));
    }
}
