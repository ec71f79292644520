//! [`Spec`]: which Faiss index is built; [`Parameters`]: how thoroughly it is searched.

use serde::{Deserialize, Serialize};

/// Below so many rows an exact scan is as fast as anything.
const FLAT_ROWS_LIMIT: usize = 20_000;
/// From so many rows on 8-bit codes, re-scored from the rows, are faster than the rows themselves: the lists are a quarter of the size.
const SQ8_ROWS_FLOOR: usize = 100_000;
const NLIST_LIMIT: usize = 65_536;
/// Cells of fewer rows than this are not worth a k-means.
const ROWS_PER_CELL_FLOOR: usize = 10;
const HNSW_M_DEFAULT: usize = 32;
const HNSW_M_LIMIT: usize = 256;
/// A product quantiser learns 16 centroids for each part of a row; of fewer rows than this it learns nothing.
const PQ_ROWS_FLOOR: usize = 256;

/// The kinds of Faiss index that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum Kind {
    /// Exact.
    Flat = 1,
    /// Inverted lists of plain vectors.
    IvfFlat = 2,
    /// Inverted lists of 8-bit codes.
    IvfSq8 = 3,
    /// A graph.
    Hnsw = 4,
    /// Inverted lists of 4-bit product codes, scanned in registers; the best are scored exactly afterwards.
    IvfPqFsRefine = 5,
}

/// How rows are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The kind of index.
    pub kind: Kind,
    /// IVF: how many cells; else 0.
    pub nlist: usize,
    /// HNSW: links a node; else 0.
    pub hnsw_m: usize,
}

/// How thoroughly one query is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// IVF: cells visited; 0 is taken as 1.
    pub nprobe: u32,
    /// HNSW: the size of the candidate list.
    pub ef_search: u32,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Flat, Self::IvfFlat, Self::IvfSq8, Self::Hnsw, Self::IvfPqFsRefine];

    /// Whether it is inverted lists.
    pub fn has_cells(self) -> bool {
        matches!(self, Self::IvfFlat | Self::IvfSq8 | Self::IvfPqFsRefine)
    }
}

impl Spec {
    /// What suits so many rows: exact when small, else inverted lists, which beat graphs here on build, memory and filtering.
    pub fn for_rows(rows: usize) -> Self {
        let kind = match rows {
            0..FLAT_ROWS_LIMIT => Kind::Flat,
            FLAT_ROWS_LIMIT..SQ8_ROWS_FLOOR => Kind::IvfFlat,
            _ => Kind::IvfSq8,
        };
        Self::of_kind(kind, rows)
    }

    /// A kind, with its numbers chosen for so many rows: about 4 sqrt(rows) cells.
    pub fn of_kind(kind: Kind, rows: usize) -> Self {
        let nlist = (4.0 * (rows as f64).sqrt()) as usize;
        Self { kind, nlist, hnsw_m: HNSW_M_DEFAULT }.bounded(rows)
    }

    /// The same, with numbers that so many rows can bear; exact where they are too few to learn product codes of.
    pub fn bounded(self, rows: usize) -> Self {
        if self.kind == Kind::IvfPqFsRefine && rows < PQ_ROWS_FLOOR {
            return Self { kind: Kind::Flat, nlist: 0, hnsw_m: 0 };
        }
        let most = (rows / ROWS_PER_CELL_FLOOR).clamp(1, NLIST_LIMIT);
        let nlist = if self.kind.has_cells() { self.nlist.clamp(1, most) } else { 0 };
        let hnsw_m = if self.kind == Kind::Hnsw { self.hnsw_m.clamp(2, HNSW_M_LIMIT) } else { 0 };
        Self { nlist, hnsw_m, ..self }
    }
}

impl Parameters {
    /// Takes from `defaults` what is 0 here.
    pub fn or(self, defaults: Self) -> Self {
        let or = |own: u32, default| if own == 0 { default } else { own };
        Self { nprobe: or(self.nprobe, defaults.nprobe), ef_search: or(self.ef_search, defaults.ef_search) }
    }

    /// Visits more, the fewer of the rows visited count.
    pub(crate) fn widened(self, rows: usize, allowed: usize) -> Self {
        let widen = |n: u32| (n as usize * rows).div_ceil(allowed.max(1)).try_into().unwrap_or(u32::MAX);
        Self { nprobe: widen(self.nprobe), ef_search: widen(self.ef_search) }
    }

    /// As thorough as both.
    pub(crate) fn at_least(self, other: Self) -> Self {
        Self { nprobe: self.nprobe.max(other.nprobe), ef_search: self.ef_search.max(other.ef_search) }
    }
}

/// The parts that a product quantiser cuts a row into: of two values, if that comes out even, else of three or four, else of one.
pub(crate) fn pq_m(dim: usize) -> usize {
    let part = [2, 3, 4].into_iter().find(|part| dim.is_multiple_of(*part)).unwrap_or(1);
    dim / part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_equal_parts() {
        assert_eq!([1, 2, 7, 9, 64].map(pq_m), [1, 1, 7, 3, 32]);
    }

    #[test]
    fn codes_of_kinds_on_disk_stay() {
        let codes = Kind::ALL.map(|kind| (kind as i32, serde_json::to_string(&kind).unwrap()));
        let expected = [(1, "flat"), (2, "ivf_flat"), (3, "ivf_sq8"), (4, "hnsw"), (5, "ivf_pq_fs_refine")];
        assert_eq!(codes, expected.map(|(code, name)| (code, format!("\"{name}\""))));
    }

    #[test]
    fn the_kind_follows_from_the_size() {
        assert_eq!(Spec::for_rows(10).kind, Kind::Flat);
        assert_eq!(Spec::for_rows(99_999), Spec { kind: Kind::IvfFlat, nlist: 1264, hnsw_m: 0 });
        assert_eq!(Spec::for_rows(100_000).kind, Kind::IvfSq8);
        assert_eq!(Spec::of_kind(Kind::IvfFlat, 3).nlist, 1);
        assert_eq!(Spec::of_kind(Kind::IvfPqFsRefine, 255).kind, Kind::Flat);
    }
}
