//! [`Index::find`]: the search that keeps its recall under every mask, and says how it went about it.

use crate::{
    AnnError, Hit, Index, Kind, Mask, Matrix, Parameters, Step, Stop, Tuning, check_vector,
    index::Visit,
    ivf::{Reach, Search, Visited},
    kernels::Rows,
    mask::Sieve,
    scan::scan_sieved,
    top::{Top, best_first},
};

/// Where nothing was calibrated, or no calibration reached its target, an index is searched under a mask only if it leaves out no more than one
/// row in so many: else the first row that is deleted would make a scan of every search.
const UNCALIBRATED_ONE_IN: usize = 20;
/// Candidates beyond k that 8-bit codes are asked for: what they may have in the wrong order.
const BYTES_OVER_FETCH_ONE_IN: usize = 8;
const BYTES_OVER_FETCH: usize = 8;
/// Rows that a graph's search scores for each entry of its list, in about: its neighbours.
const GRAPH_ROWS_AN_ENTRY: usize = 32;
/// For each entry all of the list is looked through: so many entries in about the time in which a row is read.
const GRAPH_ENTRIES_A_ROW: usize = 32;

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// The vector; of the rows' dimension, finite.
    pub vector: &'a [f32],
    /// How many hits are wanted.
    pub k: usize,
    /// The rows that may be found.
    pub mask: Mask<'a>,
    /// How thoroughly; 0 means as tuned. What is said here holds for masked searches too, where it is widened in proportion.
    pub parameters: Parameters,
    /// Score every row that may be found.
    pub exact: bool,
    /// When to give up.
    pub stop: Stop<'a>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Best first, ties by row, with exact scores: k, or as many as may be found.
    pub hits: Vec<Hit>,
    /// How they were found.
    pub mode: Mode,
    /// How many rows were looked at, in about; a graph does not say.
    pub visited_rows: usize,
}

/// How hits were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every row that may be found was scored.
    Scan,
    /// The best cells were visited, as many as were tuned.
    Cells,
    /// Cells were visited as long as one could have hits.
    Masked,
    /// A graph was walked.
    Graph,
}

/// A way to find hits, chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    Scan,
    Visit(Parameters),
    Within(f32),
}

impl Index {
    /// The k nearest rows that may be found, with exact scores, from an index and the matrix it was built of. Never short while there is
    /// more: what an approximate search does not find is scanned for.
    pub fn find(&self, rows: &Matrix, tuning: &Tuning, query: &Query) -> Result<Found, AnnError> {
        self.find_once(rows, tuning, query, true)
    }

    /// What [`Index::find`] finds before it makes up for what it has not found: what tuning measures.
    pub(crate) fn find_at_first(&self, rows: &Matrix, tuning: &Tuning, query: &Query) -> Result<Found, AnnError> {
        self.find_once(rows, tuning, query, false)
    }

    fn find_once(&self, rows: &Matrix, tuning: &Tuning, query: &Query, completes: bool) -> Result<Found, AnnError> {
        check_vector(query.vector, self.dim())?;
        self.check_rows(rows)?;
        let sieve = query.mask.sieve(self.rows())?;
        let k = query.k.min(sieve.count());
        let step = tuning.at(k);
        let ask = Ask { index: self, rows: Rows::of(rows.values(), rows.dim()), query, k, sieve: &sieve, step: &step };
        let plan = Plan::of(self, query, &step, tuning.scan_rows, sieve.count());
        if completes { ask.run(plan) } else { ask.run_at_first(plan) }
    }

    /// [`Index::find`] for several vectors that share all else. Scans read the rows once for all of them.
    pub fn find_many(
        &self,
        rows: &Matrix,
        tuning: &Tuning,
        vectors: &[&[f32]],
        query: &Query,
    ) -> Result<Vec<Found>, AnnError> {
        vectors.iter().try_for_each(|vector| check_vector(vector, self.dim()))?;
        self.check_rows(rows)?;
        let sieve = query.mask.sieve(self.rows())?;
        let k = query.k.min(sieve.count());
        let (step, matrix) = (tuning.at(k), Rows::of(rows.values(), rows.dim()));
        let ask = |vector| Query { vector, ..*query };
        let plan = Plan::of(self, query, &step, tuning.scan_rows, sieve.count());
        if plan == Plan::Scan {
            let hits = scan_sieved(matrix, vectors, k, &sieve, query.stop)?;
            return Ok(hits.into_iter().map(|hits| Found::scanned(hits, &sieve)).collect());
        }
        let asks = vectors.iter().map(|vector| ask(vector));
        asks.map(|query| Ask { index: self, rows: matrix, query: &query, k, sieve: &sieve, step: &step }.run(plan))
            .collect()
    }

    /// About how many rows and centroids a search looks at if so many rows may be found, told before it begins. The query's vector and mask do
    /// not matter.
    pub fn rows_read(&self, tuning: &Tuning, query: &Query, allowed: usize) -> usize {
        let (k, rows) = (query.k.min(allowed), self.rows());
        let step = tuning.at(k);
        match Plan::of(self, query, &step, tuning.scan_rows, allowed) {
            Plan::Scan => allowed,
            // What comes across too few ends in a scan.
            Plan::Visit(parameters) if self.rows_scored(parameters) * allowed < 2 * k * rows => allowed,
            Plan::Visit(parameters) if self.nlist() == 0 => graph_reads(parameters, k),
            Plan::Visit(parameters) => self.nlist() + self.rows_scored(parameters),
            Plan::Within(_) => self.nlist() + self.rows_scored(step.parameters.widened(rows, allowed)),
        }
    }

    /// About how many rows a search with these parameters comes across.
    fn rows_scored(&self, parameters: Parameters) -> usize {
        let scored = match self.nlist() {
            0 => parameters.ef_search as usize * GRAPH_ROWS_AN_ENTRY,
            nlist => parameters.nprobe.max(1) as usize * self.rows().div_ceil(nlist),
        };
        scored.min(self.rows())
    }

    fn check_rows(&self, rows: &Matrix) -> Result<(), AnnError> {
        match (rows.rows(), rows.dim()) {
            shape if shape == (self.rows(), self.dim()) => Ok(()),
            (_, found) if found != self.dim() => Err(AnnError::WrongDimension { expected: self.dim(), found }),
            (found, _) => Err(AnnError::WrongRows { expected: self.rows(), found }),
        }
    }
}

impl Plan {
    /// How so many rows that may be found are looked for.
    fn of(index: &Index, query: &Query, step: &Step, scan_rows: usize, count: usize) -> Self {
        let (rows, k) = (index.rows(), query.k.min(count));
        let parameters = query.parameters.or(step.parameters);
        if query.exact || index.kind() == Kind::Flat || count <= 2 * candidates(index.kind(), step, k) {
            return Self::Scan;
        }
        let has_cells = index.kind().has_cells();
        // A graph is walked only where that costs less than a scan.
        let visit = |parameters| match has_cells || graph_reads(parameters, k) < count {
            true => Self::Visit(parameters),
            false => Self::Scan,
        };
        if count == rows {
            return visit(parameters);
        }
        if count <= scan_rows {
            return Self::Scan;
        }
        let widened = visit(parameters.widened(rows, count));
        let is_asked_for = if has_cells { query.parameters.nprobe > 0 } else { query.parameters.ef_search > 0 };
        match (has_cells, step.margin, step.graph_share) {
            _ if is_asked_for => widened,
            (true, Some(margin), _) => Self::Within(margin),
            (false, _, Some(share)) if count as f32 >= share * rows as f32 => widened,
            (_, None, None) if rows - count <= rows / UNCALIBRATED_ONE_IN => widened,
            _ => Self::Scan,
        }
    }
}

/// As many candidates as have to be scored exactly to have the k best among them.
fn candidates(kind: Kind, step: &Step, k: usize) -> usize {
    match kind {
        Kind::IvfPqFsRefine => k * step.over_fetch(),
        Kind::IvfSq8 => k + k / BYTES_OVER_FETCH_ONE_IN + BYTES_OVER_FETCH,
        Kind::Flat | Kind::IvfFlat | Kind::Hnsw => k,
    }
}

/// What the walk of a graph for k hits costs, in rows that are read.
fn graph_reads(parameters: Parameters, k: usize) -> usize {
    let entries = k.max(parameters.ef_search as usize);
    entries.saturating_mul(GRAPH_ROWS_AN_ENTRY + entries / GRAPH_ENTRIES_A_ROW)
}

impl Found {
    fn scanned(hits: Vec<Hit>, sieve: &Sieve) -> Self {
        Self { hits, mode: Mode::Scan, visited_rows: sieve.count() }
    }
}

/// A query whose mask and step are known.
struct Ask<'a> {
    index: &'a Index,
    rows: Rows<'a>,
    query: &'a Query<'a>,
    k: usize,
    sieve: &'a Sieve<'a>,
    step: &'a Step,
}

impl Ask<'_> {
    fn run(&self, plan: Plan) -> Result<Found, AnnError> {
        let found = self.run_at_first(plan)?;
        if found.hits.len() < self.k { self.scan() } else { Ok(found) }
    }

    fn run_at_first(&self, plan: Plan) -> Result<Found, AnnError> {
        // Neither a search that is soon over nor Faiss looks at the clock.
        self.query.stop.check()?;
        match plan {
            Plan::Scan => self.scan(),
            Plan::Visit(parameters) => self.visit(parameters),
            Plan::Within(margin) => self.within(margin),
        }
    }

    fn scan(&self) -> Result<Found, AnnError> {
        let mut hits = scan_sieved(self.rows, &[self.query.vector], self.k, self.sieve, self.query.stop)?;
        Ok(Found::scanned(hits.pop().unwrap_or_default(), self.sieve))
    }

    fn visit(&self, parameters: Parameters) -> Result<Found, AnnError> {
        let (query, index) = (self.query, self.index);
        if index.kind() == Kind::Hnsw || index.kind() == Kind::IvfPqFsRefine {
            let (query, k, stop) = (query.vector, self.candidates(), query.stop);
            let hits = index.visit(&Visit { query, k, sieve: self.sieve, parameters, stop })?;
            let mode = if index.kind() == Kind::Hnsw { Mode::Graph } else { Mode::Cells };
            return Ok(Found { hits: self.best(hits), mode, visited_rows: 0 });
        }
        self.cells(Reach::Cells(parameters.nprobe.max(1) as usize), Mode::Cells)
    }

    fn within(&self, margin: f32) -> Result<Found, AnnError> {
        self.cells(Reach::Margin(margin), Mode::Masked)
    }

    fn cells(&self, reach: Reach, mode: Mode) -> Result<Found, AnnError> {
        let query = self.query;
        let Some((ivf, bytes)) = self.index.ivf() else { return self.scan() };
        // A fast scan's codes are read by Faiss alone: rows of the matrix are scored.
        let rows = (self.index.kind() == Kind::IvfPqFsRefine).then_some(self.rows);
        let k = if rows.is_some() { self.k } else { self.candidates() };
        let search = Search { query: query.vector, k, sieve: self.sieve, reach, rows, stop: query.stop };
        let (mut hits, Visited { rows: visited_rows, .. }) = ivf.search(bytes, &search)?;
        if rows.is_some() || ivf.is_exact() {
            hits.sort_unstable_by(best_first);
        } else {
            hits = self.best(hits);
        }
        Ok(Found { hits, mode, visited_rows })
    }

    fn candidates(&self) -> usize {
        candidates(self.index.kind(), self.step, self.k)
    }

    /// The k best of some candidates by their exact scores.
    fn best(&self, mut candidates: Vec<Hit>) -> Vec<Hit> {
        self.rows.score_hits(self.query.vector, &mut candidates);
        let mut top = Top::new(self.k);
        candidates.into_iter().for_each(|hit| top.offer(hit));
        top.into_sorted()
    }
}
