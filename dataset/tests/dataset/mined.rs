//! Files that are of no data directory: a ranker's scores, and mined hard negatives.

use std::{fs, path::Path};

use pagoda_dataset::{
    BadRows, DatasetError, HardNegative, HardNegativesWriter, KnownItems, Limits, read_hard_negatives, read_scores,
};

const ROWS: [HardNegative<'static>; 3] = [
    HardNegative { user: "u1", item: "a", rank: 100, score: 0.25, source: "model", version: "0123456789abcdef/0" },
    HardNegative { user: "u1", item: "ß", rank: 101, score: -0.25, source: "model", version: "0123456789abcdef/0" },
    HardNegative { user: "u2", item: "a", rank: 500, score: f32::MIN_POSITIVE, source: "truth", version: "7" },
];

fn write(out: &Path, rows: &[HardNegative<'_>]) {
    let mut writer = HardNegativesWriter::create(out).unwrap();
    rows.iter().for_each(|row| writer.push(row).unwrap());
    assert_eq!(writer.finish().unwrap(), rows.len() as u64);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Of the few rows here most are bad.
fn tolerant() -> Limits {
    Limits { bad_rows_max: Some(10), ..Limits::default() }
}

fn read(path: &Path) -> Result<(Vec<String>, BadRows), DatasetError> {
    let mut rows = Vec::new();
    let left_out = read_hard_negatives(path, &tolerant(), KnownItems::ALL, &mut |row| {
        rows.push(format!("{row:?}"));
        Ok(())
    })?;
    Ok((rows, left_out.bad_rows))
}

/// User, item, score.
type Score = (String, String, f32);

fn scores(text: &str, name: &str) -> Result<(Vec<Score>, BadRows), DatasetError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), text).unwrap();
    let mut rows = Vec::new();
    let left_out = read_scores(&dir.path().join(name), &tolerant(), KnownItems::ALL, &mut |row| {
        rows.push((row.user.to_owned(), row.item.to_owned(), row.score));
        Ok(())
    })?;
    Ok((rows, left_out.bad_rows))
}

#[test]
fn hard_negatives_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/hard.parquet");
    write(&out, &ROWS);
    let (rows, bad) = read(&out).unwrap();
    assert_eq!((rows, bad.count), (ROWS.map(|row| format!("{row:?}")).to_vec(), 0));
    write(&out, &ROWS[..1]);
    assert_eq!(read(&out).unwrap().0.len(), 1, "a file that is there is replaced");
    assert_eq!(names(&dir.path().join("new")), ["hard.parquet"]);
}

#[test]
fn many_rows_come_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("hard.parquet");
    let mut writer = HardNegativesWriter::create(&out).unwrap();
    (1..=20_000).for_each(|rank| writer.push(&HardNegative { rank, ..ROWS[0] }).unwrap());
    writer.finish().unwrap();
    let mut ranks = 1..;
    read_hard_negatives(&out, &Limits::default(), KnownItems::ALL, &mut |row| {
        assert_eq!(Some(row.rank), ranks.next());
        Ok(())
    })
    .unwrap();
    assert_eq!(ranks.next(), Some(20_001));
}

#[test]
fn a_writer_that_does_not_finish_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("hard.parquet");
    write(&out, &ROWS);
    let before = fs::read(&out).unwrap();
    let mut writer = HardNegativesWriter::create(&out).unwrap();
    writer.push(&ROWS[2]).unwrap();
    drop(writer);
    assert_eq!((fs::read(&out).unwrap(), names(dir.path()).len()), (before, 1));
}

#[test]
fn a_place_that_cannot_be_written_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir.parquet")).unwrap();
    for (name, fault) in [("hard.csv", ".parquet"), ("dir.parquet", "directory")] {
        let error = HardNegativesWriter::create(&dir.path().join(name)).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains(fault), "{error}");
    }
    assert_eq!(names(dir.path()), ["dir.parquet"]);
}

#[test]
fn bad_rows_of_hard_negatives_are_counted_by_row_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hard.csv");
    let rows = "u1,a,0,1,model,v\nu1,a,1,inf,model,v\nu1,,1,1,model,v\nu1,a,1,1,model,\nu1,a,7,1,model,v\n";
    fs::write(&path, format!("user_id,item_id,rank,score,source,version\n{rows}")).unwrap();
    let (rows, bad) = read(&path).unwrap();
    assert_eq!((rows.len(), bad.count), (1, 4));
    for (fault, named) in bad.first.iter().zip(["`rank`", "`score`", "`item_id`", "`version`"]) {
        assert!(fault.contains(named), "{fault}");
    }
    fs::write(&path, "user_id,item_id\nu1,a\n").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("rank"));
}

#[test]
fn scores_have_plain_names_or_those_of_our_tables() {
    let expected = vec![("u1".to_owned(), "7".to_owned(), 0.5), ("u2".to_owned(), "8".to_owned(), -3.0)];
    let files = [
        ("user,item,score\nu1,7,0.5\nu2,8,-3\n", "scores.csv"),
        ("score,user_id,item_id\n0.5,u1,7\n-3,u2,8\n", "scores.csv"),
        ("{\"user\":\"u1\",\"item\":7,\"score\":0.5}\n{\"user\":\"u2\",\"item\":8,\"score\":-3}\n", "scores.jsonl"),
    ];
    for (text, name) in files {
        let (rows, bad) = scores(text, name).unwrap();
        assert_eq!((rows, bad.count), (expected.clone(), 0), "{text}");
    }
}

#[test]
fn scores_that_are_no_numbers_and_missing_columns_are_named() {
    let (rows, bad) = scores("user,item,score\nu1,a,NaN\nu1,b,1e300\n,c,1\nu1,d,1\n", "scores.csv").unwrap();
    assert_eq!((rows.len(), bad.count), (1, 3));
    assert!(bad.first[2].contains("`user` or `user_id`"), "{bad:?}");
    assert!(scores("user,item\nu1,a\n", "scores.csv").unwrap_err().to_string().contains("`score`"));
    // A column that is missing is told of once, and not row by row.
    for (text, name) in [
        (format!("user,score\n{}", "u1,1\n".repeat(5)), "scores.csv"),
        ("{\"user\":\"u1\",\"score\":1}\n".repeat(5), "scores.jsonl"),
    ] {
        let error = scores(&text, name).unwrap_err().to_string();
        assert!(
            error.contains("no column `item` or `item_id`")
                && error.contains("`score`, `user`") == (name == "scores.jsonl"),
            "{error}"
        );
        assert!(!error.contains("rows are bad"), "{error}");
    }
    assert!(scores("user,item,score\n", "scores.txt").unwrap_err().to_string().contains(".jsonl"));
}

#[test]
fn rows_of_items_that_left_the_catalog_are_left_out_and_counted_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rows) = (dir.path().join("scores.csv"), "u1,a,1\nu1,gone,2\nu2,gone,3\nu2,gone,NaN\nu2,a,soon\n");
    fs::write(&path, format!("user,item,score\n{rows}")).unwrap();
    let read = |unknown_share_max| {
        let (mut seen, items) = (Vec::new(), KnownItems { has: &|item| item == "a", unknown_share_max });
        let left_out = read_scores(&path, &tolerant(), items, &mut |row| {
            seen.push(row.item.to_owned());
            Ok(())
        });
        left_out.map(|left_out| (seen, left_out))
    };
    let (seen, left_out) = read(0.5).unwrap();
    assert_eq!((seen, left_out.bad_rows.count), (vec!["a".to_owned()], 2));
    assert_eq!((left_out.unknown_items.rows, left_out.unknown_items.items), (2, 1));
    let notes: Vec<_> = left_out.notes().collect();
    assert!(notes[0].contains("2 bad rows") && notes[1].contains("2 rows are of 1 item"), "{notes:?}");
    assert!(notes[1].contains("scores.csv row 2: `gone`"), "{notes:?}");
    let error = read(0.3).unwrap_err().to_string();
    assert!(error.contains("2 rows are of 1 item") && error.contains("unknown_items_share_max = 0.3"), "{error}");
}
