//! What lies where in a file that Faiss wrote, found without Faiss, whose loader does not survive hostile files.
//!
//! Every size is compared with what is left of the file before anything is allocated, and every number that a search would follow without
//! looking is checked, so that no bytes, however damaged, do more than be refused or answer wrongly. Only what this crate builds is read.

use std::ops::Range;

use crate::{AnnError, matrix::MAGNITUDE_LIMIT, spec::Kind};

/// `faiss::METRIC_INNER_PRODUCT`.
const METRIC_INNER_PRODUCT: i32 = 0;
/// `faiss::ScalarQuantizer::QT_8bit`.
const QT_8BIT: i32 = 0;
/// Centroids of a product quantiser with 4 bits a code.
const PQ_CENTROIDS: u64 = 16;
/// Levels that a graph may have: more than any graph has that is built.
const LEVELS_LIMIT: usize = 64;
const DIM_LIMIT: u64 = 1 << 16;

/// A file of an index, understood.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) kind: Kind,
    pub(crate) dim: usize,
    pub(crate) rows: usize,
    /// Flat: its rows. IVF: its cells' centroids. Else nothing.
    pub(crate) floats: Range<usize>,
    /// IVF: its cells.
    pub(crate) cells: Vec<Cell>,
    /// 8-bit codes: how they are decoded.
    pub(crate) ranges: Option<Ranges>,
}

/// One inverted list: where its codes and the numbers of its rows (8 bytes each) lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) codes: usize,
    pub(crate) ids: usize,
    pub(crate) rows: u32,
}

/// How 8-bit codes are decoded: `least + (code + 0.5) / 255 * width`, of the rows' distances from their centroid or of the rows.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    pub(crate) least: Vec<f32>,
    pub(crate) width: Vec<f32>,
    pub(crate) by_residual: bool,
}

struct Header {
    dim: usize,
    rows: usize,
}

struct IvfHeader {
    of: Header,
    nlist: usize,
    centroids: Range<usize>,
}

/// The bytes that are left to read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Layout {
    /// Understands a whole file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, AnnError> {
        let mut reader = Reader { bytes, at: 0 };
        let layout = match &reader.tag()? {
            b"IxFI" => reader.flat(),
            b"IwFl" => reader.ivf_flat(),
            b"IwSq" => reader.ivf_sq8(),
            b"IwPf" => reader.ivf_pq_fast_scan(),
            b"IHNf" => reader.hnsw(),
            _ => Err(damaged("a kind of index that is never built here")),
        }?;
        require(reader.at == bytes.len(), "bytes behind its end")?;
        Ok(layout)
    }
}

impl<'a> Reader<'a> {
    fn flat(&mut self) -> Result<Layout, AnnError> {
        let Header { dim, rows } = self.header()?;
        let floats = self.flat_values(dim, rows)?;
        Ok(Layout { kind: Kind::Flat, dim, rows, floats, cells: Vec::new(), ranges: None })
    }

    fn ivf_flat(&mut self) -> Result<Layout, AnnError> {
        let ivf = self.ivf_header()?;
        let cells = self.array_lists(&ivf, ivf.of.dim as u64 * 4)?;
        Ok(ivf.layout(Kind::IvfFlat, cells, None))
    }

    fn ivf_sq8(&mut self) -> Result<Layout, AnnError> {
        let ivf = self.ivf_header()?;
        let dim = ivf.of.dim as u64;
        require(self.i32()? == QT_8BIT, "another quantiser than one of 8 bits")?;
        self.skip(8)?;
        let sizes = [self.u64()?, self.u64()?, self.u64()?];
        require(sizes == [dim, dim, 2 * dim], "its quantiser has another dimension")?;
        let (least, width) = (self.floats(ivf.of.dim)?, self.floats(ivf.of.dim)?);
        require(self.u64()? == dim, "its codes have another size")?;
        let ranges = Ranges { least, width, by_residual: self.bool()? };
        let cells = self.array_lists(&ivf, dim)?;
        Ok(ivf.layout(Kind::IvfSq8, cells, Some(ranges)))
    }

    fn ivf_pq_fast_scan(&mut self) -> Result<Layout, AnnError> {
        let ivf = self.ivf_header()?;
        let dim = ivf.of.dim as u64;
        self.bool()?;
        let code_size = self.u64()?;
        let (block_rows, m2) = (self.i32()?, self.u64()?);
        let (implementation, query_blocks) = (self.i32()?, self.u64()?);
        require((block_rows, implementation, query_blocks) == (32, 0, 0), "another layout of its codes")?;
        let (pq_dim, m, bits) = (self.u64()?, self.u64()?, self.u64()?);
        require(pq_dim == dim && bits == 4 && m > 0 && dim.is_multiple_of(m), "its quantiser has another shape")?;
        require(m2 == m.next_multiple_of(2) && code_size == m.div_ceil(2), "its codes have another size")?;
        require(self.u64()? == dim * PQ_CENTROIDS, "its quantiser has another size")?;
        self.floats(ivf.of.dim * PQ_CENTROIDS as usize)?;
        let cells = self.block_lists(&ivf, 32 * m2 / 2)?;
        Ok(ivf.layout(Kind::IvfPqFsRefine, cells, None))
    }

    fn hnsw(&mut self) -> Result<Layout, AnnError> {
        let Header { dim, rows } = self.header()?;
        self.graph(rows)?;
        require(&self.tag()? == b"IxFI", "its storage is of another kind")?;
        let storage = self.header()?;
        require((storage.dim, storage.rows) == (dim, rows), "its storage has another shape")?;
        let storage = self.flat_values(dim, rows)?;
        let mut values = self.bytes[storage].chunks_exact(4).map(|b| f32::from_bits(i32_of(b) as u32));
        require(values.all(|v| v.abs() <= MAGNITUDE_LIMIT), "a value that no search can bear")?;
        Ok(Layout { kind: Kind::Hnsw, dim, rows, floats: 0..0, cells: Vec::new(), ranges: None })
    }

    /// Levels, links and entry of a graph: all that a search follows.
    fn graph(&mut self, rows: usize) -> Result<(), AnnError> {
        self.vector(8)?;
        let links_up_to: Vec<i32> = self.vector(4)?.chunks_exact(4).map(i32_of).collect();
        let levels: Vec<i32> = self.vector(4)?.chunks_exact(4).map(i32_of).collect();
        let offsets: Vec<u64> = self.vector(8)?.chunks_exact(8).map(u64_of).collect();
        let links = self.vector(4)?;
        let (entry, top) = (self.i32()?, self.i32()?);
        self.skip(12)?;
        let is_level = |level: i32| level >= 0 && (level as usize) < links_up_to.len();
        let ordered = links_up_to.first() == Some(&0) && links_up_to.is_sorted() && links_up_to.len() <= LEVELS_LIMIT;
        require(ordered && levels.len() == rows && offsets.len() == rows + 1, "its graph has another size")?;
        require(offsets.last() == Some(&(links.len() as u64 / 4)), "its graph has another number of links")?;
        let whole = (0..rows).all(|node| {
            let links = offsets[node + 1].checked_sub(offsets[node]);
            levels[node] > 0 && is_level(levels[node]) && links == Some(links_up_to[levels[node] as usize] as u64)
        });
        let is_node = |node: i32| node >= 0 && (node as usize) < rows;
        require(whole && is_node(entry), "its graph does not hang together")?;
        require(top >= 0 && top == levels[entry as usize] - 1, "its graph has no such level")?;
        require(links.chunks_exact(4).map(i32_of).all(|link| link == -1 || is_node(link)), "it links to no row")?;
        self.check_links(&links_up_to, &levels, &offsets, links)
    }

    fn check_links(&self, up_to: &[i32], levels: &[i32], offsets: &[u64], links: &[u8]) -> Result<(), AnnError> {
        // A link of a level leads to a node that has this level. Level 0 all have.
        let leads_up = |node: usize| {
            (1..levels[node]).all(|level| {
                let of = |level: i32| (offsets[node] as usize + up_to[level as usize] as usize) * 4;
                let mut at_level = links[of(level)..of(level + 1)].chunks_exact(4).map(i32_of);
                at_level.all(|link| link == -1 || levels[link as usize] > level)
            })
        };
        require((0..levels.len()).all(leads_up), "it links to a level that is not there")
    }

    fn header(&mut self) -> Result<Header, AnnError> {
        let (dim, rows) = (self.i32()?, self.u64()?);
        self.skip(16)?;
        require(self.bool()?, "it was not trained")?;
        require(self.i32()? == METRIC_INNER_PRODUCT, "another metric than the inner product")?;
        require(dim > 0 && (dim as u64) < DIM_LIMIT && rows < i32::MAX as u64, "a shape that no index has")?;
        Ok(Header { dim: dim as usize, rows: rows as usize })
    }

    fn ivf_header(&mut self) -> Result<IvfHeader, AnnError> {
        let of = self.header()?;
        let nlist = self.u64()?;
        self.skip(8)?;
        require(&self.tag()? == b"IxFI", "its cells are found another way")?;
        let quantizer = self.header()?;
        require((quantizer.dim, quantizer.rows as u64) == (of.dim, nlist), "its cells have another shape")?;
        require(nlist > 0, "it has no cells")?;
        let centroids = self.flat_values(of.dim, quantizer.rows)?;
        require(!self.bool()? && self.u64()? == 0, "it has a map of its rows")?;
        Ok(IvfHeader { of, nlist: quantizer.rows, centroids })
    }

    fn flat_values(&mut self, dim: usize, rows: usize) -> Result<Range<usize>, AnnError> {
        require(self.u64()? == dim as u64 * rows as u64, "its rows have another shape")?;
        let from = self.at;
        self.skip(dim as u64 * rows as u64 * 4)?;
        Ok(from..self.at)
    }

    fn array_lists(&mut self, ivf: &IvfHeader, code_size: u64) -> Result<Vec<Cell>, AnnError> {
        require(&self.tag()? == b"ilar", "its lists are kept another way")?;
        let shape = [self.u64()?, self.u64()?];
        require(shape == [ivf.nlist as u64, code_size], "its lists have another shape")?;
        let sizes = self.list_sizes(ivf.nlist)?;
        let mut cells = Vec::with_capacity(ivf.nlist);
        for rows in sizes {
            let codes = self.at;
            self.skip(rows.checked_mul(code_size).ok_or_else(|| damaged("a list beyond its end"))?)?;
            let ids = self.at;
            self.skip(rows.checked_mul(8).ok_or_else(|| damaged("a list beyond its end"))?)?;
            cells.push(Cell { codes, ids, rows: rows as u32 });
        }
        ivf.whole(cells)
    }

    fn list_sizes(&mut self, nlist: usize) -> Result<Vec<u64>, AnnError> {
        let tag = self.tag()?;
        let numbers: Vec<u64> = self.vector(8)?.chunks_exact(8).map(u64_of).collect();
        match &tag {
            b"full" if numbers.len() == nlist => Ok(numbers),
            b"sprs" if numbers.len().is_multiple_of(2) => {
                let mut sizes = vec![0; nlist];
                for pair in numbers.chunks_exact(2) {
                    let size = usize::try_from(pair[0]).ok().and_then(|list| sizes.get_mut(list));
                    *size.ok_or_else(|| damaged("it has a list of no cell"))? = pair[1];
                }
                Ok(sizes)
            }
            _ => Err(damaged("its lists are counted another way")),
        }
    }

    fn block_lists(&mut self, ivf: &IvfHeader, block_bytes: u64) -> Result<Vec<Cell>, AnnError> {
        require(&self.tag()? == b"ilbl", "its lists are kept another way")?;
        let shape = [self.u64()?, self.u64()?, self.u64()?, self.u64()?];
        require(shape == [ivf.nlist as u64, u64::MAX, 32, block_bytes], "its lists have another shape")?;
        let mut cells = Vec::with_capacity(ivf.nlist);
        for _ in 0..ivf.nlist {
            let rows = (self.vector(8)?.len() / 8) as u64;
            let ids = self.at - rows as usize * 8;
            let bytes = self.vector(1)?.len() as u64;
            require(bytes == rows.div_ceil(32) * block_bytes, "a list has another size")?;
            cells.push(Cell { codes: self.at - bytes as usize, ids, rows: rows as u32 });
        }
        ivf.whole(cells)
    }

    fn tag(&mut self) -> Result<[u8; 4], AnnError> {
        let bytes = self.take(4)?;
        Ok([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn bool(&mut self) -> Result<bool, AnnError> {
        match self.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(damaged("neither yes nor no")),
        }
    }

    fn i32(&mut self) -> Result<i32, AnnError> {
        Ok(i32_of(self.take(4)?))
    }

    fn u64(&mut self) -> Result<u64, AnnError> {
        Ok(u64_of(self.take(8)?))
    }

    fn floats(&mut self, n: usize) -> Result<Vec<f32>, AnnError> {
        let values: Vec<f32> =
            self.take(n as u64 * 4)?.chunks_exact(4).map(|b| f32::from_bits(i32_of(b) as u32)).collect();
        require(values.iter().all(|v| v.is_finite()), "a number that is not finite")?;
        Ok(values)
    }

    /// The bytes of a vector, whose length comes first, of elements of so many bytes.
    fn vector(&mut self, element_bytes: u64) -> Result<&'a [u8], AnnError> {
        let n = self.u64()?;
        self.take(n.checked_mul(element_bytes).ok_or_else(|| damaged("a vector beyond its end"))?)
    }

    fn skip(&mut self, n: u64) -> Result<(), AnnError> {
        self.take(n).map(drop)
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], AnnError> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n)).filter(|end| *end <= self.bytes.len());
        let from = self.at;
        self.at = end.ok_or_else(|| damaged(format!("it ends after {} bytes", self.bytes.len())))?;
        Ok(&self.bytes[from..self.at])
    }
}

impl IvfHeader {
    fn whole(&self, cells: Vec<Cell>) -> Result<Vec<Cell>, AnnError> {
        let rows: u64 = cells.iter().map(|cell| u64::from(cell.rows)).sum();
        require(rows == self.of.rows as u64, "its cells hold another number of rows")?;
        Ok(cells)
    }

    fn layout(self, kind: Kind, cells: Vec<Cell>, ranges: Option<Ranges>) -> Layout {
        Layout { kind, dim: self.of.dim, rows: self.of.rows, floats: self.centroids, cells, ranges }
    }
}

fn require(condition: bool, otherwise: &str) -> Result<(), AnnError> {
    if condition { Ok(()) } else { Err(damaged(otherwise)) }
}

fn damaged(why: impl Into<String>) -> AnnError {
    AnnError::Damaged(why.into())
}

fn i32_of(bytes: &[u8]) -> i32 {
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

pub(crate) fn u64_of(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(eight)
}
