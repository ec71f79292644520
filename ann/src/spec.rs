//! [`Spec`]: which Faiss index is built; [`Parameters`]: how thoroughly it is searched.

use serde::{Deserialize, Serialize};

/// Below so many rows an exact scan is as fast as anything.
const FLAT_ROWS_LIMIT: usize = 20_000;
/// Above so many rows 8-bit codes earn their place: the lists shrink to a quarter.
const SQ8_ROWS_FLOOR: usize = 2_000_000;
const NLIST_LIMIT: usize = 65_536;
/// Cells of fewer rows than this are not worth a k-means.
const ROWS_PER_CELL_FLOOR: usize = 10;
const HNSW_M_DEFAULT: usize = 32;
const HNSW_M_LIMIT: usize = 256;

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
    fn has_cells(self) -> bool {
        matches!(self, Self::IvfFlat | Self::IvfSq8)
    }

    pub(crate) fn from_code(code: i32) -> Option<Self> {
        [Self::Flat, Self::IvfFlat, Self::IvfSq8, Self::Hnsw].into_iter().find(|kind| *kind as i32 == code)
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

    /// The same, with numbers that so many rows can bear.
    pub fn bounded(self, rows: usize) -> Self {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_size() {
        assert_eq!(Spec::for_rows(10).kind, Kind::Flat);
        assert_eq!(Spec::for_rows(100_000), Spec { kind: Kind::IvfFlat, nlist: 1264, hnsw_m: 0 });
        assert_eq!(Spec::for_rows(3_000_000).kind, Kind::IvfSq8);
        assert_eq!(Spec::of_kind(Kind::IvfFlat, 3).nlist, 1);
    }
}
