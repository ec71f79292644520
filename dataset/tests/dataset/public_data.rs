//! The importers on public data sets, where these lie beside the repository.

use std::path::{Path, PathBuf};

use pagoda_dataset::{
    Dataset, Limits,
    import::{Format, ImportOptions, ImportReport, import},
};

fn public(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// Imports, reads everything back, and compares the counts.
fn imported(format: Format, path: &Path) -> ImportReport {
    let home = tempfile::tempdir().unwrap();
    let report = import(format, path, &home.path().join("data"), &ImportOptions::default()).unwrap();
    let dataset = Dataset::open(&home.path().join("data")).unwrap();
    let log = dataset.read_interactions(&Limits::default()).unwrap();
    let (items, users) =
        (dataset.read_items(&Limits::default()).unwrap(), dataset.read_users(&Limits::default()).unwrap());
    assert_eq!(log.bad_rows.count + items.bad_rows.count + users.bad_rows.count, 0);
    assert_eq!(log.rows.len() as u64 + log.duplicates, report.interactions);
    assert_eq!((users.entities.len() as u64, items.entities.len() as u64), (report.users, report.items));
    assert!(items.titles.iter().filter(|t| t.is_some()).count() * 10 > items.titles.len() * 9);
    report
}

#[test]
fn ml_latest_small_is_imported_whole() {
    let Some(path) = public("ml-latest-small") else { return };
    let report = imported(Format::MovielensCsv, &path);
    assert_eq!(
        (report.users, report.items, report.interactions, report.bad_rows.count),
        (610, 9742, 100_836, 0),
        "{report:?}"
    );
    assert_eq!(report.positive_rating, Some(3.5));
}

#[test]
fn movietweetings_is_imported_whole() {
    let Some(path) = public("movietweetings-100k") else { return };
    let report = imported(Format::MovielensDat, &path);
    assert_eq!((report.interactions, report.bad_rows.count), (100_000, 0), "{report:?}");
    assert_eq!(report.positive_rating, Some(7.0));
}
