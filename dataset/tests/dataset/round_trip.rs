//! What is written reads back the same; a data directory appears whole or not at all.

use std::{collections::BTreeMap, fs};

use pagoda_dataset::{
    BadRows, Dataset, DatasetTables, EntityTable, Limits, LogRow, LogTable, read_entities, write_dataset,
    write_entities_parquet,
};
use pagoda_model::{Entity, FeatureValue, ItemId, RawFeatures, Schema, UserId};
use proptest::prelude::*;

use crate::fixture::{SCHEMA, names};

fn features() -> impl Strategy<Value = RawFeatures> {
    let tags = prop::collection::vec(any::<String>(), 0..4).prop_map(FeatureValue::Texts);
    let price = (-1e12..1e12f64).prop_map(FeatureValue::Number);
    let vector = prop::array::uniform2(-1e6..1e6f32).prop_map(|v| FeatureValue::Floats(v.to_vec()));
    (prop::option::of(tags), prop::option::of(price), prop::option::of(vector)).prop_map(|(tags, price, vector)| {
        let named = [("tags", tags), ("price", price), ("vector", vector)];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

fn items() -> impl Strategy<Value = EntityTable> {
    let rows = prop::collection::btree_map("[^\\p{Cc}]{1,20}", (features(), prop::option::of(".{1,20}")), 0..40);
    rows.prop_map(|rows: BTreeMap<String, (RawFeatures, Option<String>)>| {
        let mut table = EntityTable::default();
        for (id, (mut features, title)) in rows {
            features.extend(title.clone().map(|title| ("title".to_owned(), FeatureValue::Text(title))));
            table.entities.push(Entity { id, features });
            table.titles.push(title);
        }
        table
    })
}

fn tables(rows: Vec<LogRow>) -> DatasetTables {
    let entities: Vec<Entity> = (0..5).map(|i| Entity::of_id(format!("i{i}"))).collect();
    DatasetTables {
        schema: Schema::from_toml(SCHEMA).unwrap(),
        users: None,
        items: EntityTable { titles: vec![None; 5], entities, bad_rows: BadRows::default() },
        log: LogTable {
            users: (0..4).map(|i| UserId::new(format!("u{i}")).unwrap()).collect(),
            items: (0..5).map(|i| ItemId::new(format!("i{i}")).unwrap()).collect(),
            events: vec!["impression".to_owned(), "click".to_owned()],
            rows,
        },
    }
}

fn one_click() -> DatasetTables {
    tables(vec![LogRow { user: 0, item: 0, timestamp: 1, event: 1, test: false }])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entities_read_back_as_written(table in items()) {
        let schema = Schema::from_toml(SCHEMA).unwrap();
        let bytes = write_entities_parquet(&schema.item, &table.entities, &table.titles).unwrap();
        let read = read_entities("items.parquet", bytes.into(), &schema.item, &Limits::default()).unwrap();
        prop_assert_eq!(read, table);
    }

    #[test]
    fn a_log_reads_back_in_the_order_of_time(
        rows in prop::collection::btree_set((0..1_000_000i64, 0..4u32, 0..5u32, 0..2u8), 1..60)
    ) {
        let rows: Vec<LogRow> =
            rows.into_iter().map(|(timestamp, user, item, event)| LogRow { user, item, timestamp, event, test: false }).collect();
        let (home, written) = (tempfile::tempdir().unwrap(), tables(rows));
        let out = home.path().join("data");
        write_dataset(&out, &written).unwrap();
        let log = Dataset::open(&out).unwrap().read_interactions(&Limits::default()).unwrap();
        let read: Vec<_> = log.rows.iter().map(|r| {
            (log.users[r.user as usize].as_str(), log.items[r.item as usize].as_str(), r.timestamp, r.weight)
        }).collect();
        let expected: Vec<_> = written.log.rows.iter().map(|r| {
            (written.log.users[r.user as usize].as_str(), written.log.items[r.item as usize].as_str(), r.timestamp, f32::from(r.event))
        }).collect();
        prop_assert_eq!(read, expected);
    }
}

#[test]
fn a_log_of_more_rows_than_are_written_at_once_reads_back() {
    let rows = 0..100_000;
    let row = |n: u32| LogRow { user: n % 4, item: n % 5, timestamp: i64::from(n), event: 1, test: false };
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("data");
    write_dataset(&out, &tables(rows.clone().map(row).collect())).unwrap();
    let log = Dataset::open(&out).unwrap().read_interactions(&Limits::default()).unwrap();
    assert_eq!(log.rows.len(), rows.len());
    for (row, n) in log.rows.iter().zip(rows) {
        let (user, item) = (log.users[row.user as usize].as_str(), log.items[row.item as usize].as_str());
        assert_eq!((user, item, row.timestamp), (&*format!("u{}", n % 4), &*format!("i{}", n % 5), i64::from(n)));
    }
}

#[test]
fn an_older_data_directory_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("deep/data");
    write_dataset(&out, &one_click()).unwrap();
    fs::write(out.join("users.csv"), "user_id\n").unwrap();
    write_dataset(&out, &one_click()).unwrap();
    assert_eq!(names(&out), ["interactions.parquet", "items.parquet", "schema.toml"]);
    assert_eq!(names(&home.path().join("deep")), ["data"]);
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("precious.txt"), "x").unwrap();
    let error = write_dataset(home.path(), &one_click()).unwrap_err().to_string();
    assert!(error.contains("found a directory of something else"), "{error}");
    assert_eq!(names(home.path()), ["precious.txt"]);
}

#[test]
fn values_of_the_wrong_kind_are_refused_and_nothing_is_left() {
    let home = tempfile::tempdir().unwrap();
    let mut tables = one_click();
    tables.items.entities[0].features.insert("price".to_owned(), FeatureValue::Text("cheap".to_owned()));
    let error = write_dataset(&home.path().join("data"), &tables).unwrap_err().to_string();
    assert!(error.contains("column `price`: expected a number"), "{error}");
    assert_eq!(names(home.path()), [""; 0]);
}
