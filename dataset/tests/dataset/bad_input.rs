//! Bad rows are counted and named; what cannot be read at all is an error that names file, column, found and expected.

use std::fs;

use bytes::Bytes;
use pagoda_dataset::{DatasetError, Limits, read_entities, user_snapshot, write_entities_parquet};
use pagoda_model::{Entity, FeatureValue, Schema};

use crate::fixture::{ITEMS, SCHEMA, dataset_with, directory, open};

fn items_error(name: &str, content: &[u8]) -> String {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    read_entities(name, Bytes::copy_from_slice(content), &schema.item, &Limits::default()).unwrap_err().to_string()
}

/// Of the few rows here most are bad.
fn tolerant() -> Limits {
    Limits { bad_rows_max: Some(10), ..Limits::default() }
}

fn assert_names(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "expected `{part}` in: {error}");
    }
}

fn parquet_items() -> Vec<u8> {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let entities: Vec<Entity> = (0..500).map(|i| Entity::of_id(i.to_string())).collect();
    write_entities_parquet(&schema.item, &entities, &vec![None; 500]).unwrap()
}

#[test]
fn bad_items_are_counted_and_named() {
    let rows = "c,again,1,,\nd,x,abc,,\ne,x,inf,,\nf,x,1,,1 2 3\n,x,1,,\ng,x,1\n";
    let mut items = format!("{ITEMS}{rows}").into_bytes();
    items.extend(b"h,\xff\xfe,1,,\n");
    items.extend(format!("i,{},1,,\n", "long ".repeat(1000)).bytes());
    let dir = dataset_with("items.csv", &items);
    let table = open(dir.path()).unwrap().read_items(&tolerant()).unwrap();
    assert_eq!((table.entities.len(), table.bad_rows.count), (3, 8));
    let expected = [
        "items.csv row 4: column `item_id`: the id `c` is used twice",
        "items.csv row 5: column `price`: expected a number, found `abc`",
        "items.csv row 6: column `price`: expected a finite number, found `inf`",
        "items.csv row 7: column `vector`: expected 2 numbers, found 3",
        "items.csv row 8: column `item_id`: an id must not be empty",
        "items.csv row 9: expected 5 fields, found 3",
        "items.csv row 10: column `title`: expected a text, found invalid UTF-8",
        "items.csv row 11: item_id `i`: feature `title`: a text has at most 4096 bytes",
    ];
    for (row, part) in table.bad_rows.first.iter().zip(expected) {
        assert_names(row, &[part]);
    }
}

#[test]
fn bad_interactions_are_counted_and_named() {
    let log = "user_id,item_id,timestamp,event\nu,a,1,click\nu,z\tz,1,click\nu,a,NaN,click\nu,a,-5,click\n\
               u,a,99999999999,click\nu,a,1,clack\n,a,1,click\nu,,1,click\n";
    let dir = dataset_with("interactions.csv", log.as_bytes());
    let log = open(dir.path()).unwrap().read_interactions(&tolerant()).unwrap();
    assert_eq!((log.rows.len(), log.bad_rows.count), (1, 7));
    let expected = [
        "row 2: column `item_id`: an id must not hold control characters (found `z\\tz`)",
        "row 3: column `timestamp`: expected a time in seconds since 1970, found `NaN`",
        "row 4: column `timestamp`: expected a time in seconds since 1970, found `-5`, before 1970",
        "row 5: column `timestamp`: expected a time in seconds since 1970, found `99999999999`, which lies in the future",
        "row 6: column `event`: expected one of click, impression, found `clack`",
        "row 7: column `user_id`: expected an id",
        "row 8: column `item_id`: expected an id",
    ];
    for (row, part) in log.bad_rows.first.iter().zip(expected) {
        assert_names(row, &[part]);
    }
}

/// A log of 3000 rows; for so many of 1000 users, the second of three is of an item that has left the catalog.
fn log_of_an_item_that_left(unknown: usize) -> String {
    let row = |n: usize| {
        let item = if n % 3 == 1 && n / 3 < unknown { "gone" } else { ["a", "b", "c"][n % 3] };
        format!("u{},{item},{},click\n", n / 3, n % 3)
    };
    format!("user_id,item_id,timestamp,event\n{}", (0..3000).map(row).collect::<String>())
}

#[test]
fn interactions_of_items_that_left_the_catalog_are_left_out_and_counted_apart() {
    let log = log_of_an_item_that_left(1000) + "u0,a,soon,click\nu0,other,5,click\nu\t,gone,5,click\n";
    let dir = dataset_with("interactions.csv", log.as_bytes());
    let snapshot = user_snapshot(&open(dir.path()).unwrap()).unwrap();
    let unknown = &snapshot.unknown_items;
    assert_eq!((unknown.rows, unknown.items, snapshot.bad_interactions.count), (1001, 2, 2));
    assert_names(&unknown.first[0], &["interactions.csv row 2: `gone`"]);
    assert_names(&unknown.first[1], &["interactions.csv row 3002: `other`"]);
    let user = snapshot.users.entities.iter().find(|user| user.id == "u700").unwrap();
    let texts = FeatureValue::Texts(["a", "c"].map(String::from).to_vec());
    assert_eq!(user.features["history"], texts, "what the catalog has, in its order");
}

#[test]
fn interactions_of_an_item_whose_row_is_bad_are_left_out() {
    let items = ITEMS.replace("c,Three,3,", "c,Three,cheap,");
    let dir = dataset_with("items.csv", items.as_bytes());
    let log = open(dir.path()).unwrap().read_interactions(&Limits::default()).unwrap();
    assert_eq!((log.rows.len(), log.unknown_items.rows, log.unknown_items.items), (2, 2, 1));
}

#[test]
fn tables_that_do_not_belong_together_are_refused_by_a_limit_of_the_schema() {
    let log = log_of_an_item_that_left(1000).replace(",a,", ",x,");
    let dir = dataset_with("interactions.csv", log.as_bytes());
    let read = || open(dir.path()).unwrap().read_interactions(&Limits::default());
    let error = read().unwrap_err().to_string();
    let parts = ["2000 rows are of 2 items", "of 3000 rows", "unknown_items_share_max = 0.5", "row 1: `x`"];
    assert_names(&error, &parts);
    let schema = format!("{SCHEMA}[interactions]\nunknown_items_share_max = 0.7\n");
    fs::write(dir.path().join("schema.toml"), schema).unwrap();
    assert_eq!(read().unwrap().unknown_items.rows, 2000);
}

#[test]
fn lists_that_cannot_be_filtered_by_whole_are_bad_and_long_texts_are_not() {
    let schema = SCHEMA.replace("\"categorical_list\"", "\"categorical_list\"\nfilterable = true");
    let (many, long) = (vec!["t"; 65].join("|"), "x".repeat(129));
    let items = format!("{ITEMS}d,,,{many},\ne,,,red|{long},\n");
    let schema = Schema::from_toml(&schema).unwrap();
    let table = read_entities("items.csv", items.into(), &schema.item, &tolerant()).unwrap();
    assert_eq!((table.entities.len(), table.bad_rows.count), (4, 1));
    assert_names(
        &table.bad_rows.first[0],
        &["row 4: item_id `d`: column `tags`: a filterable list has at most 64 texts, found 65"],
    );
    assert_eq!(table.entities[3].features["tags"], FeatureValue::Texts(vec!["red".into(), long]));
}

#[test]
fn too_many_bad_rows_are_refused() {
    let dir = dataset_with("items.csv", format!("{ITEMS}d,x,abc,,\ne,x,abc,,\n").as_bytes());
    let limits = Limits { bad_rows_max: Some(1), ..Limits::default() };
    let error = open(dir.path()).unwrap().read_items(&limits).unwrap_err().to_string();
    assert_names(
        &error,
        &["items.csv", "2 of 5 rows are bad, at most 1 is allowed; the first are", "row 4: column `price`"],
    );
}

#[test]
fn missing_columns_are_named_with_those_found() {
    let csv = items_error("items.csv", b"item_id,title,cost,tags,vector\n");
    assert_names(&csv, &["items.csv: no column `price`", "expected a number", "`title`, `cost`"]);
    let jsonl = items_error("items.jsonl", b"{\"item_id\":\"a\",\"title\":\"x\",\"cost\":1}\n");
    assert_names(&jsonl, &["items.jsonl: no column `tags`", "`cost`, `item_id`, `title`"]);
    let empty = items_error("items.csv", b"");
    assert_names(&empty, &["items.csv: no column `item_id`", "found the columns none"]);
    assert_names(&items_error("items.jsonl", b""), &["items.jsonl: no column `item_id`"]);
}

#[test]
fn wrong_types_of_parquet_are_named() {
    let spoilt = SCHEMA.replace("\"categorical_list\"", "\"numeric\"");
    let schema = Schema::from_toml(&spoilt).unwrap();
    let bytes = Bytes::from(parquet_items());
    let error = read_entities("items.parquet", bytes, &schema.item, &Limits::default()).unwrap_err();
    assert!(matches!(error, DatasetError::WrongType { .. }), "{error}");
    assert_names(&error.to_string(), &["items.parquet: column `tags`: expected a number, found the type List"]);
}

#[test]
fn damaged_parquet_is_an_error_wherever_it_is_cut() {
    let whole = parquet_items();
    for length in [0, 3, 4, 100, whole.len() / 2, whole.len() - 1] {
        let error = items_error("items.parquet", &whole[..length]);
        assert_names(&error, &["items.parquet"]);
    }
}

#[test]
fn flipped_bytes_of_parquet_never_end_the_process() {
    let whole = parquet_items();
    let schema = Schema::from_toml(SCHEMA).unwrap();
    for place in (0..whole.len()).step_by(whole.len() / 200) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x5a;
        // Parquet has no digest of its data, so a flip may go unseen here; what matters is that there is an answer.
        let _ = read_entities("items.parquet", bytes.into(), &schema.item, &Limits::default());
    }
}

#[test]
fn a_huge_row_is_refused_before_it_is_gathered() {
    let limits = Limits { row_bytes_max: 1000, ..Limits::default() };
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let unclosed = format!("{ITEMS}d,\"{}", "x\n".repeat(1000));
    let error = read_entities("items.csv", unclosed.into(), &schema.item, &limits).unwrap_err().to_string();
    assert_names(&error, &["items.csv: row", "a row has at most 1000 bytes"]);
    let long = format!("{{\"item_id\":\"{}\"}}", "x".repeat(2000));
    let error = read_entities("items.jsonl", long.into(), &schema.item, &limits).unwrap_err().to_string();
    assert_names(&error, &["items.jsonl: row 1: a row has at most 1000 bytes"]);
}

#[test]
fn odd_json_lines_are_bad_rows() {
    let good = r#"{"item_id":"a","title":"x","price":1,"tags":["t"],"vector":[1,2]}"#;
    let bad = ["[1]", "{", r#"{"item_id":{}}"#, r#"{"item_id":"b","price":"1"}"#, r#"{"item_id":"c","tags":[[]]}"#];
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let text = format!("{good}\n{}\n", bad.join("\n"));
    let table = read_entities("items.jsonl", text.into(), &schema.item, &tolerant()).unwrap();
    assert_eq!((table.entities.len(), table.bad_rows.count), (1, 5), "{:?}", table.bad_rows);
}

#[test]
fn missing_files_are_named() {
    let error = open(std::path::Path::new("no/such/place")).unwrap_err().to_string();
    assert_names(&error, &["no/such/place", "expected a directory with schema.toml"]);
    let dir = directory(&[]);
    assert_names(&open(dir.path()).unwrap_err().to_string(), &["schema.toml: no such file"]);
    fs::write(dir.path().join("schema.toml"), SCHEMA).unwrap();
    assert_names(&open(dir.path()).unwrap_err().to_string(), &["items.parquet, items.csv or items.jsonl"]);
    let file = open(&dir.path().join("schema.toml")).unwrap_err().to_string();
    assert_names(&file, &["schema.toml: expected a directory with schema.toml", "found a file"]);
}

#[test]
fn two_formats_of_one_table_are_ambiguous() {
    let dir = dataset_with("items.jsonl", b"");
    assert_names(
        &open(dir.path()).unwrap_err().to_string(),
        &["one file of the table `items`", "items.csv", "items.jsonl"],
    );
}

#[test]
fn a_bad_schema_names_its_file_and_key() {
    let dir = dataset_with("schema.toml", SCHEMA.replace("numeric", "numerick").as_bytes());
    assert_names(&open(dir.path()).unwrap_err().to_string(), &["schema.toml", "numerick"]);
}

#[test]
fn tables_without_rows_are_refused() {
    let dir = dataset_with("interactions.csv", b"user_id,item_id,timestamp\n");
    let error = open(dir.path()).unwrap().read_interactions(&Limits::default()).unwrap_err().to_string();
    assert_names(&error, &["interactions.csv", "expected at least one good row"]);

    let dir = dataset_with("items.csv", b"item_id,title,price,tags,vector\n");
    fs::write(dir.path().join("interactions.csv"), log_of_an_item_that_left(0)).unwrap();
    let error = user_snapshot(&open(dir.path()).unwrap()).unwrap_err().to_string();
    assert_names(&error, &["items.csv", "expected at least one good row"]);
}

#[test]
fn an_unknown_extension_is_refused() {
    assert_names(&items_error("items.xlsx", b""), &["items.xlsx", ".parquet, .csv or .jsonl"]);
}
