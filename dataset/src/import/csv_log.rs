//! A plain CSV file of interactions with a header.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use pagoda_model::{Schema, schema::InteractionSchema};

use super::{
    CsvColumns, ImportOptions, Imported,
    builder::{LogBuilder, NewRow, catalog, items_by_id, users_by_history},
    ratings::{Rated, RatingFields, Ratings},
};
use crate::{
    bad_rows::RowCounter,
    decode::{self, Cell, Wanted},
    entities::{EntityTable, at},
    error::DatasetError,
    source::{Column, Row, Source, listed},
    write::{DatasetTables, LogTable},
};

const USER_NAMES: &[&str] =
    &["user_id", "userid", "user", "uid", "visitor_id", "visitorid", "customer_id", "session_id"];
const ITEM_NAMES: &[&str] =
    &["item_id", "itemid", "item", "iid", "movie_id", "movieid", "product_id", "productid", "sku", "article_id"];
const TIME_NAMES: &[&str] = &["timestamp", "time", "ts", "unix_time", "unixtime", "event_time"];
const EVENT_NAMES: &[&str] = &["event", "event_type", "action", "behavior", "behaviour"];
const RATING_NAMES: &[&str] = &["rating", "ratings", "stars"];
const IMPRESSION_NAMES: &[&str] = &["impression", "exposure", "show", "display"];

/// Where a column of events has more values than this, it is likely no column of events.
const EVENTS_MAX: usize = 100;

/// Seconds after this (the year 5138) are taken for milliseconds.
const SECONDS_MAX: i64 = 100_000_000_000;

/// The columns that are read, by their places.
const USER: usize = 0;
const ITEM: usize = 1;
const TIME: usize = 2;
const EVENT: usize = 3;
const RATING: usize = 4;

pub(super) fn read(path: &Path, options: &ImportOptions) -> Result<Imported, DatasetError> {
    if !path.is_file() {
        let expected = "a CSV file with a header naming a user, an item and a time".to_owned();
        return Err(DatasetError::MissingFile { file: path.display().to_string(), expected });
    }
    let source = Source::csv_file(path);
    let header = source.csv_header(&options.limits)?;
    let columns = columns(&header, &options.columns);
    let has = |place: usize| header.contains(&columns[place].name);
    let read = if has(RATING) && !has(EVENT) { RATING } else { EVENT };
    let is_read = |name: &String| [USER, ITEM, TIME, read].iter().any(|&place| columns[place].name == *name);
    let ignored_columns = header.iter().filter(|name| !is_read(name)).cloned().collect();
    let imported = if read == RATING { rated(&source, &columns, options) } else { events(&source, &columns, options) };
    Ok(Imported { ignored_columns, ..imported? })
}

/// A log whose column of events says what is a positive; without one all are.
fn events(source: &Source, columns: &[Column; 5], options: &ImportOptions) -> Result<Imported, DatasetError> {
    let mut reader =
        LogReader { log: LogBuilder::default(), events: Vec::new(), timestamp_max: options.limits.timestamp_max };
    let mut counter = RowCounter::new(&source.name, &options.limits);
    source.read(columns, &options.limits, &mut |row| counter.count(row.number, reader.row(row, columns)))?;
    let bad_rows = counter.finish()?;
    let weights = weights(&reader.events, &options.events);
    let positive_rule = positive_rule(&columns[EVENT].name, &reader.events);
    let history_length = reader.log.history_length();
    let tables = tables(reader.log.finish(reader.events), weights, history_length);
    Ok(Imported { tables, positive_rule, positive_rating: None, bad_rows, ignored_columns: Vec::new() })
}

/// A log whose ratings say what is a positive.
fn rated(source: &Source, columns: &[Column; 5], options: &ImportOptions) -> Result<Imported, DatasetError> {
    let (mut ratings, limits) = (Ratings::default(), &options.limits);
    let mut counter = RowCounter::new(&source.name, limits);
    let mut push = |row: Row<'_>| {
        let cells = row.cells?;
        let [user, item, rating] = [USER, ITEM, RATING].map(|place| text(&cells, columns, place));
        let timestamp = timestamp(&cells, columns, limits.timestamp_max)?;
        ratings.push(&RatingFields { user: &user?, item: &item?, rating: &rating?, timestamp })
    };
    source.read(columns, limits, &mut |row| counter.count(row.number, push(row)))?;
    let bad_rows = counter.finish()?;
    let history_length = ratings.history_length();
    let Rated { log, weights, threshold, positive_rule } = ratings.rated(options);
    let tables = tables(log, weights, history_length);
    Ok(Imported { tables, positive_rule, positive_rating: Some(threshold), bad_rows, ignored_columns: Vec::new() })
}

fn tables(log: LogTable, events: BTreeMap<String, f32>, history_length: usize) -> DatasetTables {
    let interactions = InteractionSchema { events, ..InteractionSchema::default() };
    let schema = Schema { user: users_by_history(history_length), item: items_by_id(), interactions };
    let items = catalog(EntityTable::default(), &log);
    DatasetTables { schema, users: None, items, log }
}

/// The columns asked for by name, else the header's first of the usual names, in any case.
fn columns(header: &[String], asked: &CsvColumns) -> [Column; 5] {
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
        find(&asked.rating, RATING_NAMES, Wanted::Number, asked.rating.is_some()),
    ]
}

fn text<'c>(cells: &[Cell<'c>], columns: &[Column; 5], place: usize) -> Result<Cow<'c, str>, String> {
    Ok(decode::text(&cells[place]).map_err(|e| at(&columns[place].name, &e))?.unwrap_or_default())
}

fn timestamp(cells: &[Cell<'_>], columns: &[Column; 5], latest: i64) -> Result<i64, String> {
    seconds(&cells[TIME], latest).map_err(|e| at(&columns[TIME].name, &e))
}

struct LogReader {
    log: LogBuilder,
    events: Vec<String>,
    timestamp_max: i64,
}

impl LogReader {
    fn row(&mut self, row: Row<'_>, columns: &[Column; 5]) -> Result<(), String> {
        let cells = row.cells?;
        let [user, item, event] = [USER, ITEM, EVENT].map(|place| text(&cells, columns, place));
        let (user, item, event) = (user?, item?, event?);
        let timestamp = Some(timestamp(&cells, columns, self.timestamp_max)?);
        let event = if event.is_empty() { "click" } else { &event };
        let event = self.event(event).map_err(|e| at(&columns[EVENT].name, &e))?;
        self.log.push(&NewRow { user: &user, item: &item, timestamp, event, test: false })
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
