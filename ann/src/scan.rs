//! Exact search: every allowed row is scored.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use crate::{AnnError, Bitmap, Hit, Matrix, check_vector, ffi};

/// Rows scored before the best are picked from them; their scores fit in the first-level cache.
const BLOCK_ROWS: usize = 1024;

/// A hit in the order of a queue: greater is better.
#[derive(PartialEq)]
struct Ranked(Hit);

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first(&other.0, &self.0)
    }
}

/// The k best of the allowed rows (all, without a bitmap), best first, ties by row.
pub fn scan(rows: &Matrix, query: &[f32], k: usize, allowed: Option<&Bitmap>) -> Result<Vec<Hit>, AnnError> {
    check_vector(query, rows.dim())?;
    if let Some(found) = allowed.map(Bitmap::rows).filter(|found| *found != rows.rows()) {
        return Err(AnnError::WrongBitmap { expected: rows.rows(), found });
    }
    match allowed {
        Some(allowed) if allowed.count() < rows.rows() / 4 => Ok(scan_few(rows, query, k, allowed)),
        _ => Ok(scan_blocks(rows, query, k, allowed)),
    }
}

/// The inner product of a query with every row, `[rows]`.
pub fn scores(rows: &Matrix, query: &[f32]) -> Result<Vec<f32>, AnnError> {
    check_vector(query, rows.dim())?;
    let mut scores = vec![0.0; rows.rows()];
    ffi::scores(query, rows.values(), &mut scores);
    Ok(scores)
}

/// The exact nearest k rows of many queries at once: `[queries][k]`, each best first. Much faster a query than [`scan`].
pub fn exact_many(rows: &Matrix, queries: &Matrix, k: usize, threads: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
    ffi::exact(queries, rows, k, threads)
}

/// Sets each hit's score to the exact one, and sorts anew.
pub fn score_rows(rows: &Matrix, query: &[f32], hits: &mut [Hit]) -> Result<(), AnnError> {
    check_vector(query, rows.dim())?;
    for hit in hits.iter_mut() {
        hit.score = score(rows, query, hit.row);
    }
    hits.sort_unstable_by(best_first);
    Ok(())
}

/// Descending score, NaN last, ties by row.
pub(crate) fn best_first(a: &Hit, b: &Hit) -> Ordering {
    let nan_last = a.score.is_nan().cmp(&b.score.is_nan());
    nan_last.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.row.cmp(&b.row))
}

fn scan_few(rows: &Matrix, query: &[f32], k: usize, allowed: &Bitmap) -> Vec<Hit> {
    best_of(k, allowed.iter().map(|row| Hit { row, score: score(rows, query, row) }))
}

fn scan_blocks(rows: &Matrix, query: &[f32], k: usize, allowed: Option<&Bitmap>) -> Vec<Hit> {
    let blocks = rows.values().chunks(BLOCK_ROWS * rows.dim()).enumerate();
    let hits = blocks.flat_map(|(block, values)| {
        let mut scores = vec![0.0; values.len() / rows.dim()];
        ffi::scores(query, values, &mut scores);
        let first = (block * BLOCK_ROWS) as u32;
        (first..).zip(scores).map(|(row, score)| Hit { row, score })
    });
    best_of(k, hits.filter(|hit| allowed.is_none_or(|allowed| allowed.contains(hit.row))))
}

fn score(rows: &Matrix, query: &[f32], row: u32) -> f32 {
    let mut score = [0.0];
    ffi::scores(query, rows.row(row), &mut score);
    score[0]
}

fn best_of(k: usize, hits: impl Iterator<Item = Hit>) -> Vec<Hit> {
    let mut best: BinaryHeap<Reverse<Ranked>> = BinaryHeap::new();
    for hit in hits {
        if best.len() < k {
            best.push(Reverse(Ranked(hit)));
        } else if let Some(mut worst) = best.peek_mut().filter(|worst| best_first(&hit, &worst.0.0).is_lt()) {
            worst.0.0 = hit;
        }
    }
    best.into_sorted_vec().into_iter().map(|Reverse(Ranked(hit))| hit).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_sorting_finds(
            values in prop::collection::vec(-2i8..=2, 3..3000), k in 0usize..40, masked: bool, stride in 1u32..9,
        ) {
            let values: Vec<f32> = values[..values.len() / 3 * 3].iter().map(|v| f32::from(*v)).collect();
            let rows = Matrix::new(3, values).unwrap();
            let mut allowed = Bitmap::none(rows.rows());
            (0..rows.rows() as u32).step_by(stride as usize).for_each(|row| allowed.insert(row));
            let query = [1.0, -0.5, 0.25];
            let dot = |row: u32| rows.row(row).iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
            let mut expected: Vec<_> = (0..rows.rows() as u32).filter(|row| !masked || allowed.contains(*row)).collect();
            expected.sort_by(|a, b| dot(*b).total_cmp(&dot(*a)).then(a.cmp(b)));
            expected.truncate(k);
            let found = scan(&rows, &query, k, masked.then_some(&allowed)).unwrap();
            prop_assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), expected);
            prop_assert!(found.iter().all(|hit| hit.score == dot(hit.row)));
        }
    }

    #[test]
    fn nan_is_last() {
        let hit = |row, score| Hit { row, score };
        let mut hits = [hit(0, f32::NAN), hit(1, -1.0), hit(2, 3.0), hit(3, -f32::NAN)];
        hits.sort_by(best_first);
        assert_eq!(hits.map(|hit| hit.row)[..2], [2, 1]);
    }
}
