//! The form of sequential recommendation's data sets: a line being a user and their items, oldest first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pagoda_model::schema::Split;

use super::{ImportOptions, Imported, builder::LogBuilder, split};
use crate::error::DatasetError;

pub(super) fn read(path: &Path, options: &ImportOptions) -> Result<Imported, DatasetError> {
    let mut log = LogBuilder::default();
    let bad_rows = split::read_user_lines(&find_file(path)?, &mut log, 1, false, options)?;
    Ok(split::imported(log, Split::LeaveLastOut, bad_rows))
}

/// The file itself, or the one text file of a directory.
fn find_file(path: &Path) -> Result<PathBuf, DatasetError> {
    let missing = || DatasetError::MissingFile {
        file: path.display().to_string(),
        expected: "a text file, or a directory with one .txt file, of lines of a user and their items, oldest first"
            .to_owned(),
    };
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let entries = fs::read_dir(path).map_err(|_| missing())?;
    let mut texts = entries.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "txt"));
    match (texts.next(), texts.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(missing()),
    }
}
