//! A plain CSV file of interactions with a header.

use std::{collections::BTreeMap, path::Path};

use pagoda_model::{Schema, schema::InteractionSchema};

use super::{
    CsvColumns, ImportOptions, Imported,
    builder::{LogBuilder, NewRow, catalog, items_by_id, users_by_history},
};
use crate::{
    bad_rows::RowCounter,
    decode::{self, Cell, Wanted},
    entities::{EntityTable, at},
    error::DatasetError,
    source::{Column, Row, Source, listed},
    write::DatasetTables,
};

const USER_NAMES: &[&str] =
    &["user_id", "userid", "user", "uid", "visitor_id", "visitorid", "customer_id", "session_id"];
const ITEM_NAMES: &[&str] =
    &["item_id", "itemid", "item", "iid", "movie_id", "movieid", "product_id", "productid", "sku", "article_id"];
const TIME_NAMES: &[&str] = &["timestamp", "time", "ts", "unix_time", "unixtime", "event_time"];
const EVENT_NAMES: &[&str] = &["event", "event_type", "action", "behavior", "behaviour"];
const IMPRESSION_NAMES: &[&str] = &["impression", "exposure", "show", "display"];

/// Where a column of events has more values than this, it is likely no column of events.
const EVENTS_MAX: usize = 100;

/// Seconds after this (the year 5138) are taken for milliseconds.
const SECONDS_MAX: i64 = 100_000_000_000;

pub(super) fn read(path: &Path, options: &ImportOptions) -> Result<Imported, DatasetError> {
    if !path.is_file() {
        let expected = "a CSV file with a header naming a user, an item and a time".to_owned();
        return Err(DatasetError::MissingFile { file: path.display().to_string(), expected });
    }
    let source = Source::csv_file(path);
    let columns = columns(&source.csv_header(&options.limits)?, &options.columns);
    let mut reader =
        LogReader { log: LogBuilder::default(), events: Vec::new(), timestamp_max: options.limits.timestamp_max };
    let mut counter = RowCounter::new(&source.name, &options.limits);
    source.read(&columns, &options.limits, &mut |row| counter.count(row.number, reader.row(row, &columns)))?;
    let bad_rows = counter.finish()?;
    let weights = weights(&reader.events, &options.events);
    let positive_rule = positive_rule(&columns[3].name, &reader.events);
    let users = users_by_history(reader.log.history_length());
    let log = reader.log.finish(reader.events);
    let interactions = InteractionSchema { events: weights, ..InteractionSchema::default() };
    let schema = Schema { user: users, item: items_by_id(), interactions };
    let items = catalog(EntityTable::default(), &log);
    let tables = DatasetTables { schema, users: None, items, log };
    Ok(Imported { tables, positive_rule, positive_rating: None, bad_rows })
}

/// The columns asked for by name, else the header's first of the usual names, in any case.
fn columns(header: &[String], asked: &CsvColumns) -> [Column; 4] {
    let find = |asked: &Option<String>, usual: &[&str], wanted, required| {
        let found = || usual.iter().find_map(|name| header.iter().find(|h| h.eq_ignore_ascii_case(name)).cloned());
        let name = asked.clone().or_else(found).unwrap_or_else(|| usual[0].to_owned());
        Column::new(&name, wanted, required)
    };
    [
        find(&asked.user, USER_NAMES, Wanted::Id, true),
        find(&asked.item, ITEM_NAMES, Wanted::Id, true),
        find(&asked.timestamp, TIME_NAMES, Wanted::Time, true),
        find(&asked.event, EVENT_NAMES, Wanted::Text, asked.event.is_some()),
    ]
}

struct LogReader {
    log: LogBuilder,
    events: Vec<String>,
    timestamp_max: i64,
}

impl LogReader {
    fn row(&mut self, row: Row<'_>, columns: &[Column; 4]) -> Result<(), String> {
        let cells = row.cells?;
        let text = |i: usize| {
            Ok::<_, String>(decode::text(&cells[i]).map_err(|e| at(&columns[i].name, &e))?.unwrap_or_default())
        };
        let (user, item, event) = (text(0)?, text(1)?, text(3)?);
        let timestamp = seconds(&cells[2], self.timestamp_max).map_err(|e| at(&columns[2].name, &e))?;
        let event =
            self.event(if event.is_empty() { "click" } else { &event }).map_err(|e| at(&columns[3].name, &e))?;
        self.log.push(&NewRow { user: &user, item: &item, timestamp: Some(timestamp), event, test: false })
    }

    fn event(&mut self, event: &str) -> Result<u8, String> {
        let place = self.events.iter().position(|e| e == event).unwrap_or(self.events.len());
        if place >= EVENTS_MAX {
            return Err(format!(
                "expected at most {EVENTS_MAX} different events, found {} as well",
                crate::bad_rows::shown(event)
            ));
        }
        if place == self.events.len() {
            self.events.push(event.to_owned());
        }
        Ok(place as u8)
    }
}

fn seconds(cell: &Cell<'_>, latest: i64) -> Result<i64, String> {
    let time = decode::timestamp(cell, latest.saturating_mul(1000))?;
    let time = if time > SECONDS_MAX { time / 1000 } else { time };
    decode::timestamp(&Cell::Integer(time), latest)
}

fn positive_rule(column: &str, events: &[String]) -> String {
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    format!(
        "column `{column}` has {}, and an event is a positive unless it weighs 0, as {} do",
        listed(&events),
        IMPRESSION_NAMES.join(", ")
    )
}

fn weights(events: &[String], asked: &BTreeMap<String, f32>) -> BTreeMap<String, f32> {
    let usual =
        |event: &str| if IMPRESSION_NAMES.iter().any(|name| event.eq_ignore_ascii_case(name)) { 0.0 } else { 1.0 };
    events.iter().map(|event| (event.clone(), asked.get(event).copied().unwrap_or_else(|| usual(event)))).collect()
}
