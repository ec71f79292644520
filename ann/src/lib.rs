//! Nearest rows by inner product: the one place that touches Faiss.
//!
//! Builds an index over the rows of a [`Matrix`], tunes it to a recall, searches it under a [`Mask`] of rows that may be found, writes, reads
//! and maps it, and scans exactly. Knows nothing of items, spaces or gRPC: rows are numbers. An index never changes once it is built.
//!
//! [`Index::find`] is the search to use; what it is told is a [`Query`], and how thoroughly it searches stands in a [`Tuning`]. Parallelism comes from concurrent searches: each runs on its caller's thread alone. A build uses the threads it is given.

mod bitmap;
mod calibrate;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod ffi;
mod file;
mod filters;
mod find;
mod index;
mod ivf;
mod kernels;
mod mapped;
mod mask;
mod matrix;
mod memory;
mod order;
mod scan;
mod screened;
mod spec;
mod stop;
#[cfg(feature = "testing")]
mod testing;
mod top;
mod tune;
mod tuning;

// Builds and links Faiss. The safe interface of `faiss` is not used: it leaks selectors and has no per-query parameters.
use faiss as _;
use faiss_sys as _;

pub use crate::{
    bitmap::Bitmap,
    find::{Found, Mode, Query},
    index::Index,
    mapped::MappedFile,
    mask::Mask,
    matrix::{Matrix, check_vector},
    scan::{ScanQuery, exact_many, scan, scan_with},
    screened::Screened,
    spec::{Kind, Parameters, Spec},
    stop::Stop,
    tune::{Goal, Progress, TuneOptions, recall_at_k, tune_goals},
    tuning::{FilterKind, Filtered, Step, Tuning},
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
    /// A row has a value that no index but a flat one can bear: products of such values are no numbers.
    #[error("value {value} is too large for an index, expected at most {limit} either way")]
    TooLarge {
        /// The value.
        value: f32,
        /// The limit.
        limit: f32,
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
    /// A matrix has another number of rows than the index.
    #[error("{found} rows were given for an index of {expected}")]
    WrongRows {
        /// The index's rows.
        expected: usize,
        /// The matrix's.
        found: usize,
    },
    /// It was to stop: its time was up, or its caller had gone.
    #[error("stopped before it was done")]
    Cancelled,
    /// A file cannot be mapped.
    #[error("cannot map `{path}`: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
    /// Bytes are no index, or not a whole one.
    #[error("no index that can be read: {0}")]
    Damaged(String),
    /// Faiss failed.
    #[error("faiss: {0}")]
    Faiss(String),
}
