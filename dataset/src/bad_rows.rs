//! Bad rows: counted, the first ones kept as text, refused past a limit.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::DatasetError;

/// How many bad rows are kept as text.
pub const BAD_ROWS_SHOWN: usize = 10;
/// How many of them a person is told of.
const BAD_ROWS_TOLD: usize = 5;
/// What is allowed of a table without a limit of its own, as messages say it.
const RULE: &str = " (one in a hundred; of a small file 10, but no more than half)";

const SECONDS_PER_DAY: i64 = 86_400;

/// What is refused while reading.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many rows of a table may be bad. None: one in a hundred; of a table of less than a thousand rows 10, but no more than half of
    /// them.
    pub bad_rows_max: Option<u64>,
    /// The longest row of a text file, in bytes.
    pub row_bytes_max: usize,
    /// The most rows of a table.
    pub rows_max: u64,
    /// The latest timestamp believed, in seconds since the Unix epoch; by default a day from now.
    pub timestamp_max: i64,
}

/// The rows that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadRows {
    /// How many.
    pub count: u64,
    /// The first [`BAD_ROWS_SHOWN`], such as "items.csv row 12: column `price`: expected a number, found `abc`".
    /// Rows count from 1; a CSV file's header is no row.
    pub first: Vec<String>,
}

/// Counts the rows of one table, and the bad ones among them.
pub(crate) struct RowCounter<'a> {
    file: &'a str,
    limits: &'a Limits,
    rows: u64,
    bad: BadRows,
}

impl Default for Limits {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self {
            bad_rows_max: None,
            row_bytes_max: 16 << 20,
            rows_max: u64::from(u32::MAX),
            timestamp_max: i64::try_from(now).unwrap_or(i64::MAX - SECONDS_PER_DAY) + SECONDS_PER_DAY,
        }
    }
}

impl BadRows {
    /// The first ones and how many more there are, a line each.
    pub fn lines(&self) -> Vec<String> {
        let told = self.first.iter().take(BAD_ROWS_TOLD);
        let more = self.count - told.len() as u64;
        told.cloned().chain((more > 0).then(|| format!("and {more} more"))).collect()
    }

    /// What was left out, in words and with the first ones; None if nothing was.
    pub fn note(&self) -> Option<String> {
        let rows = if self.count == 1 { "bad row was" } else { "bad rows were" };
        (self.count > 0).then(|| format!("{} {rows} left out:\n  {}", self.count, self.lines().join("\n  ")))
    }

    /// Counts those of another table as well.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.count += others.count;
        self.first.extend(others.first);
        self.first.truncate(BAD_ROWS_SHOWN);
        self
    }
}

impl Limits {
    fn bad_rows_allowed(&self, rows: u64) -> u64 {
        self.bad_rows_max.unwrap_or_else(|| (rows / 100).max(10.min(rows / 2)))
    }
}

impl<'a> RowCounter<'a> {
    pub(crate) fn new(file: &'a str, limits: &'a Limits) -> Self {
        Self { file, limits, rows: 0, bad: BadRows::default() }
    }

    /// Counts a row, and why it is bad if it is.
    pub(crate) fn count(&mut self, row: u64, outcome: Result<(), String>) -> Result<(), DatasetError> {
        self.rows += 1;
        if self.rows > self.limits.rows_max {
            return Err(DatasetError::malformed(self.file, format!("more than {} rows", self.limits.rows_max)));
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(description) => self.bad_row(row, &description),
        }
    }

    /// How many rows were counted.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    fn bad_row(&mut self, row: u64, description: &str) -> Result<(), DatasetError> {
        self.bad.count += 1;
        if self.bad.first.len() < BAD_ROWS_SHOWN {
            self.bad.first.push(format!("{} row {row}: {description}", self.file));
        }
        match self.limits.bad_rows_max {
            Some(allowed) if self.bad.count > allowed => Err(self.too_many()),
            _ => Ok(()),
        }
    }

    /// The bad rows, if they are few enough.
    pub(crate) fn finish(self) -> Result<BadRows, DatasetError> {
        if self.bad.count > self.limits.bad_rows_allowed(self.rows) { Err(self.too_many()) } else { Ok(self.bad) }
    }

    fn too_many(&self) -> DatasetError {
        DatasetError::TooManyBadRows {
            file: self.file.to_owned(),
            count: self.bad.count,
            rows: self.rows,
            allowed: self.limits.bad_rows_allowed(self.rows),
            rule: if self.limits.bad_rows_max.is_none() { RULE } else { "" },
            first: self.bad.first.clone(),
        }
    }
}

/// At most 60 characters of a text found in a table, as it is shown in a message.
pub fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_bad() {
        let limits = Limits::default();
        let mut counter = RowCounter::new("items.csv", &limits);
        for row in 1..=2000 {
            let outcome = if row <= 20 { Err("column `price`: odd".to_owned()) } else { Ok(()) };
            counter.count(row, outcome).unwrap();
        }
        let bad = counter.finish().unwrap();
        assert_eq!((bad.count, bad.first.len()), (20, 10));
        assert_eq!(bad.first[1], "items.csv row 2: column `price`: odd");
        let lines = bad.lines();
        assert_eq!((lines.len(), lines[4].as_str()), (6, "items.csv row 5: column `price`: odd"));
        assert_eq!((lines[5].as_str(), BadRows::default().lines().len()), ("and 15 more", 0));
    }

    #[test]
    fn of_a_small_file_no_more_than_half_may_be_bad() {
        let read = |rows: u64, bad: u64| {
            let limits = Limits::default();
            let mut counter = RowCounter::new("items.csv", &limits);
            (0..rows).for_each(|row| counter.count(row, if row < bad { Err("odd".into()) } else { Ok(()) }).unwrap());
            counter.finish()
        };
        assert!(read(3, 1).is_ok() && read(20, 10).is_ok() && read(900, 10).is_ok());
        assert!(read(1, 1).is_err() && read(900, 11).is_err());
        let error = read(3, 2).unwrap_err().to_string();
        assert!(
            error.contains("2 of 3 rows are bad, at most 1 is allowed (one in a hundred; of a small file"),
            "{error}"
        );
    }

    #[test]
    fn past_the_limit_the_first_are_named() {
        let limits = Limits { bad_rows_max: Some(1), ..Limits::default() };
        let mut counter = RowCounter::new("items.csv", &limits);
        counter.count(1, Err("a".into())).unwrap();
        let error = counter.count(2, Err("b".into())).unwrap_err().to_string();
        assert!(error.contains("2 of 2 rows") && error.contains("items.csv row 1: a"), "{error}");
    }
}
