//! Search parameters tuned to target recalls, measured against exact search; with and without filters.

use std::ops::ControlFlow;

use crate::{
    AnnError, Hit, Index, Kind, Matrix, Parameters, Query, Step, Tuning, calibrate::Filters, order::Order,
    scan::exact_many,
};

/// Queries whose exact hits are found between two looks at whether to go on.
const EXACT_QUERIES: usize = 16;
/// Times that a guess is raised before it counts as not reached.
const RAISES: usize = 12;
/// Of all rows, where at most one in so many may be found, just those are scanned.
const SCAN_ONE_IN: usize = 50;
const OVER_FETCHES: [u32; 3] = [4, 8, 16];
const EF_SEARCH_LIMIT: u32 = 4096;

/// A recall to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Hits wanted.
    pub k: usize,
    /// recall_at_k of approximate against exact search, 0 to 1.
    pub recall_at_k: f64,
}

/// How an index is tuned.
#[derive(Clone, Debug)]
pub struct TuneOptions {
    /// By ascending k.
    pub goals: Vec<Goal>,
    /// Of the queries given, so many are taken, evenly.
    pub queries_max: usize,
    /// Of these, so many are searched with filters, evenly.
    pub filter_queries_max: usize,
    /// Threads for exact search.
    pub threads: usize,
}

/// How far tuning has come, 0 to 1.
pub type Progress = f64;

impl Default for TuneOptions {
    fn default() -> Self {
        let goals = vec![Goal { k: 100, recall_at_k: 0.98 }, Goal { k: 500, recall_at_k: 0.95 }];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { goals, queries_max: 200, filter_queries_max: 50, threads }
    }
}

/// Finds, for every goal, the parameters that reach it: without a filter, and with filters of several selectivities, also such that go
/// with the cells. Costs two exact searches a query and filter, and a few approximate ones. The observer is told how far it has
/// come, and has it end with [`AnnError::Cancelled`] by `Break`.
///
/// Queries should be what will be searched: user and item embeddings are distributed differently, and items flatter.
pub fn tune_goals(
    index: &Index,
    rows: &Matrix,
    queries: &Matrix,
    options: &TuneOptions,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tuning, AnnError> {
    let queries = sample(queries, options.queries_max)?;
    let goals: Vec<_> = options.goals.iter().map(|goal| Goal { k: goal.k.min(rows.rows()), ..*goal }).collect();
    let k_max = goals.iter().map(|goal| goal.k).max().unwrap_or(0);
    let exact = exact_hits(rows, &queries, k_max, options.threads, &mut |share| observe(share * 0.4))?;
    let of = Truth::new(index, rows, &queries, exact);
    let mut steps = Vec::new();
    for goal in goals {
        steps.push(of.unfiltered_step(goal)?);
        going_on(observe(0.5))?;
    }
    let scan_rows = rows.rows() / SCAN_ONE_IN;
    let mut tuning = Tuning::new(queries.rows(), steps, scan_rows);
    let queries = sample(&queries, options.filter_queries_max)?;
    if queries.rows() > 0 && index.kind() != Kind::Flat {
        Filters { index, rows, queries: &queries }.calibrate(&mut tuning, &mut |share| observe(0.5 + share / 2.0))?;
    }
    Ok(tuning)
}

/// The share of the exact hits that were found; a row that scores as much as the last exact hit counts as one. 1 when there are none to find.
pub fn recall_at_k(found: &[Hit], exact: &[Hit]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let tolerance = 1e-6;
    let right = found.iter().filter(|hit| hit.score >= last.score - tolerance).count();
    right.min(exact.len()) as f64 / exact.len() as f64
}

fn sample(queries: &Matrix, most: usize) -> Result<Matrix, AnnError> {
    let n = queries.rows().min(most);
    let mut some = Matrix::empty(queries.dim());
    for at in 0..n {
        some.push(queries.row((at * queries.rows() / n) as u32))?;
    }
    Ok(some)
}

pub(crate) fn going_on(flow: ControlFlow<()>) -> Result<(), AnnError> {
    if flow.is_break() { Err(AnnError::Cancelled) } else { Ok(()) }
}

fn exact_hits(
    rows: &Matrix,
    queries: &Matrix,
    k: usize,
    threads: usize,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Vec<Vec<Hit>>, AnnError> {
    let mut exact = Vec::with_capacity(queries.rows());
    for some in queries.values().chunks(EXACT_QUERIES * queries.dim()) {
        exact.extend(exact_many(rows, &Matrix::new(queries.dim(), some.to_vec())?, k, threads)?);
        going_on(observe(exact.len() as f64 / queries.rows() as f64))?;
    }
    Ok(exact)
}

/// A mean recall, and how far it may be off by the choice of queries.
struct Measured {
    recall_at_k: f64,
    standard_error: f64,
}

impl Measured {
    fn of(recalls: &[f64]) -> Self {
        let n = recalls.len().max(1) as f64;
        let recall_at_k = recalls.iter().sum::<f64>() / n;
        let variance = recalls.iter().map(|recall| (recall - recall_at_k).powi(2)).sum::<f64>() / n;
        Self { recall_at_k, standard_error: (variance / n).sqrt() }
    }
}

/// Queries with their exact hits.
struct Truth<'a> {
    index: &'a Index,
    rows: &'a Matrix,
    queries: &'a Matrix,
    exact: Vec<Vec<Hit>>,
}

impl<'a> Truth<'a> {
    fn new(index: &'a Index, rows: &'a Matrix, queries: &'a Matrix, exact: Vec<Vec<Hit>>) -> Self {
        Self { index, rows, queries, exact }
    }

    /// The cheapest step that reaches the goal, or the most thorough.
    fn unfiltered_step(&self, goal: Goal) -> Result<Step, AnnError> {
        let mut last = Step::default();
        for (parameters, over_fetch) in self.ladder(goal).into_iter() {
            let step = Step { k: goal.k, target: goal.recall_at_k, parameters, over_fetch, ..Step::default() };
            let Measured { recall_at_k, standard_error } = self.recall(&step)?;
            last = Step { recall_at_k, reached: recall_at_k >= goal.recall_at_k, ..step };
            // Other queries than these come, so that reaching the target by chance does not do.
            if recall_at_k - standard_error >= goal.recall_at_k {
                break;
            }
        }
        Ok(last)
    }

    /// Parameters to be tried, from the cheapest that may do to the most thorough.
    fn ladder(&self, goal: Goal) -> Vec<(Parameters, u32)> {
        let cells = |nprobe| Parameters { nprobe, ef_search: 0 };
        match self.index.kind() {
            Kind::Flat => vec![(Parameters::default(), 0)],
            Kind::Hnsw => {
                let first = (goal.k as u32).clamp(32, EF_SEARCH_LIMIT);
                raised(first, EF_SEARCH_LIMIT, 3).map(|ef_search| (Parameters { nprobe: 0, ef_search }, 0)).collect()
            }
            Kind::IvfFlat | Kind::IvfSq8 => self.probes(goal).map(|nprobe| (cells(nprobe), 0)).collect(),
            Kind::IvfPqFsRefine => {
                let probes: Vec<_> = self.probes(goal).collect();
                let (first, rest) = probes.split_at(2.min(probes.len()));
                let fetched = OVER_FETCHES.into_iter().flat_map(|times| first.iter().map(move |n| (cells(*n), times)));
                fetched.chain(rest.iter().map(|n| (cells(*n), OVER_FETCHES[2]))).collect()
            }
        }
    }

    /// The nprobe that visits the cells of as many exact hits as the goal asks for, and more.
    fn probes(&self, goal: Goal) -> impl Iterator<Item = u32> + use<> {
        let nlist = self.index.nlist();
        let first = self.index.ivf().map_or(1, |(ivf, bytes)| {
            let cells = ivf.cell_of_rows(bytes);
            let mut ranks: Vec<u32> = Vec::new();
            for (number, exact) in (0..).zip(&self.exact) {
                let mut order = Order::new(&ivf.centroid_scores(self.queries.row(number)));
                let mut rank_of = vec![0; nlist];
                (1u32..)
                    .zip(std::iter::from_fn(|| order.next()))
                    .for_each(|(rank, (cell, _))| rank_of[cell as usize] = rank);
                ranks.extend(exact.iter().take(goal.k).map(|hit| rank_of[cells[hit.row as usize] as usize]));
            }
            quantile(&mut ranks, goal.recall_at_k, u32::cmp).unwrap_or(1)
        });
        let fine = raised(first, nlist as u32, 16).take(RAISES);
        fine.chain(raised(first * 4, nlist as u32, 2))
    }

    fn recall(&self, step: &Step) -> Result<Measured, AnnError> {
        let tuning = Tuning::new(0, vec![step.clone()], 0);
        let mut recalls = Vec::with_capacity(self.exact.len());
        for (number, exact) in (0..).zip(&self.exact) {
            let exact = &exact[..exact.len().min(step.k)];
            let query = Query { vector: self.queries.row(number), k: step.k, ..Query::default() };
            recalls.push(recall_at_k(&self.index.find_at_first(self.rows, &tuning, &query)?.hits, exact));
        }
        Ok(Measured::of(&recalls))
    }
}

/// From one number up to another, each raised by at least one in so many.
fn raised(from: u32, to: u32, one_in: u32) -> impl Iterator<Item = u32> {
    let next = move |n: &u32| (*n < to).then(|| (n + n.div_ceil(one_in)).min(to));
    std::iter::successors(Some(from.min(to)), next)
}

/// The least value that this share of the values does not exceed.
pub(crate) fn quantile<T: Copy>(values: &mut [T], share: f64, order: fn(&T, &T) -> std::cmp::Ordering) -> Option<T> {
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    let is_empty = values.is_empty();
    (!is_empty).then(|| *values.select_nth_unstable_by(at, order).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_not_exceeded_by_its_share() {
        assert_eq!(quantile(&mut [5, 1, 4, 2, 3], 0.8, i32::cmp), Some(4));
        assert_eq!(quantile(&mut [5, 1, 4, 2, 3], 1.0, i32::cmp), Some(5));
        assert_eq!(quantile(&mut [5, 1], 0.0, i32::cmp), Some(1));
        assert_eq!(quantile(&mut [], 0.9, i32::cmp), None);
    }

    #[test]
    fn numbers_are_raised_to_the_limit() {
        assert_eq!(raised(3, 10, 2).collect::<Vec<_>>(), [3, 5, 8, 10]);
        assert_eq!(raised(30, 10, 2).collect::<Vec<_>>(), [10]);
    }
}
