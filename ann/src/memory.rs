//! How much memory an index takes, before it is built or loaded.

use crate::{Index, Kind, Spec, spec::pq_m};

/// A row's number in an inverted list.
const ID_BYTES: usize = 8;
const FLOAT_BYTES: usize = 4;
/// Where a cell's codes and row numbers lie.
const CELL_BYTES: usize = 24;
/// Codes of a fast scan come in blocks of 32 rows: half a block a cell is wasted.
const BLOCK_WASTE_ROWS: usize = 16;

impl Index {
    /// About how many bytes an index of so many rows takes in memory, without the rows' own vectors (`rows * dim * 4`). What is mapped counts
    /// as if it were in memory, since it is read all the time. For deciding whether to load one; a graph's links vary by a tenth.
    pub fn estimate_bytes(spec: &Spec, rows: usize, dim: usize) -> usize {
        let Spec { kind, nlist, hnsw_m } = spec.bounded(rows);
        let vectors = rows * dim * FLOAT_BYTES;
        let cells = nlist * (2 * dim * FLOAT_BYTES + CELL_BYTES);
        match kind {
            Kind::Flat => vectors,
            Kind::IvfFlat => vectors + rows * ID_BYTES + cells,
            Kind::IvfSq8 => rows * (dim + ID_BYTES) + cells,
            Kind::IvfPqFsRefine => {
                let code = pq_m(dim).div_ceil(2);
                (rows + BLOCK_WASTE_ROWS * nlist) * code + rows * 2 * ID_BYTES + cells + nlist * dim * FLOAT_BYTES
            }
            // Twice as many links on the lowest level, and one node in hnsw_m has another level; offset and level of each.
            Kind::Hnsw => vectors + rows * (2 * hnsw_m * 4 + 4 + 12 + 8),
        }
    }

    /// Of what [`Index::bytes`] says and what is mapped: all that a search may read.
    pub fn resident_bytes(&self) -> usize {
        self.bytes() + self.mapped_bytes()
    }
}
