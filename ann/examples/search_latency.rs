//! Times searches of 100,000 random rows of 64 values, one after the other on one thread: flat, inverted lists, an exact scan.
//! The rows lie around centres, as learned embeddings do.

use std::time::Instant;

use pagoda_ann::{AnnError, Index, Kind, Matrix, Spec, scan, tune};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 100_000;
const DIM: usize = 64;
const QUERIES: usize = 200;
const K: usize = 100;

fn main() -> Result<(), AnnError> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (rows, queries) = (clustered(&mut rng, ROWS)?, clustered(&mut rng, QUERIES)?);
    for kind in [Kind::Flat, Kind::IvfFlat, Kind::IvfSq8] {
        let began = Instant::now();
        let index = Index::build(&Spec::of_kind(kind, ROWS), &rows, 2)?;
        let build_s = began.elapsed().as_secs_f64();
        let tuned = tune(&index, &rows, &queries, K, 0.98)?;
        let us = time(&queries, |query| index.search(query, K, None, tuned.parameters).map(drop))?;
        println!("{kind:?}: {us:.0} us a search, built in {build_s:.1} s, {tuned:?}");
    }
    let us = time(&queries, |query| scan(&rows, query, K, None).map(drop))?;
    println!("exact scan: {us:.0} us a search");
    Ok(())
}

/// Unit rows around 500 centres, as learned embeddings are.
fn clustered(rng: &mut ChaCha8Rng, rows: usize) -> Result<Matrix, AnnError> {
    let mut centres = ChaCha8Rng::seed_from_u64(2);
    let centres: Vec<f32> = (0..500 * DIM).map(|_| centres.random_range(-1.0..1.0)).collect();
    let mut matrix = Matrix::empty(DIM);
    for _ in 0..rows {
        let centre = rng.random_range(0..500) * DIM;
        let row: Vec<f32> = centres[centre..][..DIM].iter().map(|v| v + rng.random_range(-1.0..1.0)).collect();
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        matrix.push(&row.iter().map(|v| v / norm).collect::<Vec<_>>())?;
    }
    Ok(matrix)
}

/// Microseconds a query.
fn time(queries: &Matrix, mut search: impl FnMut(&[f32]) -> Result<(), AnnError>) -> Result<f64, AnnError> {
    let began = Instant::now();
    (0..queries.rows() as u32).try_for_each(|query| search(queries.row(query)))?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / queries.rows() as f64)
}
