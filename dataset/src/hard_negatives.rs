//! The table of mined hard negatives: a Parquet file that `pagoda mine` writes and the trainer reads.
//!
//! Its columns are `user_id`, `item_id`, `rank` (from 1, the best), `score` (the ranker's, higher is better), `source` (what ranked) and
//! `version` (which version of it). The rows of a user follow one another as written; a reader need not rely on it.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;

use crate::{
    bad_rows::Limits,
    decode::{self, Cell, Wanted},
    entities::at,
    error::DatasetError,
    scores::finite,
    source::{Column, Row, Source},
    unknown_items::{KnownItems, LeftOut, read_known},
    write::{StagedFile, properties},
};

/// The longest source or version, in bytes.
pub const MINED_FROM_BYTES_MAX: usize = 256;

const COLUMNS: [(&str, Wanted); 6] = [
    ("user_id", Wanted::Id),
    ("item_id", Wanted::Id),
    ("rank", Wanted::Number),
    ("score", Wanted::Number),
    ("source", Wanted::Text),
    ("version", Wanted::Text),
];
const BATCH_ROWS: usize = 8192;

/// One row: an item that a ranker likes for a user who is not known to like it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardNegative<'a> {
    /// The user's id.
    pub user: &'a str,
    /// The item's id.
    pub item: &'a str,
    /// The item's place in the ranking, from 1.
    pub rank: u32,
    /// What the ranker gave it, finite; higher is better.
    pub score: f32,
    /// What ranked, 1 to [`MINED_FROM_BYTES_MAX`] bytes.
    pub source: &'a str,
    /// Which version of it, likewise.
    pub version: &'a str,
}

/// Writes the table row by row into a temporary sibling that takes the file's place at the end; dropped before, it leaves nothing.
pub struct HardNegativesWriter {
    file: StagedFile,
    parquet: ArrowWriter<File>,
    batch: Batch,
    rows: u64,
}

impl HardNegativesWriter {
    /// Makes sure that the file can be written. Its name ends in `.parquet`; a file that is there stays until the end.
    pub fn create(out: &Path) -> Result<Self, DatasetError> {
        if out.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("parquet")) {
            let description = "hard negatives are written as Parquet; expected a file name ending in .parquet";
            return Err(DatasetError::malformed(out.display().to_string(), description));
        }
        let file = StagedFile::create(out)?;
        let failed =
            |e: parquet::errors::ParquetError| DatasetError::malformed(out.display().to_string(), e.to_string());
        let writer = ArrowWriter::try_new(file.open()?, schema(), Some(properties().build())).map_err(failed)?;
        Ok(Self { file, parquet: writer, batch: Batch::default(), rows: 0 })
    }

    /// Adds a row.
    pub fn push(&mut self, row: &HardNegative<'_>) -> Result<(), DatasetError> {
        self.batch.push(row);
        self.rows += 1;
        if self.batch.ranks.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    /// Puts the file into its place and says how many rows it has.
    pub fn finish(mut self) -> Result<u64, DatasetError> {
        self.flush()?;
        let name = self.file.name();
        self.parquet.close().map_err(|e| DatasetError::malformed(name, e.to_string()))?;
        self.file.publish()?;
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<(), DatasetError> {
        let failed = |e: &dyn std::fmt::Display| DatasetError::malformed(self.file.name(), e.to_string());
        let batch = std::mem::take(&mut self.batch).finish().map_err(|e| failed(&e))?;
        self.parquet.write(&batch).map_err(|e| failed(&e))
    }
}

/// Rows on their way to the file, column by column.
#[derive(Default)]
struct Batch {
    users: Vec<String>,
    items: Vec<String>,
    ranks: Vec<u32>,
    scores: Vec<f32>,
    sources: Vec<String>,
    versions: Vec<String>,
}

impl Batch {
    fn push(&mut self, row: &HardNegative<'_>) {
        self.users.push(row.user.to_owned());
        self.items.push(row.item.to_owned());
        self.ranks.push(row.rank);
        self.scores.push(row.score);
        self.sources.push(row.source.to_owned());
        self.versions.push(row.version.to_owned());
    }

    fn finish(self) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let text = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let ranks: ArrayRef = Arc::new(UInt32Array::from(self.ranks));
        let scores: ArrayRef = Arc::new(Float32Array::from(self.scores));
        let columns = vec![text(self.users), text(self.items), ranks, scores, text(self.sources), text(self.versions)];
        RecordBatch::try_new(schema(), columns)
    }
}

fn schema() -> SchemaRef {
    let types = [DataType::Utf8, DataType::Utf8, DataType::UInt32, DataType::Float32, DataType::Utf8, DataType::Utf8];
    let fields: Vec<Field> =
        COLUMNS.iter().zip(types).map(|((name, _), kind)| Field::new(*name, kind, false)).collect();
    Arc::new(Schema::new(fields))
}

/// Reads a table of hard negatives row by row, in the file's order. Rows of unknown items are left out and counted. What `visit` refuses is a bad row.
pub fn read_hard_negatives(
    path: &Path,
    limits: &Limits,
    items: KnownItems<'_>,
    visit: &mut dyn FnMut(HardNegative<'_>) -> Result<(), String>,
) -> Result<LeftOut, DatasetError> {
    let source = Source::file(path)?;
    let columns: Vec<Column> = COLUMNS.iter().map(|(name, wanted)| Column::new(name, *wanted, true)).collect();
    read_known(&source, &columns, limits, items, &mut |row, knows| {
        read_row(row, &mut |row| if knows(row.item) { visit(row) } else { Ok(()) })
    })
}

fn read_row(row: Row<'_>, visit: &mut dyn FnMut(HardNegative<'_>) -> Result<(), String>) -> Result<(), String> {
    let cells = row.cells?;
    let [user, item, rank, score, source, version] = cells.as_slice() else {
        return Err("too few columns".to_owned());
    };
    let text = |cell, column: &str| {
        let text = decode::text(cell).map_err(|e| at(column, &e))?;
        text.ok_or_else(|| at(column, "expected a text, found nothing"))
    };
    let (user, item) = (text(user, "user_id")?, text(item, "item_id")?);
    let (source, version) = (text(source, "source")?, text(version, "version")?);
    for (column, value) in [("source", &source), ("version", &version)] {
        if value.len() > MINED_FROM_BYTES_MAX {
            return Err(at(column, &format!("expected at most {MINED_FROM_BYTES_MAX} bytes, found {}", value.len())));
        }
    }
    let (rank, score) = (read_rank(rank)?, finite(score, "score")?);
    visit(HardNegative { user: &user, item: &item, rank, score, source: &source, version: &version })
}

fn read_rank(cell: &Cell<'_>) -> Result<u32, String> {
    let number = decode::number(cell).map_err(|e| at("rank", &e))?;
    let whole = number.filter(|x| x.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(x));
    let found = number.map_or("nothing".to_owned(), |x| format!("`{x}`"));
    whole.map(|x| x as u32).ok_or_else(|| at("rank", &format!("expected a whole number from 1, found {found}")))
}
