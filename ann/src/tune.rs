//! Search parameters tuned to a target recall_at_k, measured against exact search.

use crate::{
    AnnError, Hit, Index, Matrix,
    scan::{exact_many, score_rows},
    spec::{Kind, Parameters},
};

/// What tuning came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The cheapest parameters that reach the target, or else the most thorough ones.
    pub parameters: Parameters,
    /// recall_at_k of approximate against exact search with them, 0 to 1.
    pub recall_at_k: f64,
}

/// Raises the parameters step by step until recall_at_k of the queries reaches the target.
///
/// Queries should be what will be searched: user and item embeddings are distributed differently, and items flatter.
pub fn tune(index: &Index, rows: &Matrix, queries: &Matrix, k: usize, target: f64) -> Result<Tuned, AnnError> {
    let exact = exact_many(rows, queries, k, threads())?;
    let mut tuned = Tuned { parameters: Parameters::default(), recall_at_k: 0.0 };
    for parameters in ladder(index) {
        tuned = Tuned { parameters, recall_at_k: recall_of(index, rows, queries, &exact, parameters)? };
        if tuned.recall_at_k >= target {
            break;
        }
    }
    Ok(tuned)
}

/// The share of the exact hits that were found; a row that scores as much as the last exact hit counts as one. 1 when there are none to find.
pub fn recall_at_k(found: &[Hit], exact: &[Hit]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let tolerance = 1e-6;
    let right = found.iter().filter(|hit| hit.score >= last.score - tolerance).count();
    right.min(exact.len()) as f64 / exact.len() as f64
}

fn recall_of(
    index: &Index,
    rows: &Matrix,
    queries: &Matrix,
    exact: &[Vec<Hit>],
    parameters: Parameters,
) -> Result<f64, AnnError> {
    let mut sum = 0.0;
    for (number, exact) in (0..).zip(exact) {
        let query = queries.row(number);
        let mut found = index.search(query, exact.len(), None, parameters)?;
        score_rows(rows, query, &mut found)?;
        sum += recall_at_k(&found, exact);
    }
    Ok(sum / exact.len().max(1) as f64)
}

/// Parameters from careless to thorough: each about half again as much as the one before.
fn ladder(index: &Index) -> Vec<Parameters> {
    let steps = |from: u32, to: u32| {
        let next = move |n: &u32| (*n < to).then(|| (n + n.div_ceil(2)).min(to));
        std::iter::successors(Some(from.min(to)), next)
    };
    match index.kind() {
        Kind::Flat => vec![Parameters::default()],
        Kind::IvfFlat | Kind::IvfSq8 => {
            steps(1, index.nlist() as u32).map(|nprobe| Parameters { nprobe, ef_search: 0 }).collect()
        }
        Kind::Hnsw => steps(32, 2048).map(|ef_search| Parameters { nprobe: 0, ef_search }).collect(),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
