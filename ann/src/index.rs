//! [`Index`]: built once, then only searched and written.

use crate::{
    AnnError, Bitmap, Hit, Matrix,
    ffi::{Handle, Shape},
    spec::{Kind, Parameters, Spec},
};

/// An index over the rows of a matrix, by inner product. It never changes: share it between threads as it is.
#[derive(Debug)]
pub struct Index {
    handle: Handle,
    kind: Kind,
}

impl Index {
    /// Trains and fills an index with all rows, on so many threads.
    pub fn build(spec: &Spec, rows: &Matrix, threads: usize) -> Result<Self, AnnError> {
        if rows.rows() == 0 {
            return Err(AnnError::Empty);
        }
        let Spec { kind, nlist, hnsw_m } = spec.bounded(rows.rows());
        let shape = Shape { kind: kind as i32, dim: rows.dim(), rows: rows.rows(), nlist, hnsw_m };
        Ok(Self { handle: Handle::build(shape, rows, threads)?, kind })
    }

    /// Reads what [`Index::write`] wrote. Faiss trusts its files: the caller has checked the digest of these very bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, AnnError> {
        let handle = Handle::read(bytes)?;
        let kind = Kind::from_code(handle.shape().kind);
        let unknown = || AnnError::Faiss("an unknown kind of index was read".into());
        Ok(Self { kind: kind.ok_or_else(unknown)?, handle })
    }

    /// The index as bytes.
    pub fn write(&self) -> Result<Vec<u8>, AnnError> {
        self.handle.write()
    }

    /// The nearest rows that are allowed (all, without a bitmap), best first, ties by row. May be fewer than k although more are
    /// allowed, unless the index is flat: the search visits only as much as the parameters say.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<&Bitmap>,
        parameters: Parameters,
    ) -> Result<Vec<Hit>, AnnError> {
        let rows = self.rows();
        if let Some(found) = allowed.map(Bitmap::rows).filter(|found| *found != rows) {
            return Err(AnnError::WrongBitmap { expected: rows, found });
        }
        let mut hits = if k == 0 { Vec::new() } else { self.handle.search(query, k, allowed, parameters)? };
        hits.sort_unstable_by(crate::scan::best_first);
        Ok(hits)
    }

    /// How many rows it holds.
    pub fn rows(&self) -> usize {
        self.handle.shape().rows
    }

    /// The values a row has.
    pub fn dim(&self) -> usize {
        self.handle.shape().dim
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// IVF: how many cells it has; else 0.
    pub fn nlist(&self) -> usize {
        self.handle.shape().nlist
    }
}
