//! The log: interactions as numbers into interned ids, one by one in the file's order, or all at once in the order of time.
//!
//! Reading one by one ([`visit_source`]) keeps the ids and nothing of the rows, so that a log may be larger than memory.

use std::collections::{HashMap, HashSet};

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
    unknown_items::{UnknownCounter, UnknownItems},
};

/// Kinds of events are numbered by a byte, and one number says that a row names none.
const EVENTS_MAX: usize = 255;

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
    /// The rows left out because their item is not in the catalog.
    pub unknown_items: UnknownItems,
}

/// What a pass over the log leaves: who and what occurred, not the rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogIds {
    /// The users who occur, in the order of their first row in the file.
    pub users: Vec<UserId>,
    /// The items that occur, likewise.
    pub items: Vec<ItemId>,
    /// How many rows were visited; repeated ones each time.
    pub rows: u64,
    /// The rows left out as bad.
    pub bad_rows: BadRows,
    /// The rows left out because their item is not in the catalog.
    pub unknown_items: UnknownItems,
}

/// Who receives the interactions of a log, one by one; an error ends the pass.
pub(crate) type VisitInteraction<'v> = dyn FnMut(Interaction) -> Result<(), DatasetError> + 'v;

/// One interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interaction {
    /// The user's place in [`LogIds::users`].
    pub user: u32,
    /// The item's place in [`LogIds::items`].
    pub item: u32,
    /// Seconds since the Unix epoch.
    pub timestamp: i64,
    /// The event's place in the order of the schema's events, which is theirs by name; the number of events where the row names
    /// none.
    pub event: u8,
    /// The event's weight: above 0, a positive; 0, an impression without a click.
    pub weight: f32,
    /// Whether it is kept for testing; false but under [`Split::Given`].
    pub test: bool,
}

/// Reads the whole log into memory.
pub(crate) fn read_source(
    source: &Source,
    schema: &InteractionSchema,
    catalog: Option<&HashSet<String>>,
    limits: &Limits,
) -> Result<Interactions, DatasetError> {
    let (mut rows, mut seen, mut duplicates) = (Vec::new(), HashSet::new(), 0);
    let ids = visit_source(source, schema, catalog, limits, &mut |row: Interaction| {
        if seen.insert((row.user, row.item, row.timestamp, row.event, row.test)) {
            rows.push(row);
        } else {
            duplicates += 1;
        }
        Ok(())
    })?;
    rows.sort_by_key(|row| row.timestamp);
    let LogIds { users, items, bad_rows, unknown_items, .. } = ids;
    Ok(Interactions { users, items, rows, duplicates, bad_rows, unknown_items })
}

/// Reads the log row by row. Rows of items that are not in `catalog` are left out and counted.
pub(crate) fn visit_source(
    source: &Source,
    schema: &InteractionSchema,
    catalog: Option<&HashSet<String>>,
    limits: &Limits,
    visit: &mut VisitInteraction<'_>,
) -> Result<LogIds, DatasetError> {
    if schema.events.len() > EVENTS_MAX {
        let found = schema.events.len();
        return Err(DatasetError::malformed(
            &source.name,
            format!("expected at most {EVENTS_MAX} kinds of events in the schema, found {found}"),
        ));
    }
    let columns = columns(schema);
    let mut reader = LogReader::new(schema, catalog, limits.timestamp_max);
    let (mut counter, mut unknown) = (RowCounter::new(&source.name, limits), UnknownCounter::default());
    let mut rows = 0;
    source.read(&columns, limits, &mut |row| {
        let number = row.number;
        match reader.row(row) {
            Ok(Read::Interaction(interaction)) => {
                counter.count(number, Ok(()))?;
                rows += 1;
                visit(interaction)
            }
            Ok(Read::OfUnknownItem(item)) => {
                unknown.count(&source.name, number, &item);
                counter.count(number, Ok(()))
            }
            Err(fault) => counter.count(number, Err(fault)),
        }
    })?;
    let read = counter.rows();
    let bad_rows = counter.finish()?;
    let unknown_items = unknown.finish(&source.name, read, schema.unknown_items_share_max)?;
    Ok(LogIds { users: reader.users.ids, items: reader.items.ids, rows, bad_rows, unknown_items })
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

/// A good row.
enum Read {
    Interaction(Interaction),
    /// The item, which is not in the catalog.
    OfUnknownItem(String),
}

struct LogReader<'a> {
    schema: &'a InteractionSchema,
    catalog: Option<&'a HashSet<String>>,
    timestamp_max: i64,
    users: Interner<UserId>,
    items: Interner<ItemId>,
    /// The places and weights of the schema's events.
    events: HashMap<&'a str, (u8, f32)>,
}

impl<'a> LogReader<'a> {
    fn new(schema: &'a InteractionSchema, catalog: Option<&'a HashSet<String>>, timestamp_max: i64) -> Self {
        let (users, items) = (Interner::default(), Interner::default());
        let events = (0..).zip(&schema.events).map(|(place, (name, &weight))| (name.as_str(), (place, weight)));
        Self { schema, catalog, timestamp_max, users, items, events: events.collect() }
    }

    fn row(&mut self, row: Row<'_>) -> Result<Read, String> {
        let cells = row.cells?;
        let [user, item, timestamp, event, split] = cells.as_slice() else { return Err("too few columns".to_owned()) };
        let user = id(user, &self.schema.user)?;
        let item = id(item, &self.schema.item)?;
        let timestamp = decode::timestamp(timestamp, self.timestamp_max).map_err(|e| at(&self.schema.timestamp, &e))?;
        let (event, weight) = self.event(event)?;
        let test = self.schema.split == Split::Given && is_test(split)?;
        if self.items.get(&item).is_none() && self.catalog.is_some_and(|catalog| !catalog.contains(&*item)) {
            UserId::new(&*user).map_err(|e| at(&self.schema.user, &format!("{e} (found {})", shown(&user))))?;
            ItemId::new(&*item).map_err(|e| at(&self.schema.item, &format!("{e} (found {})", shown(&item))))?;
            return Ok(Read::OfUnknownItem(item.into_owned()));
        }
        let user = self.users.intern(&user, |text| UserId::new(text)).map_err(|e| at(&self.schema.user, &e))?;
        let item = self.items.intern(&item, |text| ItemId::new(text)).map_err(|e| at(&self.schema.item, &e))?;
        Ok(Read::Interaction(Interaction { user, item, timestamp, event, weight, test }))
    }

    /// The event's place and weight; 1 where the table has no such column, or the cell is empty.
    fn event(&self, event: &Cell<'_>) -> Result<(u8, f32), String> {
        let column = &self.schema.event;
        let Some(event) = decode::text(event).map_err(|e| at(column, &e))? else {
            return Ok((self.events.len() as u8, 1.0));
        };
        self.events.get(&*event).copied().ok_or_else(|| {
            let known: Vec<&str> = self.schema.events.keys().map(String::as_str).collect();
            at(column, &format!("expected one of {}, found {}", known.join(", "), shown(&event)))
        })
    }
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
