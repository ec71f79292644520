//! A table as rows of cells, whatever its format: one reader for each, chosen by the file's extension.

mod arrow_column;
mod csv;
mod jsonl;
mod parquet;
mod record_limit;

use std::{
    fs::File,
    io::{BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{
    bad_rows::Limits,
    decode::{Cell, Wanted},
    error::DatasetError,
};

/// The extensions of the formats, in the order in which they are looked for.
pub(crate) const EXTENSIONS: [&str; 3] = ["parquet", "csv", "jsonl"];

/// One table: a file or its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// As messages name it.
    pub(crate) name: String,
    data: Data,
    format: Format,
}

/// A column that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Another name that it may have.
    pub(crate) or: Option<&'static str>,
    pub(crate) wanted: Wanted,
    /// Whether its absence from the table is an error; otherwise all its cells are absent.
    pub(crate) required: bool,
}

/// One row: its number from 1, and its cells in the order of the columns asked for, or why it has none.
pub(crate) struct Row<'a> {
    pub(crate) number: u64,
    pub(crate) cells: Result<Vec<Cell<'a>>, String>,
}

/// Who receives the rows.
pub(crate) type Visit<'v> = dyn FnMut(Row<'_>) -> Result<(), DatasetError> + 'v;

#[derive(Clone, Debug)]
enum Data {
    File(PathBuf),
    Memory(Bytes),
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Parquet,
    Csv,
    Jsonl,
}

impl Source {
    /// A table in a file.
    pub(crate) fn file(path: &Path) -> Result<Self, DatasetError> {
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        Ok(Self { format: Format::of(&name)?, name: path.display().to_string(), data: Data::File(path.to_owned()) })
    }

    /// A table in a CSV file, whatever its extension.
    pub(crate) fn csv_file(path: &Path) -> Self {
        Self { format: Format::Csv, name: path.display().to_string(), data: Data::File(path.to_owned()) }
    }

    /// The columns that a CSV file's header names.
    pub(crate) fn csv_header(&self, limits: &Limits) -> Result<Vec<String>, DatasetError> {
        csv::header(&self.name, self.reader()?, limits)
    }

    /// A table in memory.
    pub(crate) fn memory(name: &str, bytes: Bytes) -> Result<Self, DatasetError> {
        Ok(Self { format: Format::of(name)?, name: name.to_owned(), data: Data::Memory(bytes) })
    }

    /// Reads the columns of every row, in order.
    pub(crate) fn read(&self, columns: &[Column], limits: &Limits, visit: &mut Visit<'_>) -> Result<(), DatasetError> {
        match self.format {
            Format::Csv => csv::read(&self.name, self.reader()?, columns, limits, visit),
            Format::Jsonl => jsonl::read(&self.name, self.reader()?, columns, limits, visit),
            Format::Parquet => match &self.data {
                Data::File(path) => parquet::read(&self.name, open(path)?, columns, limits, visit),
                Data::Memory(bytes) => parquet::read(&self.name, bytes.clone(), columns, limits, visit),
            },
        }
    }

    fn reader(&self) -> Result<Box<dyn Read>, DatasetError> {
        Ok(match &self.data {
            Data::File(path) => Box::new(BufReader::with_capacity(1 << 18, open(path)?)),
            Data::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
        })
    }
}

impl Format {
    fn of(name: &str) -> Result<Self, DatasetError> {
        match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            _ => Err(DatasetError::UnknownFormat { file: name.to_owned() }),
        }
    }
}

impl Column {
    pub(crate) fn new(name: &str, wanted: Wanted, required: bool) -> Self {
        Self { name: name.to_owned(), or: None, wanted, required }
    }

    /// A required column that has one of two names.
    pub(crate) fn of_either(names: [&'static str; 2], wanted: Wanted) -> Self {
        Self { or: Some(names[1]), ..Self::new(names[0], wanted, true) }
    }

    /// Its names, the first one before the other.
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.or)
    }

    /// Its place among a table's columns.
    fn place(&self, found: &[&str]) -> Option<usize> {
        self.names().find_map(|name| found.iter().position(|other| *other == name))
    }

    fn missing(&self, file: &str, found: &[&str]) -> DatasetError {
        DatasetError::MissingColumn {
            file: file.to_owned(),
            column: self.names().collect::<Vec<_>>().join("` or `"),
            expected: self.wanted.described(),
            found: listed(found),
        }
    }
}

fn open(path: &Path) -> Result<File, DatasetError> {
    File::open(path).map_err(|e| DatasetError::io(path, e))
}

/// At most 50 names, as messages list them.
pub(crate) fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut list: Vec<String> = names.iter().take(50).map(|n| crate::bad_rows::shown(n)).collect();
    if names.len() > 50 {
        list.push(format!("and {} more", names.len() - 50));
    }
    list.join(", ")
}
