//! The log: interactions as numbers into interned ids, in the order of time.

use std::collections::HashSet;

use pagoda_model::{
    ItemId, UserId,
    schema::{InteractionSchema, SPLIT_COLUMN, Split},
};

use crate::{
    bad_rows::{BadRows, Limits, RowCounter, shown},
    decode::{self, Cell, Wanted},
    entities::at,
    error::DatasetError,
    interner::Interner,
    source::{Column, Row, Source},
};

/// The rows of the log that are not bad.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interactions {
    /// The users who occur, in the order of their first row in the file.
    pub users: Vec<UserId>,
    /// The items that occur, likewise.
    pub items: Vec<ItemId>,
    /// The interactions by (timestamp, order in the file).
    pub rows: Vec<Interaction>,
    /// Rows that repeat an earlier one in every column, and were dropped.
    pub duplicates: u64,
    /// The rows left out as bad.
    pub bad_rows: BadRows,
}

/// One interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interaction {
    /// The user's place in [`Interactions::users`].
    pub user: u32,
    /// The item's place in [`Interactions::items`].
    pub item: u32,
    /// Seconds since the Unix epoch.
    pub timestamp: i64,
    /// The event's weight: above 0, a positive; 0, an impression without a click.
    pub weight: f32,
    /// Whether it is kept for testing; false but under [`Split::Given`].
    pub test: bool,
}

/// Reads the log. An item that is not in `catalog` makes its row a bad one.
pub(crate) fn read_source(
    source: &Source,
    schema: &InteractionSchema,
    catalog: Option<&HashSet<String>>,
    limits: &Limits,
) -> Result<Interactions, DatasetError> {
    let columns = columns(schema);
    let mut reader = LogReader::new(schema, catalog, limits.timestamp_max);
    let mut counter = RowCounter::new(&source.name, limits);
    source.read(&columns, limits, &mut |row| counter.count(row.number, reader.row(row)))?;
    let bad_rows = counter.finish()?;
    Ok(reader.finish(bad_rows))
}

fn columns(schema: &InteractionSchema) -> Vec<Column> {
    vec![
        Column::new(&schema.user, Wanted::Id, true),
        Column::new(&schema.item, Wanted::Id, true),
        Column::new(&schema.timestamp, Wanted::Time, true),
        Column::new(&schema.event, Wanted::Text, false),
        Column::new(SPLIT_COLUMN, Wanted::Text, schema.split == Split::Given),
    ]
}

struct LogReader<'a> {
    schema: &'a InteractionSchema,
    catalog: Option<&'a HashSet<String>>,
    timestamp_max: i64,
    users: Interner<UserId>,
    items: Interner<ItemId>,
    rows: Vec<Interaction>,
}

impl<'a> LogReader<'a> {
    fn new(schema: &'a InteractionSchema, catalog: Option<&'a HashSet<String>>, timestamp_max: i64) -> Self {
        let (users, items) = (Interner::default(), Interner::default());
        Self { schema, catalog, timestamp_max, users, items, rows: Vec::new() }
    }

    fn row(&mut self, row: Row<'_>) -> Result<(), String> {
        let cells = row.cells?;
        let [user, item, timestamp, event, split] = cells.as_slice() else { return Err("too few columns".to_owned()) };
        let user = id(user, &self.schema.user)?;
        let item = id(item, &self.schema.item)?;
        let timestamp = decode::timestamp(timestamp, self.timestamp_max).map_err(|e| at(&self.schema.timestamp, &e))?;
        let weight = self.weight(event)?;
        let test = self.schema.split == Split::Given && is_test(split)?;
        if self.items.get(&item).is_none() && self.catalog.is_some_and(|catalog| !catalog.contains(&*item)) {
            return Err(at(
                &self.schema.item,
                &format!("expected an item of the items' table, found {}", shown(&item)),
            ));
        }
        let user = self.users.intern(&user, |text| UserId::new(text)).map_err(|e| at(&self.schema.user, &e))?;
        let item = self.items.intern(&item, |text| ItemId::new(text)).map_err(|e| at(&self.schema.item, &e))?;
        self.rows.push(Interaction { user, item, timestamp, weight, test });
        Ok(())
    }

    /// The event's weight; 1 where the table has no such column, or the cell is empty.
    fn weight(&self, event: &Cell<'_>) -> Result<f32, String> {
        let column = &self.schema.event;
        let Some(event) = decode::text(event).map_err(|e| at(column, &e))? else { return Ok(1.0) };
        self.schema.events.get(&*event).copied().ok_or_else(|| {
            let known: Vec<&str> = self.schema.events.keys().map(String::as_str).collect();
            at(column, &format!("expected one of {}, found {}", known.join(", "), shown(&event)))
        })
    }

    fn finish(self, bad_rows: BadRows) -> Interactions {
        let mut rows = self.rows;
        let read = rows.len();
        drop_duplicates(&mut rows);
        let duplicates = (read - rows.len()) as u64;
        rows.sort_by_key(|row| row.timestamp);
        Interactions { users: self.users.ids, items: self.items.ids, rows, duplicates, bad_rows }
    }
}

fn drop_duplicates(rows: &mut Vec<Interaction>) {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.retain(|row| seen.insert((row.user, row.item, row.timestamp, row.weight.to_bits(), row.test)));
}

fn id<'c>(cell: &Cell<'c>, column: &str) -> Result<std::borrow::Cow<'c, str>, String> {
    let text = decode::text(cell).map_err(|e| at(column, &e))?;
    text.ok_or_else(|| at(column, &format!("expected {}, found nothing", Wanted::Id.described())))
}

fn is_test(cell: &Cell<'_>) -> Result<bool, String> {
    match decode::text(cell).map_err(|e| at(SPLIT_COLUMN, &e))?.as_deref() {
        Some("train") => Ok(false),
        Some("test") => Ok(true),
        other => Err(at(SPLIT_COLUMN, &format!("expected train or test, found {}", shown(other.unwrap_or_default())))),
    }
}
