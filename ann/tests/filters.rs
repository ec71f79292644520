//! Filtered search keeps its recall at every selectivity, also where the filter goes with the cells or lies far from the query.

#![allow(clippy::unwrap_used)]

mod data;

use std::ops::ControlFlow;

use pagoda_ann::{
    AnnError, Bitmap, FilterKind, Goal, Index, Kind, Mask, Matrix, Mode, Parameters, Query, TuneOptions, Tuning,
    recall_at_k, scan, tune_goals,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::{build, clustered_unit_rows};

const ROWS: usize = 20_000;
const DIM: usize = 16;
const K: usize = 50;
const TARGET: f64 = 0.95;
/// Of all rows, in ten thousand.
const SHARES: [usize; 6] = [9_000, 5_000, 1_000, 100, 10, 1];

fn options() -> TuneOptions {
    let goals = vec![Goal { k: K, recall_at_k: TARGET }, Goal { k: 200, recall_at_k: TARGET }];
    TuneOptions { goals, queries_max: 60, filter_queries_max: 30, threads: 2 }
}

fn tuned(index: &Index, rows: &Matrix) -> Tuning {
    // Users lie around the items' centres, but wider.
    let users = clustered_unit_rows(60, DIM, 3, 2.0);
    tune_goals(index, rows, &users, &options(), &mut |_| ControlFlow::Continue(())).unwrap()
}

/// The rows nearest to a place, or farthest from it.
fn around(rows: &Matrix, place: &[f32], count: usize, nearest: bool) -> Bitmap {
    let place: Vec<f32> = place.iter().map(|v| if nearest { *v } else { -v }).collect();
    Bitmap::of(rows.rows(), scan(rows, &place, count, None).unwrap().into_iter().map(|hit| hit.row))
}

fn masks(rows: &Matrix, users: &Matrix, share: usize) -> Vec<(&'static str, Bitmap)> {
    let count = (ROWS * share / 10_000).max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(share as u64);
    let random = Bitmap::of(ROWS, (0..ROWS as u32).filter(|_| rng.random_range(0..10_000) < share));
    let elsewhere = clustered_unit_rows(1, DIM, 99, 0.1);
    vec![
        ("random", random),
        ("near the first user", around(rows, users.row(0), count, true)),
        ("far from the first user", around(rows, users.row(0), count, false)),
        ("around another place", around(rows, elsewhere.row(0), count, true)),
    ]
}

#[test]
fn recall_stays_at_the_target_at_every_selectivity() {
    let rows = clustered_unit_rows(ROWS, DIM, 1, 0.7);
    let users = clustered_unit_rows(40, DIM, 2, 2.0);
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        let tuning = tuned(&index, &rows);
        assert!(tuning.steps.iter().all(|step| step.reached), "{kind:?}: {tuning:?}");
        for share in SHARES {
            for (name, allowed) in masks(&rows, &users, share) {
                let recall = |user| {
                    let query = Query { vector: users.row(user), k: K, mask: Mask::of(&allowed), ..Query::default() };
                    let found = index.find(&rows, &tuning, &query).unwrap();
                    assert!(found.hits.iter().all(|hit| allowed.contains(hit.row)));
                    assert_eq!(found.hits.len(), K.min(allowed.count()));
                    recall_at_k(&found.hits, &scan(&rows, users.row(user), K, Some(&allowed)).unwrap())
                };
                let recall = (0..40).map(recall).sum::<f64>() / 40.0;
                // Forty users are few: a hundredth below is within chance.
                assert!(recall >= TARGET - 0.01, "{kind:?}, {share} in ten thousand, {name}: {recall}");
            }
        }
    }
}

#[test]
fn few_allowed_rows_are_scanned_and_many_are_searched() {
    let rows = clustered_unit_rows(ROWS, DIM, 1, 0.7);
    let users = clustered_unit_rows(20, DIM, 2, 2.0);
    for kind in [Kind::IvfFlat, Kind::IvfSq8, Kind::IvfPqFsRefine] {
        let index = build(kind, &rows);
        let tuning = tuned(&index, &rows);
        // How, how many rows on average, and what was told before.
        let visited = |step_by: usize, exact: bool| {
            let allowed = Bitmap::of(ROWS, (0..ROWS as u32).step_by(step_by));
            let mask = if step_by == 1 { Mask::default() } else { Mask::of(&allowed) };
            let ask = |user| Query { vector: users.row(user), k: K, mask, exact, ..Query::default() };
            let found: Vec<_> = (0..20).map(|user| index.find(&rows, &tuning, &ask(user)).unwrap()).collect();
            let told = index.rows_read(&tuning, &ask(0), allowed.count());
            (found[0].mode, found.iter().map(|found| found.visited_rows).sum::<usize>() / found.len(), told)
        };
        assert_eq!(visited(100, false), (Mode::Scan, ROWS / 100, ROWS / 100));
        assert_eq!(visited(1, true), (Mode::Scan, ROWS, ROWS));
        let (mode, rows, told) = visited(2, false);
        assert!(mode == Mode::Masked && rows < ROWS / 2, "{kind:?}: {rows} rows visited");
        assert!((rows / 4..ROWS).contains(&told), "{kind:?}: {rows} rows visited, {told} told");
        let (mode, rows, told) = visited(1, false);
        // A fast scan does not say what it visited.
        assert!(mode == Mode::Cells && rows < ROWS / 2, "{kind:?}: {rows} rows visited");
        assert!((rows / 2..ROWS / 2).contains(&told), "{kind:?}: {rows} rows visited, {told} told");
    }
}

#[test]
fn it_is_told_before_where_cells_or_a_list_hold_too_little() {
    let rows = clustered_unit_rows(ROWS, DIM, 1, 0.7);
    for kind in [Kind::IvfFlat, Kind::IvfSq8, Kind::Hnsw] {
        let index = build(kind, &rows);
        let careless = Parameters { nprobe: 1, ef_search: 4 };
        // So few that one cell of some 35 rows, or the neighbours of four, are enough, and more than these.
        for (k, told) in [(5, 0..ROWS / 10), (400, ROWS..ROWS + 1)] {
            let query = Query { vector: rows.row(0), k, parameters: careless, ..Query::default() };
            let found = index.find(&rows, &Tuning::default(), &query).unwrap();
            assert_eq!(found.hits.len(), k);
            let read = index.rows_read(&Tuning::default(), &query, ROWS);
            assert!(told.contains(&read), "{kind:?}, {k}: {read} told, {:?} {}", found.mode, found.visited_rows);
            assert_eq!(found.mode == Mode::Scan, k == 400, "{kind:?}");
        }
    }
}

#[test]
fn tuning_says_what_it_measured_and_whether_it_reached_its_goals() {
    let rows = clustered_unit_rows(ROWS, DIM, 1, 0.7);
    for kind in [Kind::IvfSq8, Kind::Hnsw] {
        let tuning = tuned(&build(kind, &rows), &rows);
        assert_eq!((tuning.query_count, tuning.steps.iter().map(|step| step.k).collect()), (60, vec![K, 200]));
        for step in &tuning.steps {
            assert!(step.reached && step.recall_at_k >= TARGET && step.target == TARGET, "{step:?}");
            assert!(step.filtered.iter().all(|filtered| filtered.recall_at_k >= TARGET), "{step:?}");
            assert!(step.filtered.iter().any(|filtered| filtered.filter == FilterKind::Random), "{step:?}");
            assert!(step.filtered.iter().any(|filtered| filtered.filter == FilterKind::Far), "{step:?}");
        }
        let json = serde_json::to_string(&tuning).unwrap();
        assert_eq!(serde_json::from_str::<Tuning>(&json).unwrap(), tuning);
    }
}

#[test]
fn tuning_can_be_watched_and_stopped() {
    let rows = clustered_unit_rows(2000, DIM, 1, 0.7);
    let index = build(Kind::IvfFlat, &rows);
    let queries = clustered_unit_rows(60, DIM, 3, 1.5);
    let mut seen = Vec::new();
    let tuning = tune_goals(&index, &rows, &queries, &options(), &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    });
    assert!(tuning.is_ok() && seen.is_sorted() && *seen.last().unwrap() <= 1.0 && seen.len() > 5, "{seen:?}");
    for stop_after in 0..seen.len() {
        let mut left = stop_after;
        let tuning = tune_goals(&index, &rows, &queries, &options(), &mut |_| {
            left = left.wrapping_sub(1);
            if left == usize::MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(tuning, Err(AnnError::Cancelled));
    }
}
