//! [`Ivf`]: the search of inverted lists as they lie in the file, cell by cell, the most promising first.
//!
//! Faiss trains the cells and encodes the rows; it is not asked again. A search of our own costs less (one comparison with the k-th best
//! instead of a heap, no threads to think of, lists where they are mapped), stops in the middle when its caller has gone, and decides by
//! what it has found whether another cell is worth it.

use crate::{
    AnnError, Hit, Stop,
    file::{Cell, Layout, Ranges, u64_of},
    kernels::{Ahead, BLOCK_ROWS, Block, Rows, byte_dots_above, byte_dots_at},
    mask::Sieve,
    order::Order,
    stop::CHECK_ROWS,
    top::Top,
};

/// The largest number that a sum of products may reach in 32 bits.
const SUM_LIMIT: f32 = i32::MAX as f32;
const CODE_LIMIT: f32 = 255.0;
/// To know the k-th best hit is to look at k hits: it is asked for when so large a part of k rows was visited since.
const KTH_ONE_IN: usize = 4;

/// Cells with their rows' codes.
#[derive(Clone, Debug)]
pub(crate) struct Ivf {
    dim: usize,
    rows: usize,
    /// `[nlist, dim]`
    centroids: Vec<f32>,
    cells: Vec<Cell>,
    codec: Codec,
}

/// How a row's code is scored.
#[derive(Clone, Debug)]
enum Codec {
    /// The row itself.
    Flat,
    Bytes(Ranges),
    /// Codes that only Faiss reads: a visit scores rows of the matrix.
    None,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reach {
    /// So many cells.
    Cells(usize),
    /// As long as a cell's centroid, raised by this much for a query of length 1, scores as well as the k-th best hit.
    Margin(f32),
}

/// What a search came to beside its hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Visited {
    pub(crate) cells: usize,
    pub(crate) rows: usize,
}

/// What is asked of the cells.
pub(crate) struct Search<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) k: usize,
    pub(crate) sieve: &'a Sieve<'a>,
    pub(crate) reach: Reach,
    /// The rows of the matrix, where they are to be scored rather than the cells' codes.
    pub(crate) rows: Option<Rows<'a>>,
    pub(crate) stop: Stop<'a>,
}

/// A search under way.
struct Visit<'a> {
    ivf: &'a Ivf,
    bytes: &'a [u8],
    search: &'a Search<'a>,
    scorer: Scorer<'a>,
    top: Top,
    visited: Visited,
    /// Rows visited since the last look at the clock.
    unchecked: usize,
}

enum Scorer<'a> {
    Flat,
    Bytes(ByteQuery),
    /// Rows of the matrix.
    Rows(Rows<'a>),
}

/// A query against 8-bit codes: `base + centroid's score + step * sum(weights * codes)`.
struct ByteQuery {
    weights: Vec<i16>,
    base: f32,
    step: f32,
    by_residual: bool,
}

impl Ivf {
    /// The cells of a file; none where it has none.
    pub(crate) fn of(layout: &Layout, bytes: &[u8]) -> Option<Self> {
        if layout.cells.is_empty() {
            return None;
        }
        let values = bytes[layout.floats.clone()].chunks_exact(4);
        let centroids = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let codec = match (&layout.ranges, layout.kind) {
            (Some(ranges), _) => Codec::Bytes(ranges.clone()),
            (None, crate::Kind::IvfFlat) => Codec::Flat,
            (None, _) => Codec::None,
        };
        Some(Self { dim: layout.dim, rows: layout.rows, centroids, cells: layout.cells.clone(), codec })
    }

    /// The same cells over a copy of their row numbers, without codes.
    pub(crate) fn with_ids_alone(mut self, bytes: &[u8]) -> (Self, Vec<u8>) {
        let mut ids = Vec::with_capacity(self.rows * 8);
        for cell in &mut self.cells {
            let at = ids.len();
            ids.extend_from_slice(&bytes[cell.ids..][..cell.rows as usize * 8]);
            (cell.ids, cell.codes) = (at, at);
        }
        (self, ids)
    }

    pub(crate) fn nlist(&self) -> usize {
        self.cells.len()
    }

    /// Memory of its own, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.centroids.as_slice()) + size_of_val(self.cells.as_slice())
    }

    /// Whether the scores it finds are those of the rows.
    pub(crate) fn is_exact(&self) -> bool {
        !matches!(self.codec, Codec::Bytes(_))
    }

    /// Scores of the centroids, `[nlist]`.
    pub(crate) fn centroid_scores(&self, query: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.nlist()];
        Rows::of(&self.centroids, self.dim).scores(query, &mut scores);
        scores
    }

    /// The best cells by their centroids' scores, best first, with their scores.
    pub(crate) fn best_cells(&self, query: &[f32], n: usize) -> Vec<Hit> {
        let mut top = Top::new(n);
        let mut block = Block::new();
        let blocks = Rows::of(&self.centroids, self.dim).blocks(BLOCK_ROWS / 2);
        for (number, rows) in blocks.enumerate() {
            let first = (number * BLOCK_ROWS / 2) as u32;
            rows.above(query, top.threshold(), Ahead::default(), &mut block);
            block.found().for_each(|(position, score)| top.offer(Hit { row: first + position, score }));
        }
        top.into_sorted()
    }

    /// The row numbers of a cell, as far as they are rows.
    pub(crate) fn rows_of<'a>(&self, bytes: &'a [u8], cell: usize) -> impl Iterator<Item = u32> + 'a {
        let cell = self.cells[cell];
        let rows = self.rows as u64;
        let ids = bytes[cell.ids..][..cell.rows as usize * 8].chunks_exact(8).map(u64_of);
        ids.filter(move |id| *id < rows).map(|id| id as u32)
    }

    /// Which cell every row is in, `[rows]`.
    pub(crate) fn cell_of_rows(&self, bytes: &[u8]) -> Vec<u32> {
        let mut cells = vec![0; self.rows];
        for cell in 0..self.nlist() {
            self.rows_of(bytes, cell).for_each(|row| cells[row as usize] = cell as u32);
        }
        cells
    }

    /// The k best hits that it comes across, in no order.
    pub(crate) fn search(&self, bytes: &[u8], search: &Search) -> Result<(Vec<Hit>, Visited), AnnError> {
        let scorer = match (search.rows, &self.codec) {
            (Some(rows), _) => Scorer::Rows(rows),
            (None, Codec::Flat) => Scorer::Flat,
            (None, Codec::Bytes(ranges)) => Scorer::Bytes(ByteQuery::new(ranges, search.query)),
            (None, Codec::None) => return Err(AnnError::Faiss("these codes are searched by Faiss alone".into())),
        };
        let top = Top::new(search.k);
        Visit { ivf: self, bytes, search, scorer, top, visited: Visited::default(), unchecked: 0 }.run()
    }

    fn codes<'a>(&self, bytes: &'a [u8], cell: Cell) -> &'a [u8] {
        let code_bytes = match self.codec {
            Codec::Flat => self.dim * size_of::<f32>(),
            Codec::Bytes(_) => self.dim,
            Codec::None => 0,
        };
        &bytes[cell.codes..][..cell.rows as usize * code_bytes]
    }
}

impl Visit<'_> {
    fn run(mut self) -> Result<(Vec<Hit>, Visited), AnnError> {
        match self.search.reach {
            Reach::Cells(n) => self.best_cells(n)?,
            Reach::Margin(margin) => self.within(margin * norm(self.search.query))?,
        }
        Ok((self.top.into_hits(), self.visited))
    }

    fn best_cells(&mut self, n: usize) -> Result<(), AnnError> {
        let cells = self.ivf.best_cells(self.search.query, n.clamp(1, self.ivf.nlist()));
        for (at, cell) in cells.iter().enumerate() {
            self.step(cell.row, cell.score, cells.get(at + 1).map(|next| next.row))?;
        }
        Ok(())
    }

    fn within(&mut self, raise: f32) -> Result<(), AnnError> {
        let mut order = Order::new(&self.ivf.centroid_scores(self.search.query));
        let (mut following, mut kth_known_at) = (order.next(), 0);
        while let Some((cell, score)) = following {
            if self.visited.rows >= kth_known_at + self.search.k / KTH_ONE_IN {
                self.top.tighten();
                kth_known_at = self.visited.rows;
            }
            if score + raise < self.top.threshold() {
                break;
            }
            following = order.next();
            self.step(cell, score, following.map(|(next, _)| next))?;
        }
        Ok(())
    }

    /// Visits a cell; the next one's codes are fetched meanwhile.
    fn step(&mut self, cell: u32, score: f32, next: Option<u32>) -> Result<(), AnnError> {
        let cell = self.ivf.cells[cell as usize];
        self.visited.cells += 1;
        self.visited.rows += cell.rows as usize;
        self.unchecked += cell.rows as usize;
        if self.unchecked >= CHECK_ROWS {
            self.unchecked = 0;
            self.search.stop.check()?;
        }
        let next = next.map_or(&[][..], |next| self.ivf.codes(self.bytes, self.ivf.cells[next as usize]));
        self.cell(cell, score, next);
        Ok(())
    }

    fn cell(&mut self, cell: Cell, centroid_score: f32, next: &[u8]) {
        let (ivf, bytes, sieve, query) = (self.ivf, self.bytes, self.search.sieve, self.search.query);
        let lookup = Lookup { ids: &bytes[cell.ids..][..cell.rows as usize * 8], sieve };
        let top = &mut self.top;
        match &self.scorer {
            Scorer::Rows(rows) => visit_rows(*rows, query, &lookup, top),
            Scorer::Flat => {
                let codes = ivf.codes(bytes, cell);
                let rows = Rows::from_bytes(codes, ivf.dim);
                let above = |from: usize, n: usize, top: &Top, block: &mut Block<f32>| {
                    let ahead = Ahead { rest: &codes[from * ivf.dim * size_of::<f32>()..], next };
                    rows.part(from, n).above(query, top.threshold(), ahead, block);
                };
                visit_codes(&lookup, top, above, |block| rows.at(query, block), |score| score);
            }
            Scorer::Bytes(byte_query) => {
                let codes = ivf.codes(bytes, cell);
                let (base, step) = (byte_query.base(centroid_score), byte_query.step);
                let above = |from: usize, n: usize, top: &Top, block: &mut Block<i32>| {
                    let least = ((top.threshold() - base) / step).floor() as i32;
                    let rest = &codes[from * ivf.dim..];
                    let ahead = Ahead { rest, next };
                    byte_dots_above(&byte_query.weights, &rest[..n * ivf.dim], least, ahead, block);
                };
                let at = |block: &mut Block<i32>| byte_dots_at(&byte_query.weights, codes, block);
                visit_codes(&lookup, top, above, at, |sum| base + step * sum as f32);
            }
        }
    }
}

/// The rows of one cell, and which of them pass.
struct Lookup<'a> {
    ids: &'a [u8],
    sieve: &'a Sieve<'a>,
}

impl Lookup<'_> {
    fn len(&self) -> usize {
        self.ids.len() / 8
    }

    #[inline]
    fn row(&self, position: usize) -> Option<u32> {
        u32::try_from(u64_of(&self.ids[position * 8..])).ok().filter(|row| self.sieve.passes(*row))
    }

    /// The positions from there on, at most a block of rows, that pass.
    fn passing(&self, from: usize) -> impl Iterator<Item = u32> + '_ {
        (from..self.len().min(from + BLOCK_ROWS)).filter(|at| self.row(*at).is_some()).map(|at| at as u32)
    }
}

/// Offers the rows of a cell: where few pass, those are looked up and scored; else all are scored, and the good ones looked up.
fn visit_codes<T: Copy + Default>(
    lookup: &Lookup,
    top: &mut Top,
    above: impl Fn(usize, usize, &Top, &mut Block<T>),
    at: impl Fn(&mut Block<T>),
    score: impl Fn(T) -> f32,
) {
    let mut block = Block::new();
    for from in (0..lookup.len()).step_by(BLOCK_ROWS) {
        let first = if lookup.sieve.looks_first() {
            block.set_positions(lookup.passing(from));
            at(&mut block);
            0
        } else {
            above(from, BLOCK_ROWS.min(lookup.len() - from), top, &mut block);
            from
        };
        for (position, found) in block.found() {
            let score = score(found);
            if score < top.threshold() {
                continue;
            }
            if let Some(row) = lookup.row(first + position as usize) {
                top.offer(Hit { row, score });
            }
        }
    }
}

fn visit_rows(rows: Rows, query: &[f32], lookup: &Lookup, top: &mut Top) {
    let mut block = Block::new();
    for from in (0..lookup.len()).step_by(BLOCK_ROWS) {
        let to = lookup.len().min(from + BLOCK_ROWS);
        block.set_positions((from..to).filter_map(|at| lookup.row(at)));
        rows.at(query, &mut block);
        block.found().for_each(|(row, score)| top.offer(Hit { row, score }));
    }
}

impl ByteQuery {
    fn new(ranges: &Ranges, query: &[f32]) -> Self {
        let exact: Vec<f32> = query.iter().zip(&ranges.width).map(|(q, width)| q * width / CODE_LIMIT).collect();
        let largest = exact.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        let limit = (SUM_LIMIT / (CODE_LIMIT * query.len() as f32)).min(f32::from(i16::MAX)).floor();
        let step = if largest > 0.0 && largest.is_finite() { largest / limit } else { 1.0 };
        let weights = exact.iter().map(|w| (w / step).round().clamp(-limit, limit) as i16).collect();
        let least: f32 = query.iter().zip(&ranges.least).map(|(q, least)| q * least).sum();
        Self { weights, base: least + 0.5 * exact.iter().sum::<f32>(), step, by_residual: ranges.by_residual }
    }

    fn base(&self, centroid_score: f32) -> f32 {
        self.base + if self.by_residual { centroid_score } else { 0.0 }
    }
}

pub(crate) fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|v| v * v).sum::<f32>().sqrt()
}
