//! The log in memory and in a temporary file, split and drawn from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pagoda_dataset::Interaction;
use pagoda_model::schema::Split;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Examples, Part, Timelines,
    log::{Log, LogLimits, LogWriter},
    rows::Row,
};
use crate::config::SplitConfig;

const USERS: u32 = 60;
const ITEMS: u32 = 30;

/// The random log leaves memory, for several partitions, each of several buckets.
const TINY: LogLimits = LogLimits { memory_rows: 100, partition_rows: 300, partitions_max: 16 };

fn interaction((user, item, timestamp): (u32, u32, i64)) -> Interaction {
    Interaction { user, item, timestamp, event: 0, weight: 1.0, test: false }
}

fn log(rows: &[Interaction], limits: LogLimits) -> Log {
    let mut writer = LogWriter::new(limits);
    rows.iter().for_each(|row| writer.push(row).unwrap());
    // The catalog has the items in the reverse order of the log.
    let places: Vec<u32> = (0..ITEMS).rev().collect();
    writer.finish(&places, ITEMS as usize).unwrap().0
}

fn small(rows: &[(u32, u32, i64)]) -> Log {
    log(&rows.iter().copied().map(interaction).collect::<Vec<_>>(), LogLimits::default())
}

/// 2,000 rows with repetitions, ties, impressions and given test rows.
fn random() -> Vec<Interaction> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut rows: Vec<Interaction> = Vec::new();
    for _ in 0..2000 {
        let row = interaction((rng.random_range(0..USERS), rng.random_range(0..ITEMS), rng.random_range(0..300)));
        let event = rng.random_range(0..3);
        let row = Interaction { event, weight: f32::from(event), test: rng.random_bool(0.2), ..row };
        let repeated = if rows.is_empty() { row } else { rows[rng.random_range(0..rows.len())] };
        rows.push(if rng.random_bool(0.1) { repeated } else { row });
    }
    rows
}

fn config(test_share: f64, validation_share: f64) -> SplitConfig {
    SplitConfig { test_share, validation_share }
}

const SPLITS: [Split; 3] = [Split::Temporal, Split::LeaveLastOut, Split::Given];

/// All rows by user, of positives or of impressions.
fn rows(log: &Log, exposed: bool) -> BTreeMap<u32, Vec<Row>> {
    let mut all = BTreeMap::new();
    for partition in 0..log.partitions() {
        let timelines = if exposed { log.load_exposed(partition) } else { log.load(partition) }.unwrap();
        for timeline in timelines.iter() {
            assert!(all.insert(timeline.user, timeline.rows().collect()).is_none(), "a user is in one partition");
        }
    }
    all
}

fn parts(log: &Log) -> Vec<Part> {
    rows(log, false).into_values().flatten().map(|row| row.part).collect()
}

#[test]
fn a_log_on_disk_is_the_log_in_memory() {
    for split in SPLITS {
        for share in [0.0, 0.2] {
            let [mut memory, mut disk] = [LogLimits::default(), TINY].map(|limits| log(&random(), limits));
            assert!(memory.partitions() == 1 && disk.partitions() > 3, "{}", disk.partitions());
            for log in [&mut memory, &mut disk] {
                log.split(split, &config(0.1, share), 1).unwrap();
            }
            assert_eq!(rows(&memory, false), rows(&disk, false), "{split:?}");
            assert_eq!(rows(&memory, true), rows(&disk, true), "{split:?}");
            assert_eq!(Part::ALL.map(|p| memory.count(p)), Part::ALL.map(|p| disk.count(p)));
            assert_eq!(memory.count(Part::Validation) > 0, share > 0.0);
        }
    }
}

#[test]
fn a_log_has_each_row_once_in_the_order_of_time_and_of_the_log() {
    let mut expected: Vec<Interaction> = Vec::new();
    for row in random().into_iter().filter(|row| row.weight > 0.0) {
        if !expected.contains(&row) {
            expected.push(row);
        }
    }
    expected.sort_by_key(|row| (row.user, row.timestamp));
    let found: Vec<Row> = rows(&log(&random(), TINY), false).into_values().flatten().collect();
    let expected = expected.iter().map(|row| (row.user, ITEMS - 1 - row.item, row.timestamp, row.event));
    assert_eq!(
        found.iter().map(|row| (row.user, row.item, row.timestamp, row.event)).collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
}

#[test]
fn partitions_are_of_about_the_rows_wanted() {
    let disk = log(&random(), TINY);
    let sizes: Vec<usize> = (0..disk.partitions()).map(|partition| disk.load(partition).unwrap().rows()).collect();
    assert!(sizes.iter().all(|&rows| (1..=300).contains(&rows)), "{sizes:?}");
}

#[test]
fn when_items_were_first_met_counts_impressions() {
    let mut writer = LogWriter::new(LogLimits::default());
    for (row, weight) in [((0, 0, 9), 1.0), ((1, 0, 4), 0.0), ((0, 1, 7), 1.0)] {
        writer.push(&Interaction { weight, ..interaction(row) }).unwrap();
    }
    let (log, first_met) = writer.finish(&[2, 0], 3).unwrap();
    assert_eq!(first_met, [7, i64::MAX, 4]);
    assert_eq!((log.rows(), log.load_exposed(0).unwrap().rows()), (2, 1));
}

#[test]
fn equal_timestamps_are_on_one_side_of_a_temporal_cut() {
    use Part::{Test, Train, Validation};
    let rows = [(0, 0, 1), (0, 1, 2), (0, 2, 2), (0, 3, 3), (0, 4, 3), (0, 5, 3)];
    let mut log = small(&rows);
    log.split(Split::Temporal, &config(0.2, 0.0), 1).unwrap();
    assert_eq!(parts(&log), [Train, Train, Train, Test, Test, Test]);
    log.split(Split::Temporal, &config(0.2, 0.4), 1).unwrap();
    assert_eq!(parts(&log), [Train, Validation, Validation, Test, Test, Test]);
}

#[test]
fn a_temporal_cut_is_the_exact_quantile_of_all_users() {
    for limits in [LogLimits::default(), TINY] {
        let mut log = log(&random(), limits);
        let mut times: Vec<i64> = rows(&log, false).into_values().flatten().map(|row| row.timestamp).collect();
        times.sort_unstable();
        log.split(Split::Temporal, &config(0.1, 0.25), 1).unwrap();
        let test = times[(times.len() as f64 * 0.9) as usize];
        let known = times.partition_point(|&t| t < test);
        let validation = times[(known as f64 * 0.75) as usize];
        for row in rows(&log, false).into_values().chain(rows(&log, true).into_values()).flatten() {
            let expected = if row.timestamp >= test {
                Part::Test
            } else if row.timestamp >= validation {
                Part::Validation
            } else {
                Part::Train
            };
            assert_eq!(row.part, expected, "{row:?}");
        }
    }
}

#[test]
fn the_last_of_each_user_are_left_out_unless_too_few_are_left() {
    use Part::{Test, Train, Validation};
    let rows = [(0, 0, 1), (1, 1, 1), (1, 2, 1), (2, 0, 3), (2, 1, 4), (2, 2, 5)];
    let mut log = small(&rows);
    log.split(Split::LeaveLastOut, &config(0.1, 0.0), 1).unwrap();
    assert_eq!(parts(&log), [Train, Train, Test, Train, Train, Test]);
    log.split(Split::LeaveLastOut, &config(0.1, 0.1), 1).unwrap();
    assert_eq!(parts(&log), [Train, Train, Test, Train, Validation, Test]);
}

#[test]
fn impressions_from_a_users_left_out_positive_on_are_left_out() {
    use Part::{Test, Train, Validation};
    let exposed = |row| Interaction { weight: 0.0, event: 1, ..interaction(row) };
    let mut all: Vec<Interaction> = [(0, 0, 10), (0, 1, 20), (0, 2, 30)].map(interaction).into();
    all.extend([(0, 3, 5), (0, 3, 19), (0, 3, 20), (0, 3, 29), (0, 3, 30), (0, 3, 99), (1, 3, 99)].map(exposed));
    let mut log = log(&all, LogLimits::default());
    log.split(Split::LeaveLastOut, &config(0.1, 0.1), 1).unwrap();
    let parts: Vec<Part> = rows(&log, true).into_values().flatten().map(|row| row.part).collect();
    assert_eq!(parts, [Train, Train, Validation, Validation, Test, Test, Train]);
}

#[test]
fn given_test_rows_stay_and_validation_is_drawn_by_the_seed_a_user_and_an_item_at_a_time() {
    let drawn = |seed| {
        let mut log = log(&random(), TINY);
        log.split(Split::Given, &config(0.1, 0.3), seed).unwrap();
        rows(&log, false).into_values().flatten().collect::<Vec<Row>>()
    };
    let found = drawn(1);
    assert!(found == drawn(1) && found != drawn(2));
    let tests = |rows: &[Row]| rows.iter().filter(|row| row.part == Part::Test).count();
    assert_eq!(tests(&found), tests(&drawn(2)));
    let mut pairs = BTreeMap::new();
    for row in found.iter().filter(|row| row.part != Part::Test) {
        let part = *pairs.entry((row.user, row.item)).or_insert(row.part);
        assert_eq!(row.part, part, "{row:?}");
    }
    let validation = pairs.values().filter(|&&part| part == Part::Validation).count() as f64 / pairs.len() as f64;
    assert!((validation - 0.3).abs() < 0.06, "{validation}");
}

#[test]
fn what_is_test_does_not_depend_on_validation() {
    let tests = |split, share| {
        let mut log = log(&random(), TINY);
        log.split(split, &config(0.15, share), 3).unwrap();
        parts(&log).into_iter().map(|part| part == Part::Test).collect::<Vec<_>>()
    };
    for split in SPLITS {
        assert_eq!(tests(split, 0.0), tests(split, 0.4), "{split:?}");
    }
}

#[test]
fn a_split_with_an_empty_part_is_refused_with_numbers() {
    let refusal = |rows: &[(u32, u32, i64)], split, config: SplitConfig| {
        small(rows).split(split, &config, 1).unwrap_err().to_string()
    };
    let rows = [(0, 0, 1), (1, 0, 1)];
    let error = refusal(&rows, Split::Temporal, config(0.1, 0.0));
    assert!(error.contains("of 2 positives has 0 to train on and 2 to test with"), "{error}");
    let error = refusal(&[(0, 0, 1), (0, 1, 2)], Split::LeaveLastOut, config(0.1, 0.1));
    assert!(error.contains("has 1 to train on, 0 to validate with and 1 to test with"), "{error}");
    let error = refusal(&rows, Split::Given, config(0.1, 0.0));
    assert!(error.contains("has 2 to train on and 0 to test with"), "{error}");
    let error = refusal(&[], Split::Temporal, config(0.1, 0.0));
    assert!(error.contains("of 0 positives"), "{error}");
}

fn is_train(part: Part) -> bool {
    part == Part::Train
}

/// A split log and the rows that are kept of it.
fn split_log(limits: LogLimits) -> (Log, Vec<Row>) {
    let mut log = log(&random(), limits);
    log.split(Split::Temporal, &config(0.1, 0.1), 1).unwrap();
    let kept = rows(&log, false).into_values().flatten().filter(|row| is_train(row.part)).collect();
    (log, kept)
}

fn take(examples: &mut Examples<'_>, count: usize) -> Vec<Row> {
    let drawn = examples.next(count).unwrap();
    drawn.iter().map(|example| example.timelines.row(example.place)).collect()
}

fn sorted(rows: &[Row]) -> Vec<(u32, i64, u32, u8)> {
    let mut rows: Vec<_> = rows.iter().map(|row| (row.user, row.timestamp, row.item, row.event)).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn every_epoch_has_every_kept_row_once_in_an_order_of_its_own() {
    for (limits, window_rows) in [(LogLimits::default(), 1 << 20), (TINY, 1), (TINY, 600), (TINY, 1 << 20)] {
        let (log, kept) = split_log(limits);
        let mut examples = Examples::new(&log, is_train, 7, window_rows).unwrap();
        assert_eq!(examples.per_epoch(), kept.len() as u64);
        let epochs: Vec<Vec<Row>> = (0..3).map(|_| take(&mut examples, kept.len())).collect();
        assert!(epochs.iter().all(|epoch| sorted(epoch) == sorted(&kept)), "{limits:?} {window_rows}");
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != kept);
        assert_eq!(examples.position(), (3, 0));
        let again = take(&mut Examples::new(&log, is_train, 7, window_rows).unwrap(), kept.len());
        let other = take(&mut Examples::new(&log, is_train, 8, window_rows).unwrap(), kept.len());
        assert!(again == epochs[0] && other != epochs[0]);
    }
}

#[test]
fn skipping_is_as_if_the_examples_before_had_been_taken() {
    let (log, kept) = split_log(TINY);
    let mut through = Examples::new(&log, is_train, 7, 600).unwrap();
    for batch in 0..3 * kept.len() / 100 {
        let (epoch, position) = through.position();
        assert_eq!(epoch * kept.len() as u64 + position, batch as u64 * 100);
        let mut resumed = Examples::new(&log, is_train, 7, 600).unwrap();
        resumed.skip_to(epoch, position);
        assert_eq!(take(&mut resumed, 100), take(&mut through, 100), "{epoch} {position}");
    }
}

#[test]
fn a_window_holds_no_more_rows_than_wanted_and_mixes_its_partitions() {
    let (log, kept) = split_log(TINY);
    let mut examples = Examples::new(&log, is_train, 7, 600).unwrap();
    let drawn = examples.next(kept.len()).unwrap();
    // In the first 600 rows no more than 600 rows' worth of partitions is met, and more than one partition, mixed from the start on.
    let met = |count: usize| {
        let met: BTreeMap<usize, &Timelines> =
            drawn[..count].iter().map(|e| (Arc::as_ptr(&e.timelines).addr(), &*e.timelines)).collect();
        (met.len(), met.values().map(|timelines| timelines.rows()).sum::<usize>())
    };
    let (mixed, rows) = met(50);
    assert!(mixed > 1 && rows <= 600, "{mixed} {rows}");
    assert_eq!(met(rows), (mixed, rows), "a window is used up before the next is opened");
    assert_eq!(met(kept.len()), (log.partitions(), kept.len()));
}

#[test]
fn timelines_are_drawn_like_rows() {
    for limits in [LogLimits::default(), TINY] {
        let (log, kept) = split_log(limits);
        let users: BTreeSet<u32> = kept.iter().map(|row| row.user).collect();
        let mut examples = Examples::of_timelines(&log, is_train, 7, 600).unwrap();
        assert_eq!(examples.per_epoch(), users.len() as u64);
        for _ in 0..2 {
            let drawn = examples.next(users.len()).unwrap();
            let timelines: Vec<_> = drawn.iter().map(|e| e.timelines.timeline(e.place)).collect();
            assert_eq!(timelines.iter().map(|t| t.user).collect::<BTreeSet<_>>(), users);
            assert_eq!(sorted(&timelines.iter().flat_map(|t| t.rows()).collect::<Vec<_>>()), sorted(&kept));
        }
    }
}

#[test]
fn a_log_of_nothing_that_is_kept_has_no_examples() {
    let mut log = small(&[(0, 0, 1), (0, 1, 2)]);
    log.split(Split::Temporal, &config(0.5, 0.0), 1).unwrap();
    assert!(Examples::new(&log, |part| part == Part::Validation, 1, 100).is_err());
}
