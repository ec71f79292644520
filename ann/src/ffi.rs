//! The C functions of `cpp/shim.cpp`, and the handle that owns what they return.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{NonNull, null, null_mut},
};

use crate::{AnnError, Bitmap, Hit, Matrix};

const MESSAGE_BYTES: usize = 512;

/// `Shape` of the shim.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: i32,
    pub(crate) dim: usize,
    pub(crate) rows: usize,
    pub(crate) nlist: usize,
    pub(crate) hnsw_m: usize,
    pub(crate) pq_m: usize,
}

/// `PagodaSearch` of the shim.
#[repr(C)]
struct Search {
    query: *const f32,
    k: usize,
    allowed: *const u8,
    allowed_bytes: usize,
    ef_search: c_int,
    cells: *const i64,
    cell_scores: *const f32,
    nprobe: usize,
}

type Message = [c_char; MESSAGE_BYTES];
type Write = extern "C" fn(*mut c_void, *const u8, usize);

unsafe extern "C" {
    fn pagoda_ann_build(
        shape: *const Shape,
        rows: *const f32,
        threads: c_int,
        out: *mut *mut c_void,
        message: *mut c_char,
    ) -> c_int;
    fn pagoda_ann_search(
        index: *const c_void,
        search: *const Search,
        scores: *mut f32,
        rows: *mut i64,
        message: *mut c_char,
    ) -> c_int;
    fn pagoda_ann_exact(
        queries: *const f32,
        query_count: usize,
        rows: *const f32,
        row_count: usize,
        dim: usize,
        k: usize,
        threads: c_int,
        scores: *mut f32,
        found: *mut i64,
        message: *mut c_char,
    ) -> c_int;
    fn pagoda_ann_write(index: *const c_void, context: *mut c_void, write: Write, message: *mut c_char) -> c_int;
    fn pagoda_ann_read(bytes: *const u8, n: usize, out: *mut *mut c_void, message: *mut c_char) -> c_int;
    fn pagoda_ann_free(index: *mut c_void);
}

/// Owns a Faiss index, which nothing changes any more.
#[derive(Debug)]
pub(crate) struct Handle {
    index: NonNull<c_void>,
    dim: usize,
    rows: usize,
}

// SAFETY: a Faiss index has no ties to the thread that made it.
unsafe impl Send for Handle {}
// SAFETY: after `build` or `read` only `const` member functions of the index are called (a search, `write_index`), with parameters on the
// caller's stack; Faiss documents concurrent searches as safe, and what it writes meanwhile are its own statistics, which are never read.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the index came from `build` or `read`, is owned here alone, and is freed once.
        unsafe { pagoda_ann_free(self.index.as_ptr()) }
    }
}

/// How far Faiss searches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// A graph: the size of the candidate list.
    EfSearch(u32),
    /// A fast scan: these cells, with their centroids' scores.
    Cells(&'a [Hit]),
}

impl Handle {
    pub(crate) fn build(shape: Shape, rows: &Matrix, threads: usize) -> Result<Self, AnnError> {
        debug_assert_eq!((shape.dim, shape.rows), (rows.dim(), rows.rows()));
        let mut out = null_mut();
        // SAFETY: `rows` has shape.rows * shape.dim finite values, and every pointer outlives the call.
        call(|message| unsafe {
            pagoda_ann_build(&shape, rows.values().as_ptr(), c_count(threads), &mut out, message)
        })?;
        Self::own(out, shape.dim, shape.rows)
    }

    /// Reads bytes that `Layout::read` has understood as a graph or a fast scan of this shape.
    pub(crate) fn read(bytes: &[u8], dim: usize, rows: usize) -> Result<Self, AnnError> {
        let mut out = null_mut();
        // SAFETY: the reader stays within `bytes`, and every pointer outlives the call.
        call(|message| unsafe { pagoda_ann_read(bytes.as_ptr(), bytes.len(), &mut out, message) })?;
        Self::own(out, dim, rows)
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, AnnError> {
        let mut bytes: Vec<u8> = Vec::new();
        let context = (&raw mut bytes).cast();
        // SAFETY: `append` is called with this context alone, during this call, and `bytes` is not touched meanwhile.
        call(|message| unsafe { pagoda_ann_write(self.index.as_ptr(), context, append, message) })?;
        Ok(bytes)
    }

    /// At most `k` allowed rows in no order, with Faiss's scores. The query has the index's dimension, the bitmap its rows.
    pub(crate) fn search(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<&Bitmap>,
        extent: Extent,
    ) -> Result<Vec<Hit>, AnnError> {
        assert!(query.len() == self.dim && allowed.is_none_or(|allowed| allowed.rows() == self.rows), "its shape");
        let k = k.min(self.rows);
        if k == 0 {
            return Ok(Vec::new());
        }
        let chosen = match extent {
            Extent::Cells(cells) => cells,
            Extent::EfSearch(_) => &[],
        };
        let cells: Vec<i64> = chosen.iter().map(|cell| i64::from(cell.row)).collect();
        let cell_scores: Vec<f32> = chosen.iter().map(|cell| cell.score).collect();
        let search = Search {
            query: query.as_ptr(),
            k,
            // A word of 64 rows is 8 bytes with the lowest rows first: the machine is little-endian (see `mapped`).
            allowed: allowed.map_or(null(), |allowed| allowed.words().as_ptr().cast()),
            allowed_bytes: allowed.map_or(0, |allowed| allowed.rows().div_ceil(8)),
            // Faiss makes a list of this length, whatever it comes to hold.
            ef_search: if let Extent::EfSearch(ef) = extent { c_count(self.rows.min(ef as usize)) } else { 1 },
            cells: cells.as_ptr(),
            cell_scores: cell_scores.as_ptr(),
            nprobe: cells.len(),
        };
        let (mut scores, mut rows) = (vec![0.0; k], vec![-1; k]);
        // SAFETY: the query has `dim` values, `scores` and `rows` have room for k, the bitmap is as long as it says, cells and their
        // scores are as many; all outlive the call.
        call(|message| unsafe {
            pagoda_ann_search(self.index.as_ptr(), &search, scores.as_mut_ptr(), rows.as_mut_ptr(), message)
        })?;
        Ok(hits(&rows, &scores, self.rows))
    }

    fn own(index: *mut c_void, dim: usize, rows: usize) -> Result<Self, AnnError> {
        let index = NonNull::new(index).ok_or_else(|| AnnError::Faiss("no index was returned".into()))?;
        Ok(Self { index, dim, rows })
    }
}

/// The nearest k rows of each query, exactly. Shapes `[queries, dim]`, `[rows, dim]` to `[queries][k]`.
pub(crate) fn exact(queries: &Matrix, rows: &Matrix, k: usize, threads: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
    if queries.dim() != rows.dim() {
        return Err(AnnError::WrongDimension { expected: rows.dim(), found: queries.dim() });
    }
    let k = k.min(rows.rows());
    if k == 0 {
        return Ok(vec![Vec::new(); queries.rows()]);
    }
    let (mut scores, mut found) = (vec![0.0; queries.rows() * k], vec![-1; queries.rows() * k]);
    let (of, over) = (queries.values().as_ptr(), rows.values().as_ptr());
    let (n, m, dim) = (queries.rows(), rows.rows(), rows.dim());
    // SAFETY: both matrices have the number of values that their shape says, the results have room for n * k, and all outlive the call.
    call(|message| unsafe {
        pagoda_ann_exact(of, n, over, m, dim, k, c_count(threads), scores.as_mut_ptr(), found.as_mut_ptr(), message)
    })?;
    Ok(found.chunks(k).zip(scores.chunks(k)).map(|(rows, scores)| hits(rows, scores, m)).collect())
}

/// Runs an entry of the shim, which fills the message when it fails.
fn call(entry: impl FnOnce(*mut c_char) -> c_int) -> Result<(), AnnError> {
    let mut message: Message = [0; MESSAGE_BYTES];
    if entry(message.as_mut_ptr()) == 0 {
        return Ok(());
    }
    // SAFETY: the shim ends its message with a zero within MESSAGE_BYTES, and the array was zero before.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(AnnError::Faiss(text.to_string_lossy().into_owned()))
}

/// Appends to the `Vec<u8>` behind the context. A panic must not unwind into C++.
extern "C" fn append(context: *mut c_void, bytes: *const u8, n: usize) {
    let append = AssertUnwindSafe(|| {
        // SAFETY: `Handle::write` hands its own vector as the context, and Faiss n readable bytes.
        let (out, bytes) = unsafe { (&mut *context.cast::<Vec<u8>>(), std::slice::from_raw_parts(bytes, n)) };
        out.extend_from_slice(bytes);
    });
    if n > 0 && catch_unwind(append).is_err() {
        std::process::abort();
    }
}

/// Faiss pads with row -1 where it found fewer; a damaged file may number a row that is not there.
fn hits(rows: &[i64], scores: &[f32], row_count: usize) -> Vec<Hit> {
    let is_row = |row: &i64| u32::try_from(*row).ok().filter(|row| (*row as usize) < row_count);
    let numbered = rows.iter().zip(scores).filter_map(|(row, score)| Some((is_row(row)?, *score)));
    numbered.map(|(row, score)| Hit { row, score }).collect()
}

fn c_count(n: usize) -> c_int {
    c_int::try_from(n.max(1)).unwrap_or(c_int::MAX)
}
