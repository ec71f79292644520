//! Nearest rows by inner product: the one place that touches Faiss.
//!
//! Builds an index over the rows of a [`Matrix`], searches it under a [`Bitmap`] of allowed rows, writes and reads it, and scans
//! exactly. Knows nothing of items, spaces or gRPC: rows are numbers. An index never changes once it is built.
//!
//! Parallelism comes from concurrent searches: each runs on its caller's thread alone. A build uses the threads it is given.

mod bitmap;
mod ffi;
mod index;
mod matrix;
mod scan;
mod spec;
mod tune;

// Builds and links Faiss. The safe interface of `faiss` is not used: it leaks selectors and has no per-query parameters.
use faiss as _;
use faiss_sys as _;

pub use crate::{
    bitmap::Bitmap,
    index::Index,
    matrix::{Matrix, check_vector},
    scan::{exact_many, scan, score_rows, scores},
    spec::{Kind, Parameters, Spec},
    tune::{Tuned, recall_at_k, tune},
};

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row's number in the matrix.
    pub row: u32,
    /// The inner product with the query: higher is better.
    pub score: f32,
}

/// Why rows could not be indexed or searched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnError {
    /// A vector is not as long as the rows are.
    #[error("expected a vector of {expected} values, found {found}")]
    WrongDimension {
        /// The rows' dimension.
        expected: usize,
        /// The vector's.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {position} is {value}, expected a finite number")]
    NotFinite {
        /// The position within the vector or the matrix.
        position: usize,
        /// The value.
        value: f32,
    },
    /// There are no rows to index.
    #[error("an index needs at least one row")]
    Empty,
    /// More rows than can be numbered.
    #[error("an index holds at most {limit} rows, found {found}")]
    TooManyRows {
        /// The limit.
        limit: usize,
        /// As many were given.
        found: usize,
    },
    /// A bitmap speaks of another number of rows.
    #[error("a bitmap of {found} rows was given for an index of {expected}")]
    WrongBitmap {
        /// The index's rows.
        expected: usize,
        /// The bitmap's.
        found: usize,
    },
    /// Faiss failed.
    #[error("faiss: {0}")]
    Faiss(String),
}
