//! Every kind of index: built, searched, masked, written, read, searched by many threads.

#![allow(clippy::unwrap_used)]

use pagoda_ann::{
    AnnError, Bitmap, Index, Kind, Matrix, Parameters, Spec, exact_many, recall_at_k, scan, score_rows, tune,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KINDS: [Kind; 4] = [Kind::Flat, Kind::IvfFlat, Kind::IvfSq8, Kind::Hnsw];

fn random_unit_rows(rows: usize, dim: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut matrix = Matrix::empty(dim);
    for _ in 0..rows {
        let row: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        matrix.push(&row.iter().map(|v| v / norm).collect::<Vec<_>>()).unwrap();
    }
    matrix
}

fn build(kind: Kind, rows: &Matrix) -> Index {
    Index::build(&Spec::of_kind(kind, rows.rows()), rows, 2).unwrap()
}

/// Parameters that leave nothing out.
fn thorough(index: &Index) -> Parameters {
    Parameters { nprobe: index.nlist() as u32, ef_search: 500 }
}

#[test]
fn every_kind_tunes_to_its_target() {
    let (rows, queries) = (random_unit_rows(3000, 16, 1), random_unit_rows(50, 16, 2));
    for kind in KINDS {
        let index = build(kind, &rows);
        assert_eq!((index.kind(), index.rows(), index.dim()), (kind, 3000, 16));
        let tuned = tune(&index, &rows, &queries, 100, 0.95).unwrap();
        assert!(tuned.recall_at_k >= 0.95, "{kind:?}: {tuned:?}");
    }
}

#[test]
fn parameters_are_one_querys_own() {
    let (rows, queries) = (random_unit_rows(3000, 16, 1), random_unit_rows(20, 16, 2));
    let index = build(Kind::IvfFlat, &rows);
    let exact = exact_many(&rows, &queries, 50, 2).unwrap();
    let recall = |nprobe| {
        let found =
            (0..20).map(|i| index.search(queries.row(i), 50, None, Parameters { nprobe, ef_search: 0 }).unwrap());
        found.zip(&exact).map(|(found, exact)| recall_at_k(&found, exact)).sum::<f64>() / 20.0
    };
    let (careless, whole) = (recall(1), recall(index.nlist() as u32));
    assert!(careless < 0.5 && whole == 1.0, "{careless} {whole}");
}

#[test]
fn a_masked_search_finds_allowed_rows_alone() {
    let rows = random_unit_rows(2000, 16, 3);
    let mut allowed = Bitmap::none(2000);
    (0..2000).step_by(3).for_each(|row| allowed.insert(row));
    let query = random_unit_rows(1, 16, 4);
    let exact = scan(&rows, query.row(0), 100, Some(&allowed)).unwrap();
    for kind in KINDS {
        let index = build(kind, &rows);
        let mut found = index.search(query.row(0), 100, Some(&allowed), thorough(&index)).unwrap();
        assert!(found.iter().all(|hit| allowed.contains(hit.row)), "{kind:?}");
        score_rows(&rows, query.row(0), &mut found).unwrap();
        assert!(recall_at_k(&found, &exact) >= 0.9, "{kind:?}");
    }
    let flat = build(Kind::Flat, &rows);
    assert!(flat.search(query.row(0), 100, Some(&Bitmap::none(2000)), Parameters::default()).unwrap().is_empty());
}

#[test]
fn what_was_written_is_read_and_answers_alike() {
    let (rows, query) = (random_unit_rows(1500, 8, 5), random_unit_rows(1, 8, 6));
    for kind in KINDS {
        let index = build(kind, &rows);
        let read = Index::read(&index.write().unwrap()).unwrap();
        assert_eq!((read.kind(), read.rows(), read.dim(), read.nlist()), (kind, 1500, 8, index.nlist()));
        let answer = |index: &Index| index.search(query.row(0), 20, None, thorough(index)).unwrap();
        assert_eq!(answer(&index), answer(&read));
    }
}

#[test]
fn truncated_bytes_are_an_error() {
    let bytes = build(Kind::IvfFlat, &random_unit_rows(100, 8, 7)).write().unwrap();
    for length in [0, 1, 4, bytes.len() / 2, bytes.len() - 1] {
        assert!(matches!(Index::read(&bytes[..length]), Err(AnnError::Faiss(_))), "{length} bytes");
    }
    assert!(matches!(Index::read(b"no index at all"), Err(AnnError::Faiss(_))));
}

#[test]
fn bad_questions_are_errors() {
    let rows = random_unit_rows(100, 8, 8);
    let index = build(Kind::Flat, &rows);
    let search = |query: &[f32], allowed| index.search(query, 5, allowed, Parameters::default());
    assert_eq!(search(&[0.0; 7], None), Err(AnnError::WrongDimension { expected: 8, found: 7 }));
    let mut query = [0.0; 8];
    query[5] = f32::NAN;
    assert!(matches!(search(&query, None), Err(AnnError::NotFinite { position: 5, .. })));
    assert_eq!(search(&[0.0; 8], Some(&Bitmap::full(99))), Err(AnnError::WrongBitmap { expected: 100, found: 99 }));
    assert!(matches!(Index::build(&Spec::for_rows(0), &Matrix::empty(8), 1), Err(AnnError::Empty)));
}

#[test]
fn k_may_be_nothing_or_more_than_there_is() {
    let (rows, query) = (random_unit_rows(30, 8, 9), random_unit_rows(1, 8, 10));
    for kind in KINDS {
        let index = build(kind, &rows);
        assert!(index.search(query.row(0), 0, None, thorough(&index)).unwrap().is_empty());
        assert_eq!(index.search(query.row(0), 1000, None, thorough(&index)).unwrap().len(), 30, "{kind:?}");
    }
}

#[test]
fn threads_searching_at_once_agree_with_one() {
    let (rows, queries) = (random_unit_rows(2000, 16, 11), random_unit_rows(40, 16, 12));
    for kind in KINDS {
        let index = build(kind, &rows);
        let all = || -> Vec<_> {
            (0..40)
                .map(|i| index.search(queries.row(i), 10, None, Parameters { nprobe: 8, ef_search: 64 }).unwrap())
                .collect()
        };
        let expected = all();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), expected, "{kind:?}"));
        });
    }
}
