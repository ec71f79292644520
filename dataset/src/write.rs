//! Writes tables as Parquet, and whole data directories at once: made in a temporary sibling, synced, and renamed at
//! the end, so that an error leaves nothing.

mod columns;
mod directory;
mod file;

use std::{ops::Range, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use pagoda_model::{
    Entity, ItemId, UserId,
    schema::{EntitySchema, InteractionSchema, SPLIT_COLUMN, Split},
};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::properties::{WriterProperties, WriterPropertiesBuilder},
};

use crate::error::DatasetError;
use columns::NamedColumn;

pub(crate) use directory::check_replaceable;
pub use directory::{DatasetTables, write_dataset, write_dataset_with};
pub(crate) use file::StagedFile;

/// Rows of a column that are in memory as it is written. All its texts together have at most 2 GiB.
const ROWS_AT_ONCE: usize = 1 << 16;

/// A log to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogTable {
    /// The users who occur.
    pub users: Vec<UserId>,
    /// The items that occur.
    pub items: Vec<ItemId>,
    /// The names of the events.
    pub events: Vec<String>,
    /// The rows, in any order.
    pub rows: Vec<LogRow>,
}

/// One row of a log to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// The user's place in [`LogTable::users`].
    pub user: u32,
    /// The item's place in [`LogTable::items`].
    pub item: u32,
    /// Seconds since the Unix epoch.
    pub timestamp: i64,
    /// The event's place in [`LogTable::events`].
    pub event: u8,
    /// Whether it is kept for testing; written under [`Split::Given`].
    pub test: bool,
}

/// A table of users or items as the bytes of a Parquet file: the id, the title where the schema has one, and the
/// features. `titles` is as long as `entities`. Entities whose values are not of their feature's kind are refused.
pub fn write_entities_parquet(
    schema: &EntitySchema,
    entities: &[Entity],
    titles: &[Option<String>],
) -> Result<Vec<u8>, DatasetError> {
    to_parquet(entities.len(), |rows| columns::entity_columns(schema, &entities[rows.clone()], &titles[rows]))
}

/// A log as the bytes of a Parquet file, in the columns that the schema names.
pub fn write_interactions_parquet(schema: &InteractionSchema, log: &LogTable) -> Result<Vec<u8>, DatasetError> {
    to_parquet(log.rows.len(), |rows| Ok(log_columns(schema, log, &log.rows[rows])))
}

fn log_columns(schema: &InteractionSchema, log: &LogTable, rows: &[LogRow]) -> Vec<NamedColumn> {
    let time: ArrayRef = Arc::new(rows.iter().map(|row| row.timestamp).collect::<Int64Array>());
    let mut columns = vec![
        (schema.user.clone(), text_column(rows, |row| log.users[row.user as usize].as_str())),
        (schema.item.clone(), text_column(rows, |row| log.items[row.item as usize].as_str())),
        (schema.timestamp.clone(), time),
        (schema.event.clone(), text_column(rows, |row| &log.events[usize::from(row.event)])),
    ];
    if schema.split == Split::Given {
        columns.push((SPLIT_COLUMN.to_owned(), text_column(rows, |row| if row.test { "test" } else { "train" })));
    }
    columns
}

fn text_column<'a>(rows: &'a [LogRow], of: impl Fn(&LogRow) -> &'a str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
}

/// A table of so many rows, of which `columns` makes some at a time.
fn to_parquet(
    count: usize,
    columns: impl Fn(Range<usize>) -> Result<Vec<NamedColumn>, DatasetError>,
) -> Result<Vec<u8>, DatasetError> {
    let failed = |e: &dyn std::fmt::Display| DatasetError::malformed("a table to be written", e.to_string());
    let batch = |start: usize| {
        let columns = columns(start..count.min(start + ROWS_AT_ONCE))?;
        let fields = columns.into_iter().map(|(name, array)| (name, array, true));
        RecordBatch::try_from_iter_with_nullable(fields).map_err(|e| failed(&e))
    };
    let first = batch(0)?;
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, first.schema(), Some(properties().build())).map_err(|e| failed(&e))?;
    writer.write(&first).map_err(|e| failed(&e))?;
    for start in (0..count).step_by(ROWS_AT_ONCE).skip(1) {
        writer.write(&batch(start)?).map_err(|e| failed(&e))?;
    }
    writer.close().map_err(|e| failed(&e))?;
    Ok(bytes)
}

pub(crate) fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::SNAPPY).set_created_by("pagoda".to_owned())
}
