//! Searches under filters, calibrated: how far above its centroid's score a row may lie, and from which share on a graph is walked.

use std::ops::ControlFlow;

use crate::{
    AnnError, Bitmap, FilterKind, Filtered, Hit, Index, Mask, Matrix, Query, Step, Stop, Tuning,
    filters::{CalibrationFilter, calibration_filters},
    ivf::norm,
    scan::scan_with,
    tune::{Progress, going_on, quantile, recall_at_k},
};

/// Times that a margin is raised before there is none.
const RAISES: usize = 12;
/// Where filtered searches came out below the target, the margin is raised by this share.
const MARGIN_RAISE: f32 = 1.12;

/// An index, and queries to search it with under filters.
pub(crate) struct Filters<'a> {
    pub(crate) index: &'a Index,
    pub(crate) rows: &'a Matrix,
    pub(crate) queries: &'a Matrix,
}

impl Filters<'_> {
    /// Sets each step's margin or share, and what was measured with it.
    pub(crate) fn calibrate(
        &self,
        tuning: &mut Tuning,
        observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), AnnError> {
        let filters = calibration_filters(self.rows, self.queries)?;
        let k_max = tuning.steps.iter().map(|step| step.k).max().unwrap_or(0);
        let mut exact = Vec::new();
        for (done, filter) in filters.iter().enumerate() {
            exact.push(self.exact(&filter.allowed, k_max)?);
            going_on(observe((done + 1) as f64 / filters.len() as f64 * 0.7))?;
        }
        let cells = self.index.ivf().map(|(ivf, bytes)| ivf.cell_of_rows(bytes));
        for at in 0..tuning.steps.len() {
            let step = &mut tuning.steps[at];
            match &cells {
                Some(cells) => self.calibrate_margin(step, &filters, &exact, cells)?,
                None => self.calibrate_share(step, &filters, &exact)?,
            }
            step.reached &= step.filtered.iter().all(|filtered| filtered.recall_at_k >= step.target);
            going_on(observe(0.7 + 0.3 * (at + 1) as f64 / tuning.steps.len() as f64))?;
        }
        Ok(())
    }

    fn exact(&self, allowed: &Bitmap, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        let queries = (0..self.queries.rows() as u32).map(|number| self.queries.row(number));
        queries.map(|query| scan_with(self.rows, query, k, Mask::of(allowed), Stop::NEVER)).collect()
    }

    /// The least margin with which as many exact hits as the goal asks for lie in cells that are visited, under every filter; then, since
    /// codes have their own losses, raised until searches reach the goal. Where none does, there is none: filters are scanned.
    fn calibrate_margin(
        &self,
        step: &mut Step,
        filters: &[CalibrationFilter],
        exact: &[Vec<Vec<Hit>>],
        cells: &[u32],
    ) -> Result<(), AnnError> {
        let needed = exact.iter().filter_map(|exact| self.margin_for(step, exact, cells));
        let mut margin = needed.fold(0.0f32, f32::max);
        for _ in 0..RAISES {
            step.margin = Some(margin);
            step.filtered = self.measure(step, filters, exact)?;
            if step.filtered.iter().all(|filtered| filtered.recall_at_k >= step.target) {
                return Ok(());
            }
            margin = margin.max(f32::MIN_POSITIVE) * MARGIN_RAISE + 1e-3;
        }
        step.margin = None;
        step.filtered = self.measure(step, filters, exact)?;
        Ok(())
    }

    fn margin_for(&self, step: &Step, exact: &[Vec<Hit>], cells: &[u32]) -> Option<f32> {
        let (ivf, _) = self.index.ivf()?;
        let mut needed = Vec::new();
        for (number, exact) in (0..).zip(exact) {
            let query = self.queries.row(number);
            let (centroids, length) = (ivf.centroid_scores(query), norm(query).max(f32::MIN_POSITIVE));
            let exact = &exact[..exact.len().min(step.k)];
            let kth = exact.last().map_or(0.0, |last| last.score);
            needed.extend(exact.iter().map(|hit| (kth - centroids[cells[hit.row as usize] as usize]) / length));
        }
        quantile(&mut needed, step.target, f32::total_cmp)
    }

    /// The least share of allowed rows from which on the graph reaches the goal under every filter.
    fn calibrate_share(
        &self,
        step: &mut Step,
        filters: &[CalibrationFilter],
        exact: &[Vec<Vec<Hit>>],
    ) -> Result<(), AnnError> {
        step.graph_share = Some(0.0);
        let searched = self.measure(step, filters, exact)?;
        let missed = searched.iter().filter(|filtered| filtered.recall_at_k < step.target);
        let largest_missed = missed.map(|filtered| filtered.share as f32).fold(-1.0, f32::max);
        let above = searched.iter().map(|filtered| filtered.share as f32).filter(|share| *share > largest_missed);
        step.graph_share = above.reduce(f32::min);
        step.filtered = self.measure(step, filters, exact)?;
        Ok(())
    }

    fn measure(
        &self,
        step: &Step,
        filters: &[CalibrationFilter],
        exact: &[Vec<Vec<Hit>>],
    ) -> Result<Vec<Filtered>, AnnError> {
        let tuning = Tuning::new(0, vec![step.clone()], 0);
        filters.iter().zip(exact).map(|(filter, exact)| self.measure_one(&tuning, step.k, filter, exact)).collect()
    }

    fn measure_one(
        &self,
        tuning: &Tuning,
        k: usize,
        filter: &CalibrationFilter,
        exact: &[Vec<Hit>],
    ) -> Result<Filtered, AnnError> {
        let (mut recall, mut visited) = (0.0, 0);
        for (number, exact) in (0..).zip(exact) {
            let query =
                Query { vector: self.queries.row(number), k, mask: Mask::of(&filter.allowed), ..Query::default() };
            let found = self.index.find_at_first(self.rows, tuning, &query)?;
            recall += recall_at_k(&found.hits, &exact[..exact.len().min(k)]);
            visited += found.visited_rows;
        }
        let (n, rows) = (exact.len().max(1) as f64, self.rows.rows() as f64);
        let share = filter.allowed.count() as f64 / rows;
        Ok(Filtered { filter: filter.kind, share, recall_at_k: recall / n, visited: visited as f64 / n / rows })
    }
}

impl FilterKind {
    /// Whether it goes with where the rows lie.
    pub fn is_correlated(self) -> bool {
        self != Self::Random
    }
}
