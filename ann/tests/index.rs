//! Every kind of index: built, tuned, searched, masked, written, read, mapped, searched by many threads.

#![allow(clippy::unwrap_used)]

mod data;

use std::{sync::Arc, time::Instant};

use pagoda_ann::{
    AnnError, Bitmap, Goal, Index, Kind, Mask, Matrix, Mode, Parameters, Query, Spec, Stop, Tuning, exact_many,
    recall_at_k, scan,
};

use crate::data::{build, random_unit_rows, scored, thorough, tuned};

#[test]
fn every_kind_tunes_to_its_target() {
    let (rows, queries) = (random_unit_rows(3000, 16, 1), random_unit_rows(50, 16, 2));
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        assert_eq!((index.kind(), index.rows(), index.dim()), (kind, 3000, 16));
        let tuned = tuned(&index, &rows, &queries, Goal { k: 100, recall_at_k: 0.95 });
        assert!(tuned.recall_at_k >= 0.95, "{kind:?}: {tuned:?}");
    }
}

#[test]
fn parameters_that_find_too_few_are_not_taken_for_good_because_a_scan_makes_up_for_them() {
    let (rows, queries) = (random_unit_rows(3000, 16, 1), random_unit_rows(50, 16, 2));
    for kind in [Kind::IvfFlat, Kind::IvfSq8, Kind::IvfPqFsRefine] {
        let index = build(kind, &rows);
        let low = tuned(&index, &rows, &queries, Goal { k: 100, recall_at_k: 0.2 });
        assert!((0.2..0.5).contains(&low.recall_at_k), "{kind:?}: {low:?}");
    }
}

#[test]
fn parameters_are_one_querys_own() {
    let (rows, queries) = (random_unit_rows(3000, 16, 1), random_unit_rows(20, 16, 2));
    let exact = exact_many(&rows, &queries, 50, 2).unwrap();
    for kind in [Kind::IvfFlat, Kind::IvfSq8, Kind::IvfPqFsRefine] {
        let index = build(kind, &rows);
        let recall = |nprobe| {
            let search = |i| {
                let hits = index.search(queries.row(i), 50, None, Parameters { nprobe, ef_search: 0 }).unwrap();
                scored(&rows, queries.row(i), &hits)
            };
            (0..20).map(search).zip(&exact).map(|(found, exact)| recall_at_k(&found, exact)).sum::<f64>() / 20.0
        };
        // Small, large, small: what one search is told changes nothing for the next.
        let [careless, whole, again] = [1, index.nlist() as u32, 1].map(recall);
        let least = if kind == Kind::IvfPqFsRefine { 0.6 } else { 0.97 };
        assert!(careless < 0.5 && whole >= least && again == careless, "{kind:?}: {careless} {whole} {again}");
    }
}

#[test]
fn a_masked_search_finds_allowed_rows_alone() {
    let rows = random_unit_rows(2000, 16, 3);
    let allowed = Bitmap::of(2000, (0..2000).step_by(3));
    let query = random_unit_rows(1, 16, 4);
    let exact = scan(&rows, query.row(0), 100, Some(&allowed)).unwrap();
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        let found = index.search(query.row(0), 100, Some(&allowed), thorough(&index)).unwrap();
        assert!(found.iter().all(|hit| allowed.contains(hit.row)), "{kind:?}");
        let found = scored(&rows, query.row(0), &found);
        let least = if kind == Kind::IvfPqFsRefine { 0.6 } else { 0.9 };
        assert!(recall_at_k(&found, &exact) >= least, "{kind:?}: {}", recall_at_k(&found, &exact));
    }
    let flat = build(Kind::Flat, &rows);
    assert!(flat.search(query.row(0), 100, Some(&Bitmap::none(2000)), Parameters::default()).unwrap().is_empty());
}

#[test]
fn excluded_rows_are_not_found_and_others_take_their_place() {
    let (rows, query) = (random_unit_rows(3000, 16, 3), random_unit_rows(1, 16, 4));
    let best = scan(&rows, query.row(0), 300, None).unwrap();
    let excluded: Vec<u32> = best.iter().step_by(2).map(|hit| hit.row).collect();
    let expected: Vec<_> = best.iter().skip(1).step_by(2).take(100).copied().collect();
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        let mask = Mask { allowed: None, excluded: &excluded };
        let query = Query { vector: query.row(0), k: 100, mask, parameters: thorough(&index), ..Query::default() };
        let found = index.find(&rows, &Tuning::default(), &query).unwrap();
        assert_eq!(found.hits.len(), 100, "{kind:?}");
        assert!(found.hits.iter().all(|hit| !excluded.contains(&hit.row)), "{kind:?}");
        assert!(recall_at_k(&found.hits, &expected) >= 0.9, "{kind:?}: {}", recall_at_k(&found.hits, &expected));
    }
}

#[test]
fn a_search_is_never_short_while_there_is_more_and_its_scores_are_exact() {
    let (rows, query) = (random_unit_rows(2000, 16, 3), random_unit_rows(1, 16, 4));
    let allowed = Bitmap::of(2000, (0..2000).step_by(40));
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        let careless = Parameters { nprobe: 1, ef_search: 1 };
        for (allowed, k, expected) in [(Some(&allowed), 100, 50), (None, 1500, 1500), (None, 5000, 2000)] {
            let mask = Mask { allowed, excluded: &[] };
            let query = Query { vector: query.row(0), k, mask, parameters: careless, ..Query::default() };
            let found = index.find(&rows, &Tuning::default(), &query).unwrap().hits;
            assert_eq!(found.len(), expected, "{kind:?}");
            assert_eq!(found, scored(&rows, query.vector, &found), "{kind:?}");
        }
    }
}

#[test]
fn queries_in_a_batch_find_what_they_find_alone() {
    let (rows, queries) = (random_unit_rows(2000, 16, 3), random_unit_rows(5, 16, 4));
    let vectors: Vec<&[f32]> = (0..5).map(|i| queries.row(i)).collect();
    let few = Bitmap::of(2000, (0..2000).step_by(90));
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        for mask in [Mask::ALL, Mask::of(&few)] {
            let query = Query { k: 10, mask, parameters: Parameters { nprobe: 3, ef_search: 50 }, ..Query::default() };
            let alone = vectors.iter().map(|vector| index.find(&rows, &Tuning::default(), &Query { vector, ..query }));
            let alone: Vec<_> = alone.map(Result::unwrap).collect();
            assert_eq!(index.find_many(&rows, &Tuning::default(), &vectors, &query).unwrap(), alone, "{kind:?}");
        }
    }
}

#[test]
fn what_was_written_is_read_and_mapped_and_answers_alike() {
    let (rows, query) = (random_unit_rows(1500, 8, 5), random_unit_rows(1, 8, 6));
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), index.write().unwrap()).unwrap();
        let (read, mapped) = (Index::read(&index.write().unwrap()).unwrap(), Index::open(file.path()).unwrap());
        file.close().unwrap();
        let answer = |index: &Index| index.search(query.row(0), 20, None, thorough(index)).unwrap();
        for other in [&read, &mapped] {
            assert_eq!((other.kind(), other.rows(), other.dim(), other.nlist()), (kind, 1500, 8, index.nlist()));
            assert_eq!(answer(&index), answer(other), "{kind:?}");
            assert_eq!(other.write().unwrap(), index.write().unwrap(), "{kind:?}");
        }
        // A graph of one link more or less per node is as much as the estimate may be off.
        let estimate = Index::estimate_bytes(&Spec::of_kind(kind, 1500), 1500, 8) as f64;
        let ratio = read.resident_bytes() as f64 / estimate;
        assert!((0.8..1.25).contains(&ratio), "{kind:?}: {} of {estimate}", read.resident_bytes());
        assert!(mapped.bytes() <= read.bytes(), "{kind:?}");
    }
}

#[test]
fn bad_questions_are_errors() {
    let rows = random_unit_rows(100, 8, 8);
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        let search = |query: &[f32], allowed| index.search(query, 5, allowed, Parameters::default());
        assert_eq!(search(&[0.0; 7], None), Err(AnnError::WrongDimension { expected: 8, found: 7 }));
        let mut query = [0.0; 8];
        query[5] = f32::NAN;
        assert!(matches!(search(&query, None), Err(AnnError::NotFinite { position: 5, .. })));
        assert_eq!(search(&[0.0; 8], Some(&Bitmap::full(99))), Err(AnnError::WrongBitmap { expected: 100, found: 99 }));
        let find = |rows: &Matrix| {
            index.find(rows, &Tuning::default(), &Query { vector: &[0.0; 8], k: 3, ..Query::default() })
        };
        assert_eq!(find(&random_unit_rows(99, 8, 8)), Err(AnnError::WrongRows { expected: 100, found: 99 }));
        assert_eq!(find(&random_unit_rows(100, 7, 8)), Err(AnnError::WrongDimension { expected: 8, found: 7 }));
    }
    assert!(matches!(Index::build(&Spec::for_rows(0), &Matrix::empty(8), 1), Err(AnnError::Empty)));
}

#[test]
fn absurd_numbers_are_answered() {
    let rows = random_unit_rows(600, 8, 9);
    for kind in Kind::ALL {
        let huge = Matrix::new(8, vec![1e30; 8 * 600]).unwrap();
        let refused = Index::build(&Spec::of_kind(kind, 600), &huge, 1).map(|index| index.kind());
        assert_eq!(refused.is_err(), kind != Kind::Flat, "{kind:?}: {refused:?}");
        let index = build(kind, &rows);
        for vector in [[0.0; 8], [f32::MAX; 8], [-f32::MAX; 8], [f32::MIN_POSITIVE; 8]] {
            let parameters = Parameters { nprobe: u32::MAX, ef_search: u32::MAX };
            // Not what it finds counts, but that it ends.
            index.search(&vector, 7, None, parameters).unwrap();
            for (k, allowed) in [(0, None), (1, None), (usize::MAX / 4, None), (7, Some(Bitmap::of(600, 0..400)))] {
                let mask = Mask { allowed: allowed.as_ref(), excluded: &[u32::MAX, 0, 0] };
                let query = Query { vector: &vector, k, mask, parameters, ..Query::default() };
                let found = index.find(&rows, &Tuning::default(), &query).unwrap().hits;
                assert_eq!(found.len(), k.min(if allowed.is_some() { 399 } else { 599 }), "{kind:?}");
            }
        }
    }
}

#[test]
fn one_row_is_an_index() {
    let rows = random_unit_rows(1, 5, 9);
    for kind in Kind::ALL {
        let found = build(kind, &rows).find(
            &rows,
            &Tuning::default(),
            &Query { vector: rows.row(0), k: 3, ..Query::default() },
        );
        assert_eq!(found.unwrap().hits.len(), 1, "{kind:?}");
    }
}

#[test]
fn k_may_be_nothing_or_more_than_there_is() {
    let (rows, query) = (random_unit_rows(30, 8, 9), random_unit_rows(1, 8, 10));
    for kind in Kind::ALL {
        let index = build(kind, &rows);
        assert!(index.search(query.row(0), 0, None, thorough(&index)).unwrap().is_empty());
        assert_eq!(index.search(query.row(0), 1000, None, thorough(&index)).unwrap().len(), 30, "{kind:?}");
    }
}

#[test]
fn a_search_of_cells_ends_when_its_time_is_up() {
    let rows = random_unit_rows(30_000, 4, 9);
    let index = build(Kind::IvfFlat, &rows);
    let stop = Stop { deadline: Some(Instant::now()), cancelled: None };
    let query = Query { vector: &[1.0; 4], k: 3, parameters: thorough(&index), stop, ..Query::default() };
    assert_eq!(index.find(&rows, &Tuning::default(), &query), Err(AnnError::Cancelled));
    let found = index.find(&rows, &Tuning::default(), &Query { stop: Stop::NEVER, ..query }).unwrap();
    assert_eq!((found.mode, found.visited_rows), (Mode::Cells, 30_000));
}

#[test]
fn threads_searching_at_once_agree_with_one() {
    let (rows, queries) = (random_unit_rows(2000, 16, 11), random_unit_rows(40, 16, 12));
    let few = Bitmap::of(2000, (0..2000).step_by(2));
    for kind in Kind::ALL {
        let index = Arc::new(build(kind, &rows));
        let all = || -> Vec<_> {
            let parameters = Parameters { nprobe: 8, ef_search: 64 };
            let search =
                |i| [None, Some(&few)].map(|allowed| index.search(queries.row(i), 10, allowed, parameters).unwrap());
            (0..40).map(search).collect()
        };
        let expected = all();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), expected, "{kind:?}"));
        });
    }
}
