//! [`Index`]: built once, then only searched and written.

use std::{borrow::Cow, ops::Range, path::Path, sync::Arc};

use crate::{
    AnnError, Hit, MappedFile, Matrix, Stop,
    ffi::{Extent, Handle, Shape},
    file::Layout,
    ivf::{Ivf, Reach, Search},
    kernels::Rows,
    mapped::Region,
    mask::Sieve,
    matrix::MAGNITUDE_LIMIT,
    scan::scan_sieved,
    spec::{Kind, Parameters, Spec, pq_m},
};

/// An index over the rows of a matrix, by inner product. It never changes: share it between threads as it is.
#[derive(Debug)]
pub struct Index {
    kind: Kind,
    dim: usize,
    rows: usize,
    pub(crate) body: Body,
}

/// A search of what the parameters say. The query was checked.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) k: usize,
    pub(crate) sieve: &'a Sieve<'a>,
    pub(crate) parameters: Parameters,
    pub(crate) stop: Stop<'a>,
}

/// What is searched. Bytes are the file that Faiss wrote.
pub(crate) enum Body {
    Flat {
        file: Region,
        rows: Range<usize>,
    },
    Ivf {
        file: Region,
        ivf: Ivf,
    },
    /// Cells beside Faiss's own codes of the same rows; of the file only the row numbers are kept.
    FastScan {
        ids: Region,
        ivf: Ivf,
        faiss: Handle,
    },
    Graph {
        faiss: Handle,
        bytes: usize,
    },
}

impl Index {
    /// Trains and fills an index with all rows, on so many threads.
    pub fn build(spec: &Spec, rows: &Matrix, threads: usize) -> Result<Self, AnnError> {
        if rows.rows() == 0 {
            return Err(AnnError::Empty);
        }
        let Spec { kind, nlist, hnsw_m } = spec.bounded(rows.rows());
        if kind != Kind::Flat {
            check_magnitude(rows)?;
        }
        let (dim, pq_m) = (rows.dim(), pq_m(rows.dim()));
        let shape = Shape { kind: kind as i32, dim, rows: rows.rows(), nlist, hnsw_m, pq_m };
        let built = Handle::build(shape, rows, threads)?.write()?;
        Self::from_bytes(built)
    }

    /// Reads what [`Index::write`] wrote, from a copy of these bytes. Their digest is the caller's to check; damaged bytes are refused
    /// or answer wrongly, and do no worse.
    pub fn read(bytes: &[u8]) -> Result<Self, AnnError> {
        Self::from_bytes(bytes.to_vec())
    }

    /// Reads what [`Index::write`] wrote, and keeps the bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, AnnError> {
        Self::from_region(Region::Owned(Arc::new(bytes)))
    }

    /// Maps a file that holds what [`Index::write`] wrote. Inverted lists and flat rows are searched where they lie; graphs and fast scans
    /// are copied into memory. The file must stay as it is; it may be replaced by a rename or removed. Its digest is the caller's to check.
    pub fn open(path: &Path) -> Result<Self, AnnError> {
        Self::mapped(MappedFile::open(path)?)
    }

    /// As [`Index::open`], of a file that is mapped already.
    pub fn mapped(file: MappedFile) -> Result<Self, AnnError> {
        Self::from_region(Region::Mapped(file))
    }

    /// The index as bytes.
    pub fn write(&self) -> Result<Vec<u8>, AnnError> {
        match &self.body {
            Body::Flat { file, .. } | Body::Ivf { file, .. } => Ok(file.to_vec()),
            Body::FastScan { faiss, .. } | Body::Graph { faiss, .. } => faiss.write(),
        }
    }

    /// How many rows it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The values a row has.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// IVF: how many cells it has; else 0.
    pub fn nlist(&self) -> usize {
        self.ivf().map_or(0, |(ivf, _)| ivf.nlist())
    }

    /// Memory that it holds, in bytes, without what is mapped.
    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::Flat { file, .. } => file.owned_bytes(),
            Body::Ivf { file, ivf } => file.owned_bytes() + ivf.bytes(),
            Body::FastScan { ids, ivf, .. } => ids.owned_bytes() + ivf.bytes() + self.fast_scan_bytes(),
            Body::Graph { bytes, .. } => *bytes,
        }
    }

    pub(crate) fn mapped_bytes(&self) -> usize {
        match &self.body {
            Body::Flat { file, .. } | Body::Ivf { file, .. } => file.len() - file.owned_bytes(),
            Body::FastScan { .. } | Body::Graph { .. } => 0,
        }
    }

    /// Visits what the parameters say; hits in no order, with scores as the index has them.
    pub(crate) fn visit(&self, visit: &Visit) -> Result<Vec<Hit>, AnnError> {
        let Visit { query, k, sieve, parameters, stop } = *visit;
        let nprobe = parameters.nprobe.max(1) as usize;
        let allowed = || (!sieve.is_open()).then(|| sieve.to_bitmap());
        match &self.body {
            Body::Flat { file, rows } => {
                let rows = Rows::from_bytes(&file[rows.clone()], self.dim);
                let mut hits = scan_sieved(rows, &[query], k, sieve, stop)?;
                Ok(hits.pop().unwrap_or_default())
            }
            Body::Ivf { file, ivf } => {
                let search = Search { query, k, sieve, reach: Reach::Cells(nprobe), rows: None, stop };
                Ok(ivf.search(file, &search)?.0)
            }
            Body::FastScan { ivf, faiss, .. } => {
                let query = &bearable(query);
                let cells = ivf.best_cells(query, nprobe.min(ivf.nlist()));
                faiss.search(query, k, allowed().as_ref(), Extent::Cells(&cells))
            }
            Body::Graph { faiss, .. } => {
                faiss.search(&bearable(query), k, allowed().as_ref(), Extent::EfSearch(parameters.ef_search))
            }
        }
    }

    /// Its cells and the bytes that their row numbers lie in.
    pub(crate) fn ivf(&self) -> Option<(&Ivf, &[u8])> {
        match &self.body {
            Body::Ivf { file, ivf } => Some((ivf, file)),
            Body::FastScan { ids, ivf, .. } => Some((ivf, ids)),
            Body::Flat { .. } | Body::Graph { .. } => None,
        }
    }

    fn from_region(file: Region) -> Result<Self, AnnError> {
        let layout = Layout::read(&file)?;
        let Layout { kind, dim, rows, .. } = layout;
        let no_cells = || AnnError::Damaged("it has no cells".into());
        let body = match kind {
            Kind::Flat => Body::Flat { file, rows: layout.floats },
            Kind::IvfFlat | Kind::IvfSq8 => Body::Ivf { ivf: Ivf::of(&layout, &file).ok_or_else(no_cells)?, file },
            Kind::IvfPqFsRefine => {
                let faiss = Handle::read(&file, dim, rows)?;
                let (ivf, ids) = Ivf::of(&layout, &file).ok_or_else(no_cells)?.with_ids_alone(&file);
                Body::FastScan { ids: Region::Owned(Arc::new(ids)), ivf, faiss }
            }
            Kind::Hnsw => Body::Graph { faiss: Handle::read(&file, dim, rows)?, bytes: file.len() },
        };
        Ok(Self { kind, dim, rows, body })
    }

    fn fast_scan_bytes(&self) -> usize {
        let blocks = self.rows + 16 * self.nlist();
        blocks * pq_m(self.dim).div_ceil(2) + self.rows * 8 + self.nlist() * self.dim * 4
    }
}

fn check_magnitude(rows: &Matrix) -> Result<(), AnnError> {
    match rows.values().iter().find(|v| v.abs() > MAGNITUDE_LIMIT) {
        Some(value) => Err(AnnError::TooLarge { value: *value, limit: MAGNITUDE_LIMIT }),
        None => Ok(()),
    }
}

/// The query, shortened if its products with rows could be no numbers, on which Faiss's search of a graph never ends. Hits stay in order.
fn bearable(query: &[f32]) -> Cow<'_, [f32]> {
    let largest = query.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    if largest <= MAGNITUDE_LIMIT { Cow::Borrowed(query) } else { query.iter().map(|v| v / largest).collect() }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flat { .. } => "Flat",
            Self::Ivf { .. } => "Ivf",
            Self::FastScan { .. } => "FastScan",
            Self::Graph { .. } => "Graph",
        })
    }
}
