//! Why data could not be read or written.

use std::{io, path::Path};

/// Why data could not be read or written; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file is missing.
    #[error("{file}: no such file; expected {expected}")]
    MissingFile {
        /// The file or directory that was looked for.
        file: String,
        /// What it should have been.
        expected: String,
    },
    /// A table is there in two formats, and which one is meant is unclear.
    #[error("{directory}: expected one file of the table `{table}`, found {found}")]
    AmbiguousTable {
        /// The data directory.
        directory: String,
        /// The table.
        table: &'static str,
        /// The files.
        found: String,
    },
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The reason.
        source: io::Error,
    },
    /// The file's extension names no format.
    #[error("{file}: expected a file name ending in .parquet, .csv or .jsonl")]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// The schema is at fault.
    #[error("{file}: {source}")]
    Schema {
        /// The file.
        file: String,
        /// Every fault.
        source: pagoda_model::schema::InvalidSchema,
    },
    /// A column is missing.
    #[error("{file}: no column `{column}`; expected {expected}, found the columns {found}")]
    MissingColumn {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// What it should hold.
        expected: &'static str,
        /// The columns that are there.
        found: String,
    },
    /// A column has a type that cannot hold what is expected.
    #[error("{file}: column `{column}`: expected {expected}, found the type {found}")]
    WrongType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// What it should hold.
        expected: &'static str,
        /// Its type.
        found: String,
    },
    /// The file is not what its name says, or breaks a limit.
    #[error("{file}: {description}")]
    Malformed {
        /// The file.
        file: String,
        /// What was expected and found.
        description: String,
    },
    /// There are more bad rows than allowed.
    #[error(
        "{file}: {count} of {rows} rows are bad, at most {allowed} {} allowed{rule}; the first are:\n  {}",
        if *allowed == 1 { "is" } else { "are" },
        first.join("\n  ")
    )]
    TooManyBadRows {
        /// The file.
        file: String,
        /// How many are bad.
        count: u64,
        /// How many were read.
        rows: u64,
        /// How many may be bad.
        allowed: u64,
        /// How that follows, where it is not a limit that was set; empty or in brackets.
        rule: &'static str,
        /// The first of them.
        first: Vec<String>,
    },
    /// More rows than allowed are of items that the items' table does not have.
    #[error(
        "{file}: {counted}, of {rows} rows; do both files belong together? If so, let \
         `unknown_items_share_max = {share_max}` of [interactions] in schema.toml be higher; the first are:\n  {}",
        first.join("\n  ")
    )]
    TooManyUnknownItems {
        /// The file.
        file: String,
        /// How many rows, of how many items.
        counted: String,
        /// How many rows were read.
        rows: u64,
        /// Which share of them may be.
        share_max: f64,
        /// The first of them.
        first: Vec<String>,
    },
    /// The place to write to holds a schema that would be lost.
    #[error("{file}: it is not the schema that this import makes: somebody edited it, or it is of other data")]
    OtherSchema {
        /// The schema.
        file: String,
    },
    /// The place to write to holds something else.
    #[error(
        "{path}: expected a new path, an empty directory or a data directory (one with schema.toml) to replace, found {found}"
    )]
    OutputOccupied {
        /// The place.
        path: String,
        /// What is there.
        found: String,
    },
}

impl DatasetError {
    pub(crate) fn io(file: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { file: file.as_ref().display().to_string(), source }
    }

    pub(crate) fn malformed(file: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Malformed { file: file.into(), description: description.into() }
    }
}
