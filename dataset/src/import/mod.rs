//! Makes data directories of well-known public data sets that a person has on disk; one file for each format.
//!
//! Nothing is printed and nothing is written but the data directory, and that only when all of the input was read.

mod builder;
mod csv_log;
mod lines;
mod movielens_csv;
mod movielens_dat;
mod movies;
mod ratings;
mod sequences;
mod split;

use std::{collections::BTreeMap, fmt, fs, io, path::Path, str::FromStr};

use pagoda_model::Schema;

use crate::{
    bad_rows::{BadRows, Limits},
    dataset::SCHEMA_FILE,
    entities::EntityTable,
    error::DatasetError,
    write::{DatasetTables, check_replaceable, write_dataset},
};

/// A form in which public data sets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A directory with `ratings.dat` (`user::item::rating::timestamp`), and maybe `movies.dat` and `users.dat`.
    MovielensDat,
    /// A directory with `ratings.csv` and maybe `movies.csv`.
    MovielensCsv,
    /// A directory with `train.txt` and `test.txt`, one user and all their items a line.
    Split,
    /// A text file with one user and their items, oldest first, a line.
    Sequences,
    /// A CSV file of interactions with a header, of events or of ratings.
    Csv,
}

/// How to read what the files leave open.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The lowest rating that makes a positive. None: 0.7 of the highest rating in the data, such as 3.5 of 5 or 7 of 10.
    pub positive_rating: Option<f64>,
    /// The columns of the format [`Format::Csv`].
    pub columns: CsvColumns,
    /// The weights of the events of [`Format::Csv`]. Events not named: 0 for impressions, 1 for all others.
    pub events: BTreeMap<String, f32>,
    /// Replace a schema that is another than this import makes: one that somebody edited, or that is of other data.
    pub replace_schema: bool,
    /// What is refused.
    pub limits: Limits,
}

/// Columns of [`Format::Csv`]; None: found by their usual names.
#[derive(Clone, Debug, Default)]
pub struct CsvColumns {
    /// The user's id.
    pub user: Option<String>,
    /// The item's id.
    pub item: Option<String>,
    /// The time, in seconds or milliseconds since 1970.
    pub timestamp: Option<String>,
    /// The event.
    pub event: Option<String>,
    /// A rating, which says what is a positive where there is no event.
    pub rating: Option<String>,
}

/// What was imported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportReport {
    /// Users.
    pub users: u64,
    /// Items of the catalog.
    pub items: u64,
    /// Interactions.
    pub interactions: u64,
    /// Interactions whose event weighs more than 0.
    pub positives: u64,
    /// The lowest rating that made a positive, where there were ratings.
    pub positive_rating: Option<f64>,
    /// What was left out.
    pub bad_rows: BadRows,
    /// Columns of [`Format::Csv`] that were not read.
    pub ignored_columns: Vec<String>,
}

/// A name that is no format's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, found `{found}`", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat {
    /// The name.
    pub found: String,
}

/// What an importer gathers.
struct Imported {
    tables: DatasetTables,
    /// Which rows are positives, as messages say it.
    positive_rule: String,
    positive_rating: Option<f64>,
    bad_rows: BadRows,
    ignored_columns: Vec<String>,
}

/// Reads `path` in a format and writes a data directory at `out`. On an error nothing is written. That there is no positive is
/// one: nothing could be learned.
pub fn import(format: Format, path: &Path, out: &Path, options: &ImportOptions) -> Result<ImportReport, DatasetError> {
    check_replaceable(out)?;
    let imported = match format {
        Format::MovielensDat => movielens_dat::read(path, options),
        Format::MovielensCsv => movielens_csv::read(path, options),
        Format::Split => split::read(path, options),
        Format::Sequences => sequences::read(path, options),
        Format::Csv => csv_log::read(path, options),
    }?;
    let report = imported.report();
    let refused = |description: &str| Err(DatasetError::malformed(path.display().to_string(), description));
    if report.interactions == 0 {
        return refused("expected at least one interaction, found none");
    }
    if report.positives == 0 {
        return refused(&format!("expected at least one positive, found none:\n  {}", imported.positive_rule));
    }
    if let Some(rating) = options.positive_rating.filter(|_| report.positive_rating.is_none()) {
        return refused(&format!("expected ratings, of which those from {rating} on were to be positives, found none"));
    }
    if !options.replace_schema {
        check_schema(out, &imported.tables.schema)?;
    }
    write_dataset(out, &imported.tables)?;
    Ok(report)
}

/// Refuses a place whose schema would be lost.
fn check_schema(out: &Path, schema: &Schema) -> Result<(), DatasetError> {
    let file = out.join(SCHEMA_FILE);
    match fs::read(&file) {
        Ok(found) if found != schema.to_toml().into_bytes() => {
            Err(DatasetError::OtherSchema { file: file.display().to_string() })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DatasetError::io(&file, error)),
        _ => Ok(()),
    }
}

impl Imported {
    fn report(&self) -> ImportReport {
        let DatasetTables { schema, users, items, log } = &self.tables;
        let weights: Vec<f32> =
            log.events.iter().map(|e| schema.interactions.events.get(e).copied().unwrap_or(0.0)).collect();
        ImportReport {
            users: users.as_ref().map_or(log.users.len(), |users: &EntityTable| users.entities.len()) as u64,
            items: items.entities.len() as u64,
            interactions: log.rows.len() as u64,
            positives: log.rows.iter().filter(|row| weights[usize::from(row.event)] > 0.0).count() as u64,
            positive_rating: self.positive_rating,
            bad_rows: self.bad_rows.clone(),
            ignored_columns: self.ignored_columns.clone(),
        }
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::MovielensDat, Self::MovielensCsv, Self::Split, Self::Sequences, Self::Csv];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MovielensDat => "movielens-dat",
            Self::MovielensCsv => "movielens-csv",
            Self::Split => "split",
            Self::Sequences => "sequences",
            Self::Csv => "csv",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|f| f.name() == text)
            .ok_or_else(|| UnknownFormat { found: text.chars().take(60).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_name() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "movielens".parse::<Format>().unwrap_err().to_string();
        assert!(error.contains("movielens-dat") && error.ends_with("found `movielens`"), "{error}");
    }
}
