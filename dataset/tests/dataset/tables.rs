//! Good tables in every format.

use std::{fs, sync::Arc};

use arrow_array::{
    ArrayRef, FixedSizeListArray, Int16Array, LargeStringArray, ListArray, RecordBatch, UInt64Array,
    types::{Float64Type, UInt64Type},
};
use pagoda_dataset::{Limits, read_entities, user_snapshot, write_entities_parquet};
use pagoda_model::{FeatureValue, Schema};
use parquet::arrow::ArrowWriter;

use crate::fixture::{ITEMS, LOG, SCHEMA, dataset_with, open};

fn texts(values: &[&str]) -> FeatureValue {
    FeatureValue::Texts(values.iter().map(|v| (*v).to_owned()).collect())
}

#[test]
fn csv_items_are_read_with_absent_features_left_out() {
    let dir = dataset_with("items.csv", ITEMS.as_bytes());
    let table = open(dir.path()).unwrap().read_items(&Limits::default()).unwrap();
    assert_eq!(table.titles, [Some("One, two".to_owned()), None, Some("Three".to_owned())]);
    let first = &table.entities[0];
    assert_eq!(first.id, "a");
    assert_eq!(first.features["tags"], texts(&["red", "blue"]));
    assert_eq!(first.features["price"], FeatureValue::Number(1.5));
    assert_eq!(first.features["vector"], FeatureValue::Floats(vec![0.5, 1.0]));
    assert!(table.entities[1].features.is_empty());
    assert_eq!(table.bad_rows.count, 0);
}

#[test]
fn the_same_items_come_from_every_format() {
    let dir = dataset_with("items.csv", ITEMS.as_bytes());
    let expected = open(dir.path()).unwrap().read_items(&Limits::default()).unwrap();
    let jsonl = r#"{"item_id":"a","title":"One, two","price":1.5,"tags":["red","blue"],"vector":[0.5,1]}
{"item_id":"b","title":null}

{"item_id":"c","title":"Three","price":3,"tags":["red"],"vector":[1,2]}
"#;
    fs::remove_file(dir.path().join("items.csv")).unwrap();
    fs::write(dir.path().join("items.jsonl"), jsonl).unwrap();
    assert_eq!(open(dir.path()).unwrap().read_items(&Limits::default()).unwrap(), expected);
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let parquet = write_entities_parquet(&schema.item, &expected.entities, &expected.titles).unwrap();
    fs::remove_file(dir.path().join("items.jsonl")).unwrap();
    fs::write(dir.path().join("items.parquet"), parquet).unwrap();
    assert_eq!(open(dir.path()).unwrap().read_items(&Limits::default()).unwrap(), expected);
}

#[test]
fn whole_numbers_are_ids_and_tags_in_json_lines() {
    let rows = r#"{"item_id":7,"title":"x","price":1,"tags":[1,2],"vector":[1,2]}"#;
    let dir = dataset_with("items.jsonl", rows.as_bytes());
    fs::remove_file(dir.path().join("items.csv")).unwrap();
    let item = open(dir.path()).unwrap().read_items(&Limits::default()).unwrap().entities.remove(0);
    assert_eq!((item.id.as_str(), &item.features["tags"]), ("7", &texts(&["1", "2"])));
}

/// A Parquet file of the columns that a schema of ids, numbers and lists wants, in types that other programs write.
fn foreign_parquet() -> Vec<u8> {
    let ids: ArrayRef = Arc::new(UInt64Array::from(vec![7, u64::MAX]));
    let titles: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("x"), None]));
    let prices: ArrayRef = Arc::new(Int16Array::from(vec![Some(2), None]));
    let tags = Arc::new(ListArray::from_iter_primitive::<UInt64Type, _, _>([Some(vec![Some(u64::MAX), None]), None]));
    let vectors = Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
        [Some(vec![Some(1.0), Some(2.0)]), None],
        2,
    ));
    let columns: [(&str, ArrayRef); 5] =
        [("item_id", ids), ("title", titles), ("price", prices), ("tags", tags), ("vector", vectors)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_of_other_programs_is_read() {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let table = read_entities("items.parquet", foreign_parquet().into(), &schema.item, &Limits::default()).unwrap();
    assert_eq!(table.bad_rows.count, 0, "{:?}", table.bad_rows);
    assert_eq!(table.entities.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["7", "18446744073709551615"]);
    let first = &table.entities[0].features;
    assert_eq!(first["price"], FeatureValue::Number(2.0));
    assert_eq!(first["tags"], texts(&["18446744073709551615"]));
    assert_eq!(first["vector"], FeatureValue::Floats(vec![1.0, 2.0]));
    assert_eq!(table.titles, [Some("x".to_owned()), None]);
    assert!(table.entities[1].features.is_empty());
}

#[test]
fn the_log_is_in_the_order_of_time_without_repeated_rows() {
    let dir = dataset_with("interactions.csv", format!("{LOG}u1,a,30,click\n").as_bytes());
    let log = open(dir.path()).unwrap().read_interactions(&Limits::default()).unwrap();
    let rows: Vec<_> = log
        .rows
        .iter()
        .map(|r| (log.users[r.user as usize].as_str(), log.items[r.item as usize].as_str(), r.timestamp, r.weight))
        .collect();
    assert_eq!(rows, [("u1", "b", 10, 1.0), ("u2", "c", 20, 0.0), ("u3", "c", 20, 1.0), ("u1", "a", 30, 1.0)]);
    assert_eq!((log.duplicates, log.bad_rows.count), (1, 0));
}

#[test]
fn without_events_all_rows_weigh_one() {
    let dir = dataset_with("interactions.csv", b"user_id,item_id,timestamp\nu,a,1\nu,b,2.0\n");
    let log = open(dir.path()).unwrap().read_interactions(&Limits::default()).unwrap();
    assert_eq!(log.rows.iter().map(|r| r.weight).collect::<Vec<_>>(), [1.0, 1.0]);
}

#[test]
fn without_a_users_table_the_users_are_those_of_the_log() {
    let dir = dataset_with("interactions.csv", LOG.as_bytes());
    fs::remove_file(dir.path().join("users.csv")).unwrap();
    let users = open(dir.path()).unwrap().read_users(&Limits::default()).unwrap();
    assert_eq!(users.entities.iter().map(|u| u.id.as_str()).collect::<Vec<_>>(), ["u1", "u2", "u3"]);
    assert_eq!(users.titles.len(), 3);
}

#[test]
fn a_snapshot_holds_features_and_the_history_of_positives() {
    let dir = dataset_with("interactions.csv", LOG.as_bytes());
    let users = user_snapshot(&open(dir.path()).unwrap()).unwrap().users;
    let [first, second, third] = users.entities.as_slice() else { panic!("{users:?}") };
    assert_eq!(first.features["region"], FeatureValue::Text("north".to_owned()));
    assert_eq!(first.features["history"], texts(&["b", "a"]));
    assert_eq!(second.features.get("history"), Some(&texts(&[])));
    assert_eq!((third.id.as_str(), &third.features["history"]), ("u3", &texts(&["c"])));
}

#[test]
fn a_history_keeps_the_newest_five_hundred_or_as_many_as_the_schema_says() {
    let mut log = "user_id,item_id,timestamp\n".to_owned();
    for time in 0..600 {
        log += &format!("u1,{},{time}\n", if time < 100 { "a" } else { "b" });
    }
    let dir = dataset_with("interactions.csv", log.as_bytes());
    let users = user_snapshot(&open(dir.path()).unwrap()).unwrap().users;
    assert_eq!(users.entities[0].features["history"], texts(&["b"; 500]));
    fs::write(dir.path().join("schema.toml"), SCHEMA.replace("max_length = 3", "max_length = 550")).unwrap();
    let users = user_snapshot(&open(dir.path()).unwrap()).unwrap().users;
    let newest = [vec!["a"; 50], vec!["b"; 500]].concat();
    assert_eq!(users.entities[0].features["history"], texts(&newest));
}

#[test]
fn the_log_is_visited_row_by_row_as_it_is() {
    let dir = dataset_with("interactions.csv", format!("{LOG}u1,a,30,click\nu1,zzz,31,click\n").as_bytes());
    let dataset = open(dir.path()).unwrap();
    let mut rows = Vec::new();
    let ids = dataset
        .visit_interactions(&Limits::default(), &mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    assert_eq!((ids.rows as usize, ids.bad_rows.count, ids.unknown_items.rows), (rows.len(), 0, 1));
    let last = rows[rows.len() - 1];
    let first = rows.iter().position(|row| *row == last).unwrap();
    assert!(first + 1 < rows.len(), "a repeated row is visited each time");
    assert_eq!((ids.users[last.user as usize].as_str(), ids.items[last.item as usize].as_str()), ("u1", "a"));
    let events: Vec<&String> = dataset.schema().interactions.events.keys().collect();
    assert_eq!((last.timestamp, last.weight, events[usize::from(last.event)].as_str()), (30, 1.0, "click"));
    // What is in memory is the same rows without repetitions, by time.
    rows.pop();
    rows.sort_by_key(|row| row.timestamp);
    assert_eq!(dataset.read_interactions(&Limits::default()).unwrap().rows, rows);
}

#[test]
fn a_visitor_can_end_the_pass() {
    let dir = dataset_with("interactions.csv", LOG.as_bytes());
    let full = || pagoda_dataset::DatasetError::Malformed { file: "disk".into(), description: "full".into() };
    let mut visited = 0;
    let outcome = open(dir.path()).unwrap().visit_interactions(&Limits::default(), &mut |_| {
        visited += 1;
        Err(full())
    });
    assert_eq!((outcome.unwrap_err().to_string(), visited), ("disk: full".to_owned(), 1));
}

#[test]
fn a_row_without_an_event_is_told_from_all_that_have_one() {
    let dir = dataset_with("interactions.csv", b"user_id,item_id,timestamp,event\nu,a,1,\nu,a,1,click\n");
    let log = open(dir.path()).unwrap().read_interactions(&Limits::default()).unwrap();
    assert_eq!(log.rows.iter().map(|row| row.event).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(log.duplicates, 0);
}
