//! [`Matrix`]: finite rows of one dimension, checked once, so that nothing behind it has to.

use crate::AnnError;

/// Row numbers are `u32`, and Faiss's graphs number their nodes with an `i32`.
const ROWS_LIMIT: usize = i32::MAX as usize;

/// Rows of `dim` finite values each. Shape `[rows, dim]`, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    dim: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// No rows yet, each to have `dim` values (at least 1).
    pub fn empty(dim: usize) -> Self {
        assert!(dim > 0, "a row has at least one value");
        Self { dim, values: Vec::new() }
    }

    /// Takes rows laid end to end. Refuses a ragged end, NaN, infinities and too many rows.
    pub fn new(dim: usize, values: Vec<f32>) -> Result<Self, AnnError> {
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

    /// Adds a row at the end and returns its number.
    pub fn push(&mut self, row: &[f32]) -> Result<u32, AnnError> {
        check_vector(row, self.dim)?;
        let number = self.rows();
        if number == ROWS_LIMIT {
            return Err(AnnError::TooManyRows { limit: ROWS_LIMIT, found: number + 1 });
        }
        self.values.extend_from_slice(row);
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
}

/// Checks that a vector has `dim` values, all finite.
pub fn check_vector(vector: &[f32], dim: usize) -> Result<(), AnnError> {
    match vector.len() {
        found if found != dim => Err(AnnError::WrongDimension { expected: dim, found }),
        _ => check_finite(vector),
    }
}

fn check_finite(values: &[f32]) -> Result<(), AnnError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(position) => Err(AnnError::NotFinite { position, value: values[position] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_rows_is_refused() {
        assert_eq!(Matrix::new(2, vec![1.0; 3]), Err(AnnError::WrongDimension { expected: 2, found: 1 }));
        assert_eq!(
            Matrix::new(2, vec![1.0, f32::INFINITY]),
            Err(AnnError::NotFinite { position: 1, value: f32::INFINITY })
        );
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
}
