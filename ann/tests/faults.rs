//! What is damaged, hostile or throws ends in an error, never the process.

#![allow(clippy::unwrap_used)]

mod data;

use std::sync::Mutex;

use pagoda_ann::{
    AnnError, Bitmap, Index, Kind, Mask, Parameters, Query, Spec, Tuning, exact_many,
    failpoints::{Place, fail},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::{build, random_unit_rows, thorough};

/// Fail points are the whole process's: where tests share one, they take turns.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn truncated_bytes_are_an_error() {
    let _turn = TURN.lock();
    let rows = random_unit_rows(600, 8, 7);
    for kind in Kind::ALL {
        let bytes = build(kind, &rows).write().unwrap();
        for length in (0..bytes.len()).step_by(97).chain(bytes.len() - 9..bytes.len()) {
            assert!(matches!(Index::read(&bytes[..length]), Err(AnnError::Damaged(_))), "{kind:?}: {length} bytes");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(Index::read(&longer), Err(AnnError::Damaged(_))), "{kind:?}");
    }
    assert!(matches!(Index::read(b"no index at all"), Err(AnnError::Damaged(_))));
}

/// Sizes and links are where loaders break: every eight bytes of the head are forged, and bits all over the file.
#[test]
fn damaged_and_forged_files_are_refused_or_answer_but_end_no_process() {
    let _turn = TURN.lock();
    let rows = random_unit_rows(600, 8, 7);
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    for kind in Kind::ALL {
        let whole = build(kind, &rows).write().unwrap();
        let forged = [0, 1, 0xff, 1 << 20, 1 << 39, 1 << 62, u64::MAX, u64::MAX / 8 + 1];
        let (mut refused, mut answered) = (0, 0);
        let mut attempt = |bytes: &[u8]| match Index::read(bytes) {
            Err(AnnError::Damaged(_) | AnnError::Faiss(_)) => refused += 1,
            Err(other) => panic!("{other}"),
            Ok(index) => {
                answered += 1;
                let half = Bitmap::of(index.rows(), (0..index.rows() as u32).step_by(2));
                if index.dim() == 8 {
                    index.search(rows.row(0), 20, None, thorough(&index)).unwrap();
                    index.search(rows.row(1), 20, Some(&half), thorough(&index)).unwrap();
                }
            }
        };
        for at in (0..700.min(whole.len() - 8)).chain((700..whole.len() - 8).step_by(211)) {
            for number in forged {
                let mut bytes = whole.clone();
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
                attempt(&bytes);
            }
        }
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            let (at, bit) = (rng.random_range(0..bytes.len()), rng.random_range(0..8));
            bytes[at] ^= 1 << bit;
            attempt(&bytes);
        }
        assert!(refused > 200 && answered > 100, "{kind:?}: {refused} refused, {answered} answered");
    }
}

#[test]
fn what_faiss_throws_is_an_error_of_the_one_call() {
    let _turn = TURN.lock();
    let rows = random_unit_rows(600, 8, 7);
    let half = Bitmap::of(600, 0..300);
    let spec = Spec::of_kind(Kind::Hnsw, 600);
    let (graph, scan) = (build(Kind::Hnsw, &rows), build(Kind::IvfPqFsRefine, &rows));
    let bytes = graph.write().unwrap();
    // So little that a graph of so few rows is walked.
    let parameters = Parameters { nprobe: 4, ef_search: 4 };
    let search = |index: &Index| index.search(rows.row(0), 5, Some(&half), parameters).map(drop);
    let find = |index: &Index| {
        let query = Query { vector: rows.row(0), k: 5, mask: Mask::of(&half), parameters, ..Query::default() };
        index.find(&rows, &Tuning::default(), &query).map(drop)
    };
    let thrown = Err(AnnError::Faiss("fail point".into()));
    let attempt = |place, after, call: &dyn Fn() -> Result<(), AnnError>| {
        assert_eq!(call(), Ok(()));
        fail(Some(place), after);
        let failed = call().map_err(|error| match error {
            AnnError::Faiss(message) if message.contains("fail point") => AnnError::Faiss("fail point".into()),
            other => other,
        });
        fail(None, 0);
        assert_eq!(failed, thrown, "{place:?}");
        assert_eq!(call(), Ok(()), "the call after {place:?}");
    };
    attempt(Place::Build, 0, &|| Index::build(&spec, &rows, 2).map(drop));
    attempt(Place::Read, 0, &|| Index::read(&bytes).map(drop));
    attempt(Place::Write, 0, &|| graph.write().map(drop));
    attempt(Place::Exact, 0, &|| exact_many(&rows, &rows, 3, 1).map(drop));
    for index in [&graph, &scan] {
        attempt(Place::Search, 0, &|| search(index));
        attempt(Place::Search, 0, &|| find(index));
    }
    for after in [0, 1, 30] {
        attempt(Place::WithinSearch, after, &|| search(&graph));
        attempt(Place::WithinSearch, after, &|| find(&graph));
    }
}
