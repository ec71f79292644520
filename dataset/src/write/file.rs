//! A single file, written whole or not at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::directory::sibling;
use crate::error::DatasetError;

/// A temporary sibling of the file to write, removed when dropped before it was published.
pub(crate) struct StagedFile {
    out: PathBuf,
    staged: PathBuf,
}

impl StagedFile {
    /// Makes the sibling, and the folder of both where it is missing.
    pub(crate) fn create(out: &Path) -> Result<Self, DatasetError> {
        if out.is_dir() {
            return Err(DatasetError::malformed(
                out.display().to_string(),
                "expected a file to write, found a directory",
            ));
        }
        let staged = sibling(out, "new")?;
        if let Some(parent) = staged.parent() {
            fs::create_dir_all(parent).map_err(|e| DatasetError::io(parent, e))?;
        }
        File::create(&staged).map_err(|e| DatasetError::io(out, e))?;
        Ok(Self { out: out.to_owned(), staged })
    }

    /// The file as messages name it.
    pub(crate) fn name(&self) -> String {
        self.out.display().to_string()
    }

    /// The sibling, to write to.
    pub(crate) fn open(&self) -> Result<File, DatasetError> {
        File::options().write(true).open(&self.staged).map_err(|e| DatasetError::io(&self.out, e))
    }

    /// Makes the sibling durable and renames it into place.
    pub(crate) fn publish(self) -> Result<(), DatasetError> {
        let publish = || {
            File::open(&self.staged)?.sync_all()?;
            fs::rename(&self.staged, &self.out)
        };
        publish().map_err(|e| DatasetError::io(&self.out, e))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Gone already where it was published; a failure to tidy up must not hide the error that led here.
        let _ = fs::remove_file(&self.staged);
    }
}
