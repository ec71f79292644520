//! Exact search: every allowed row is scored.

use crate::{
    AnnError, Bitmap, Hit, Mask, Matrix, Stop, check_vector, ffi,
    kernels::{Ahead, BLOCK_ROWS, Block, Rows},
    mask::Sieve,
    stop::CHECK_ROWS,
    top::Top,
};

/// Blocks scored between two looks at the clock.
pub(crate) const CHECK_BLOCKS: usize = CHECK_ROWS / BLOCK_ROWS;

/// One query of a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanQuery<'a> {
    /// The query vector.
    pub vector: &'a [f32],
    /// Hits that score below it are not wanted; minus infinity: all are.
    pub floor: f32,
}

/// The k best of the allowed rows (all, without a bitmap), best first, ties by row.
pub fn scan(rows: &Matrix, query: &[f32], k: usize, allowed: Option<&Bitmap>) -> Result<Vec<Hit>, AnnError> {
    scan_with(rows, query, k, Mask { allowed, excluded: &[] }, Stop::NEVER)
}

/// The k best of the rows that a mask lets pass, best first, ties by row; [`AnnError::Cancelled`] soon after it is to stop.
pub fn scan_with(rows: &Matrix, query: &[f32], k: usize, mask: Mask, stop: Stop) -> Result<Vec<Hit>, AnnError> {
    let mut hits = scan_many(rows, &[ScanQuery { vector: query, floor: f32::NEG_INFINITY }], k, mask, stop)?;
    Ok(hits.pop().unwrap_or_default())
}

/// [`scan_with`] for several queries that share a mask: `[queries][at most k]`. The rows are read once.
pub(crate) fn scan_many(
    rows: &Matrix,
    queries: &[ScanQuery<'_>],
    k: usize,
    mask: Mask,
    stop: Stop,
) -> Result<Vec<Vec<Hit>>, AnnError> {
    queries.iter().try_for_each(|query| check_vector(query.vector, rows.dim()))?;
    scan_floored(rows, queries, k, &mask.sieve(rows.rows())?, stop)
}

/// [`scan_many`] with queries that were checked.
pub(crate) fn scan_floored(
    rows: &Matrix,
    queries: &[ScanQuery<'_>],
    k: usize,
    sieve: &Sieve,
    stop: Stop,
) -> Result<Vec<Vec<Hit>>, AnnError> {
    let tops = queries.iter().map(|query| Top::from_floor(k.min(sieve.count()), query.floor)).collect();
    let vectors: Vec<_> = queries.iter().map(|query| query.vector).collect();
    scan_into(tops, Rows::of(rows.values(), rows.dim()), &vectors, sieve, stop)
}

/// The inner product of a query with every row, `[rows]`.
pub(crate) fn scores(rows: &Matrix, query: &[f32]) -> Result<Vec<f32>, AnnError> {
    check_vector(query, rows.dim())?;
    let mut scores = vec![0.0; rows.rows()];
    Rows::of(rows.values(), rows.dim()).scores(query, &mut scores);
    Ok(scores)
}

/// The exact nearest k rows of many queries at once: `[queries][k]`, each best first. Much faster a query than [`scan`].
pub fn exact_many(rows: &Matrix, queries: &Matrix, k: usize, threads: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
    ffi::exact(queries, rows, k, threads)
}

/// [`scan_many`] without floors, with queries that were checked, and rows that lie anywhere.
pub(crate) fn scan_sieved(
    rows: Rows,
    queries: &[&[f32]],
    k: usize,
    sieve: &Sieve,
    stop: Stop,
) -> Result<Vec<Vec<Hit>>, AnnError> {
    let tops = queries.iter().map(|_| Top::new(k.min(sieve.count()))).collect();
    scan_into(tops, rows, queries, sieve, stop)
}

fn scan_into(
    mut tops: Vec<Top>,
    rows: Rows,
    queries: &[&[f32]],
    sieve: &Sieve,
    stop: Stop,
) -> Result<Vec<Vec<Hit>>, AnnError> {
    match sieve.looks_first() {
        true => scan_few(rows, queries, &mut tops, sieve, stop)?,
        false => scan_blocks(rows, queries, &mut tops, sieve, stop)?,
    }
    Ok(tops.into_iter().map(Top::into_sorted).collect())
}

fn scan_few(rows: Rows, queries: &[&[f32]], tops: &mut [Top], sieve: &Sieve, stop: Stop) -> Result<(), AnnError> {
    let mut passing = sieve.iter();
    let mut block = Block::new();
    for number in 0.. {
        if number % CHECK_BLOCKS == 0 {
            stop.check()?;
        }
        block.set_positions(passing.by_ref().take(BLOCK_ROWS));
        if block.is_empty() {
            break;
        }
        for (query, top) in queries.iter().zip(tops.iter_mut()) {
            rows.at(query, &mut block);
            block.found().for_each(|(row, score)| top.offer(Hit { row, score }));
        }
    }
    Ok(())
}

fn scan_blocks(rows: Rows, queries: &[&[f32]], tops: &mut [Top], sieve: &Sieve, stop: Stop) -> Result<(), AnnError> {
    let mut block = Block::new();
    for (number, part) in rows.blocks(BLOCK_ROWS).enumerate() {
        if number % CHECK_BLOCKS == 0 {
            stop.check()?;
        }
        let first = (number * BLOCK_ROWS) as u32;
        for (query, top) in queries.iter().zip(tops.iter_mut()) {
            part.above(query, top.threshold(), Ahead::default(), &mut block);
            let hits = block.found().map(|(position, score)| Hit { row: first + position, score });
            hits.filter(|hit| sieve.passes(hit.row)).for_each(|hit| top.offer(hit));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, time::Instant};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_sorting_finds(
            values in prop::collection::vec(-2i8..=2, 3..6000), k in 0usize..40, masked: bool, stride in 1u32..9, excluded in prop::collection::vec(0u32..2000, 0..9), floor in -9i8..9,
        ) {
            let values: Vec<f32> = values[..values.len() / 3 * 3].iter().map(|v| f32::from(*v)).collect();
            let rows = Matrix::new(3, values).unwrap();
            let count = rows.rows() as u32;
            let allowed = Bitmap::of(rows.rows(), (0..count).step_by(stride as usize));
            let queries = [[1.0, -0.5, 0.25], [-1.0, 2.0, 0.5]];
            let mask = Mask { allowed: masked.then_some(&allowed), excluded: &excluded };
            let floors = [f32::NEG_INFINITY, f32::from(floor) / 2.0];
            let wanted = [0, 1].map(|n| ScanQuery { vector: &queries[n], floor: floors[n] });
            let found = scan_many(&rows, &wanted, k, mask, Stop::NEVER).unwrap();
            for (ScanQuery { vector: query, floor }, found) in wanted.into_iter().zip(found) {
                let dot = |row: u32| rows.row(row).iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
                let mut expected: Vec<_> = (0..count).filter(|row| (!masked || allowed.contains(*row)) && !excluded.contains(row)).collect();
                expected.sort_by(|a, b| dot(*b).total_cmp(&dot(*a)).then(a.cmp(b)));
                expected.retain(|row| dot(*row) >= floor);
                expected.truncate(k);
                prop_assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), expected);
                prop_assert!(found.iter().all(|hit| hit.score == dot(hit.row)));
            }
        }
    }

    #[test]
    fn a_scan_ends_when_its_caller_has_gone_or_its_time_is_up() {
        let rows = Matrix::new(1, vec![1.0; 100_000]).unwrap();
        let (few, raised) = (Bitmap::of(100_000, 0..20_000), AtomicBool::new(true));
        for allowed in [None, Some(&few)] {
            let mask = Mask { allowed, excluded: &[] };
            let scan = |stop| scan_with(&rows, &[1.0], 3, mask, stop);
            assert_eq!(scan(Stop { deadline: Some(Instant::now()), cancelled: None }), Err(AnnError::Cancelled));
            assert_eq!(scan(Stop { deadline: None, cancelled: Some(&raised) }), Err(AnnError::Cancelled));
            assert_eq!(scan(Stop::NEVER).unwrap().len(), 3);
        }
    }
}
