//! Rows and queries for tests: random, and clustered as learned embeddings are.

#![allow(dead_code)]

use std::ops::ControlFlow;

use pagoda_ann::{Goal, Hit, Index, Kind, Matrix, Parameters, Spec, Step, TuneOptions, scan, tune_goals};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Unit rows in any direction.
pub(crate) fn random_unit_rows(rows: usize, dim: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    matrix(dim, (0..rows).map(|_| noise(&mut rng, dim, 1.0)))
}

/// Unit rows around centres that are drawn again and again by the same seed, with so much noise around them.
pub(crate) fn clustered_unit_rows(rows: usize, dim: usize, seed: u64, noise_share: f32) -> Matrix {
    let mut centres = ChaCha8Rng::seed_from_u64(77);
    let centres: Vec<_> = (0..60).map(|_| noise(&mut centres, dim, 1.0)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = |rng: &mut ChaCha8Rng| {
        let centre = &centres[rng.random_range(0..centres.len())];
        let noise = noise(rng, dim, noise_share);
        centre.iter().zip(noise).map(|(c, n)| c + n).collect()
    };
    matrix(dim, (0..rows).map(|_| row(&mut rng)))
}

/// An index of a kind over all rows.
pub(crate) fn build(kind: Kind, rows: &Matrix) -> Index {
    Index::build(&Spec::of_kind(kind, rows.rows()), rows, 2).unwrap()
}

/// Parameters that leave nothing out.
pub(crate) fn thorough(index: &Index) -> Parameters {
    Parameters { nprobe: index.nlist() as u32, ef_search: 500 }
}

/// What tuning to one goal, without filters, comes to.
pub(crate) fn tuned(index: &Index, rows: &Matrix, queries: &Matrix, goal: Goal) -> Step {
    let options = TuneOptions { goals: vec![goal], filter_queries_max: 0, ..TuneOptions::default() };
    tune_goals(index, rows, queries, &options, &mut |_| ControlFlow::Continue(())).unwrap().at(goal.k)
}

/// The same hits with exact scores.
pub(crate) fn scored(rows: &Matrix, query: &[f32], hits: &[Hit]) -> Vec<Hit> {
    let all = scan(rows, query, rows.rows(), None).unwrap();
    all.into_iter().filter(|exact| hits.iter().any(|hit| hit.row == exact.row)).collect()
}

fn noise(rng: &mut ChaCha8Rng, dim: usize, size: f32) -> Vec<f32> {
    (0..dim).map(|_| rng.random_range(-size..size)).collect()
}

fn matrix(dim: usize, rows: impl Iterator<Item = Vec<f32>>) -> Matrix {
    let mut matrix = Matrix::empty(dim);
    for row in rows {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        matrix.push(&row.iter().map(|v| v / norm).collect::<Vec<_>>()).unwrap();
    }
    matrix
}
