//! Each importer on a small made-up data set, and on bad ones.

use std::{fs, path::Path};

use pagoda_dataset::{
    Dataset, DatasetError, Interactions, Limits,
    import::{Format, ImportOptions, ImportReport, import},
};
use pagoda_model::{FeatureValue, schema::Split};
use tempfile::TempDir;

use crate::fixture::{directory, names};

struct Imported {
    report: ImportReport,
    dataset: Dataset,
    log: Interactions,
    home: TempDir,
}

fn imported(format: Format, path: &Path) -> Imported {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("data");
    let report = import(format, path, &out, &ImportOptions::default()).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let log = dataset.read_interactions(&Limits::default()).unwrap();
    Imported { report, dataset, log, home }
}

/// The error, after a look that nothing was written.
fn refused(format: Format, path: &Path) -> String {
    let home = tempfile::tempdir().unwrap();
    let error = import(format, path, &home.path().join("data"), &ImportOptions::default()).unwrap_err().to_string();
    assert_eq!(names(home.path()), [""; 0], "{error}");
    error
}

fn rows(log: &Interactions) -> Vec<(&str, &str, i64, f32)> {
    let row = |r: &pagoda_dataset::Interaction| {
        (log.users[r.user as usize].as_str(), log.items[r.item as usize].as_str(), r.timestamp, r.weight)
    };
    log.rows.iter().map(row).collect()
}

#[test]
fn movielens_dat_has_films_users_and_rated_films() {
    let dir = directory(&[
        ("ratings.dat", b"1::10::5::100\n1::20::3::200\n2::30::4::150\n"),
        ("movies.dat", b"10::Am\xe9lie (2001)::Comedy|Romance\n20::Heat\n"),
        ("users.dat", b"1::F::25::7::94110\n2::M::35::1::02139\n"),
    ]);
    let Imported { report, dataset, log, home: _home } = imported(Format::MovielensDat, dir.path());
    assert_eq!((report.users, report.items, report.interactions, report.positives), (2, 3, 3, 2));
    assert_eq!(report.positive_rating, Some(3.5));
    assert_eq!(rows(&log), [("1", "10", 100, 1.0), ("2", "30", 150, 1.0), ("1", "20", 200, 0.0)]);
    let films = dataset.read_items(&Limits::default()).unwrap();
    assert_eq!(films.titles, [Some("Amélie (2001)".to_owned()), Some("Heat".to_owned()), None]);
    assert_eq!(films.entities[0].features["year"], FeatureValue::Number(2001.0));
    assert_eq!(
        films.entities[0].features["genres"],
        FeatureValue::Texts(vec!["Comedy".to_owned(), "Romance".to_owned()])
    );
    let users = dataset.read_users(&Limits::default()).unwrap();
    assert_eq!(users.entities[0].features["gender"], FeatureValue::Text("F".to_owned()));
}

#[test]
fn movielens_csv_has_films_and_rated_films() {
    let dir = directory(&[
        ("ratings.csv", b"userId,movieId,rating,timestamp\n1,10,10,100\n1,20,6.5,200\n"),
        ("movies.csv", b"movieId,title,genres\n10,\"Red, White (1994)\",Drama\n20,X,(no genres listed)\n"),
    ]);
    let Imported { report, dataset, log, home: _home } = imported(Format::MovielensCsv, dir.path());
    assert_eq!((report.positive_rating, report.positives), (Some(7.0), 1));
    assert_eq!(rows(&log), [("1", "10", 100, 1.0), ("1", "20", 200, 0.0)]);
    let films = dataset.read_items(&Limits::default()).unwrap();
    assert_eq!(films.titles[0].as_deref(), Some("Red, White (1994)"));
    assert_eq!(films.entities[1].features["genres"], FeatureValue::Texts(Vec::new()));
}

#[test]
fn a_split_keeps_its_test_interactions_apart() {
    let dir = directory(&[("train.txt", b"0 5 6\n1 5\n"), ("test.txt", b"0 7\n1\n")]);
    let Imported { dataset, log, .. } = imported(Format::Split, dir.path());
    assert_eq!(dataset.schema().interactions.split, Split::Given);
    let mut all: Vec<_> =
        rows(&log).into_iter().zip(log.rows.iter().map(|r| r.test)).map(|((u, i, ..), t)| (u, i, t)).collect();
    all.sort_unstable();
    assert_eq!(all, [("0", "5", false), ("0", "6", false), ("0", "7", true), ("1", "5", false)]);
}

#[test]
fn sequences_keep_their_order() {
    let dir = directory(&[("beauty.txt", b"u 3 1 2\nv 1 1\n")]);
    for path in [dir.path().to_owned(), dir.path().join("beauty.txt")] {
        let Imported { dataset, log, report, .. } = imported(Format::Sequences, &path);
        assert_eq!(dataset.schema().interactions.split, Split::LeaveLastOut);
        let of_u: Vec<_> = rows(&log).into_iter().filter(|r| r.0 == "u").map(|r| (r.1, r.2)).collect();
        assert_eq!((of_u, report.interactions), (vec![("3", 0), ("1", 1), ("2", 2)], 5));
    }
}

#[test]
fn a_plain_log_is_understood_by_its_usual_column_names() {
    let text = b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n1433221332,1,impression,7,\n";
    let dir = directory(&[("events.csv", text)]);
    let Imported { dataset, log, report, .. } = imported(Format::Csv, &dir.path().join("events.csv"));
    assert_eq!((report.ignored_columns, report.positive_rating), (vec!["transactionid".to_owned()], None));
    assert_eq!(dataset.schema().interactions.events, [("impression".to_owned(), 0.0), ("view".to_owned(), 1.0)].into());
    assert_eq!(rows(&log), [("257597", "355908", 1_433_221_332, 1.0), ("1", "7", 1_433_221_332, 0.0)]);
}

#[test]
fn the_ratings_of_a_plain_log_say_what_is_a_positive_unless_events_do() {
    let dir = directory(&[
        ("rated.csv", b"user,item,Rating,time,note\nu,a,5,1,x\nu,b,3.5,2,\nu,c,3,3,\nu,d,,4,\n"),
        ("both.csv", b"user,item,rating,event,time\nu,a,1,click,1\nu,b,5,impression,2\n"),
    ]);
    let Imported { report, dataset, log, home: _home } = imported(Format::Csv, &dir.path().join("rated.csv"));
    assert_eq!((report.positive_rating, report.positives, report.bad_rows.count), (Some(3.5), 2, 1));
    assert!(report.bad_rows.first[0].contains("rating: expected a number from 0, found"), "{:?}", report.bad_rows);
    assert_eq!(report.ignored_columns, ["note"]);
    assert_eq!(rows(&log), [("u", "a", 1, 1.0), ("u", "b", 2, 1.0), ("u", "c", 3, 0.0)]);
    assert_eq!(dataset.schema().interactions.events, [("like".to_owned(), 1.0), ("view".to_owned(), 0.0)].into());

    let Imported { report, log, home: _home, .. } = imported(Format::Csv, &dir.path().join("both.csv"));
    assert_eq!((report.positive_rating, report.ignored_columns), (None, vec!["rating".to_owned()]));
    assert_eq!(rows(&log), [("u", "a", 1, 1.0), ("u", "b", 2, 0.0)]);
}

#[test]
fn a_positive_rating_needs_ratings() {
    let dir = directory(&[("log.csv", b"user,item,time\nu,a,5\n")]);
    let options = ImportOptions { positive_rating: Some(4.0), ..ImportOptions::default() };
    let out = dir.path().join("data");
    let error = import(Format::Csv, &dir.path().join("log.csv"), &out, &options).unwrap_err().to_string();
    assert!(error.contains("log.csv: expected ratings") && error.contains("from 4 on") && !out.exists(), "{error}");
}

#[test]
fn a_schema_that_somebody_edited_is_not_lost() {
    let dir = directory(&[("log.csv", b"user,item,time\nu,a,5\n"), ("more.csv", b"user,item,time\nu,a,5\nu,b,6\n")]);
    let (out, schema) = (dir.path().join("data"), dir.path().join("data/schema.toml"));
    let mut options = ImportOptions::default();
    let read = |name: &str, options: &ImportOptions| import(Format::Csv, &dir.path().join(name), &out, options);
    read("log.csv", &options).unwrap();
    assert_eq!(read("more.csv", &options).unwrap().items, 2, "a schema as it was made is replaced");
    let edited = fs::read_to_string(&schema).unwrap() + "\n# mine\n";
    fs::write(&schema, &edited).unwrap();
    let error = read("log.csv", &options).unwrap_err();
    assert!(matches!(&error, DatasetError::OtherSchema { file } if *file == schema.display().to_string()), "{error}");
    assert_eq!(fs::read_to_string(&schema).unwrap(), edited);
    assert_eq!(Dataset::open(&out).unwrap().read_items(&Limits::default()).unwrap().entities.len(), 2);
    options.replace_schema = true;
    assert_eq!(read("log.csv", &options).unwrap().items, 1);
    assert_ne!(fs::read_to_string(&schema).unwrap(), edited);
}

#[test]
fn columns_and_ratings_can_be_set() {
    let dir = directory(&[("log.csv", b"who,what,when\nu,a,5\n"), ("ratings.dat", b"1::10::5::100\n1::20::2::200\n")]);
    let mut options = ImportOptions { positive_rating: Some(2.0), ..ImportOptions::default() };
    let home = tempfile::tempdir().unwrap();
    let report = import(Format::MovielensDat, dir.path(), &home.path().join("dat"), &options).unwrap();
    assert_eq!((report.positives, report.positive_rating), (2, Some(2.0)));
    let columns = ["who", "what", "when"].map(|name| Some(name.to_owned()));
    [options.columns.user, options.columns.item, options.columns.timestamp] = columns;
    options.positive_rating = None;
    let report = import(Format::Csv, &dir.path().join("log.csv"), &home.path().join("csv"), &options).unwrap();
    assert_eq!((report.users, report.items, report.positives), (1, 1, 1));
}

#[test]
fn bad_lines_are_counted_and_named() {
    let dir = directory(&[(
        "ratings.dat",
        b"1::10::5::100\nrubbish\n1::10::six::100\n1::11::5::-3\n2::10::5::100\n3::10::5::100\n",
    )]);
    let report = imported(Format::MovielensDat, dir.path()).report;
    assert_eq!((report.interactions, report.bad_rows.count), (3, 3));
    let first = &report.bad_rows.first;
    assert!(
        first[0].ends_with("ratings.dat row 2: expected user::item::rating::timestamp, found `rubbish`"),
        "{first:?}"
    );
    assert!(first[1].contains("expected a number from 0, found `six`"), "{first:?}");
}

#[test]
fn a_log_without_a_positive_is_refused_by_naming_the_column_and_the_rule() {
    let text = b"user,item,time,action\nu,a,5,impression\nu,b,6,Show\n";
    let dir = directory(&[("log.csv", text), ("ratings.dat", b"1::10::4::100\n")]);
    let error = refused(Format::Csv, &dir.path().join("log.csv"));
    assert!(error.contains("log.csv: expected at least one positive, found none"), "{error}");
    assert!(error.contains("column `action` has `impression`, `Show`") && error.contains("exposure"), "{error}");
    let options = ImportOptions { positive_rating: Some(4.5), ..ImportOptions::default() };
    let error = import(Format::MovielensDat, dir.path(), &dir.path().join("data"), &options).unwrap_err().to_string();
    assert!(error.contains("ratings from 4.5 on are positives, the highest is 4"), "{error}");
    assert!(!dir.path().join("data").exists());
}

#[test]
fn what_is_missing_is_named_and_nothing_is_written() {
    let empty = directory(&[("other.csv", b"who,what,when\nu,a,5\n"), ("none.csv", b"")]);
    assert!(
        refused(Format::MovielensDat, empty.path()).contains("ratings.dat: no such file; expected lines of user::item")
    );
    assert!(
        refused(Format::MovielensCsv, empty.path()).contains("ratings.csv: no such file; expected the columns userId")
    );
    assert!(refused(Format::Split, empty.path()).contains("train.txt: no such file"));
    assert!(refused(Format::Sequences, empty.path()).contains("one .txt file"));
    let error = refused(Format::Csv, &empty.path().join("other.csv"));
    assert!(error.contains("no column `user_id`") && error.contains("`who`, `what`, `when`"), "{error}");
    assert!(refused(Format::Csv, &empty.path().join("none.csv")).contains("no column `user_id`"));
    assert!(refused(Format::Csv, empty.path()).contains("expected a CSV file with a header"));
}

#[test]
fn rubbish_is_refused_and_nothing_is_written() {
    let dir = directory(&[
        ("ratings.dat", b"rubbish\n".repeat(50).as_slice()),
        ("ratings.csv", b"userId,movieId,rating\n1,2,3\n"),
    ]);
    let error = refused(Format::MovielensDat, dir.path());
    assert!(error.contains("ratings.dat: 50 of 50 rows are bad, at most 10"), "{error}");
    assert!(refused(Format::MovielensCsv, dir.path()).contains("no column `timestamp`"));
    let no_sequences: [&[u8]; 4] = [
        b"user,item,time\nu,a,1\n",
        b"user,item\nu a, u b\nu, a\n",
        b"{\"user\": 1, \"items\": [2, 3]}\n",
        b"This is a text; it has no sequences.\nNone \"at all\", that is.\n",
    ];
    for text in no_sequences {
        let dir = directory(&[("notes.txt", text)]);
        let error = refused(Format::Sequences, &dir.path().join("notes.txt"));
        assert!(error.contains("notes.txt row 1: expected a user and their items, between spaces"), "{error}");
    }
    let empty = directory(&[("train.txt", b""), ("test.txt", b"")]);
    assert!(refused(Format::Split, empty.path()).contains("expected at least one interaction"));
}
