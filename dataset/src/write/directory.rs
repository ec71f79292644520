//! A whole data directory, written at once.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process,
};

use pagoda_model::Schema;

use super::{LogTable, write_entities_parquet, write_interactions_parquet};
use crate::{dataset::SCHEMA_FILE, entities::EntityTable, error::DatasetError};

/// The content of a data directory. Without users no users' table is written.
#[derive(Clone, Debug)]
pub struct DatasetTables {
    /// What the tables hold.
    pub schema: Schema,
    /// The users.
    pub users: Option<EntityTable>,
    /// The catalog.
    pub items: EntityTable,
    /// The log.
    pub log: LogTable,
}

/// Writes a data directory. `out` may be new, empty, or an older data directory, which is replaced; anything else is
/// left alone and refused. On an error nothing is left.
pub fn write_dataset(out: &Path, tables: &DatasetTables) -> Result<(), DatasetError> {
    write_dataset_with(out, tables, &[])
}

/// The same, with further files beside the tables, by name and content.
pub fn write_dataset_with(out: &Path, tables: &DatasetTables, beside: &[(&str, &[u8])]) -> Result<(), DatasetError> {
    check_replaceable(out)?;
    let files = files(tables)?;
    let staged = Staged::create(out)?;
    for (name, bytes) in files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).chain(beside.iter().copied()) {
        staged.write(name, bytes)?;
    }
    staged.publish(out)
}

fn files(tables: &DatasetTables) -> Result<Vec<(&'static str, Vec<u8>)>, DatasetError> {
    let schema = &tables.schema;
    schema.validate().map_err(|source| DatasetError::Schema { file: SCHEMA_FILE.to_owned(), source })?;
    let mut files = vec![
        ("items.parquet", write_entities_parquet(&schema.item, &tables.items.entities, &tables.items.titles)?),
        ("interactions.parquet", write_interactions_parquet(&schema.interactions, &tables.log)?),
        (SCHEMA_FILE, schema.to_toml().into_bytes()),
    ];
    if let Some(users) = &tables.users {
        files.push(("users.parquet", write_entities_parquet(&schema.user, &users.entities, &users.titles)?));
    }
    Ok(files)
}

/// Refuses a place that holds something other than a data directory.
pub(crate) fn check_replaceable(out: &Path) -> Result<(), DatasetError> {
    let occupied =
        |found: &str| Err(DatasetError::OutputOccupied { path: out.display().to_string(), found: found.to_owned() });
    if !out.try_exists().map_err(|e| DatasetError::io(out, e))? {
        return Ok(());
    }
    if !out.is_dir() {
        return occupied("a file");
    }
    let mut entries = fs::read_dir(out).map_err(|e| DatasetError::io(out, e))?;
    if entries.next().is_some() && !out.join(SCHEMA_FILE).is_file() {
        return occupied("a directory of something else");
    }
    Ok(())
}

/// A temporary sibling of the place to write to, removed when dropped.
struct Staged {
    dir: PathBuf,
}

impl Staged {
    fn create(out: &Path) -> Result<Self, DatasetError> {
        let dir = sibling(out, "new")?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|e| DatasetError::io(parent, e))?;
        }
        clear(&dir)?;
        fs::create_dir(&dir).map_err(|e| DatasetError::io(&dir, e))?;
        Ok(Self { dir })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DatasetError> {
        let path = self.dir.join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|e| DatasetError::io(&path, e))
    }

    /// Renames the new directory into place, the old one out of the way first.
    fn publish(self, out: &Path) -> Result<(), DatasetError> {
        let old = sibling(out, "old")?;
        let replaces = out.is_dir();
        if replaces {
            clear(&old)?;
            fs::rename(out, &old).map_err(|e| DatasetError::io(out, e))?;
        }
        if let Err(error) = fs::rename(&self.dir, out) {
            if replaces {
                // The error worth telling is the first one; the old directory stays beside if this fails too.
                let _ = fs::rename(&old, out);
            }
            return Err(DatasetError::io(out, error));
        }
        if replaces { fs::remove_dir_all(&old).map_err(|e| DatasetError::io(&old, e)) } else { Ok(()) }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already where it was published; a failure to tidy up must not hide the error that led here.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes what a process of the same number left when it was killed.
fn clear(stale: &Path) -> Result<(), DatasetError> {
    if stale.is_dir() { fs::remove_dir_all(stale).map_err(|e| DatasetError::io(stale, e)) } else { Ok(()) }
}

/// `.NAME.new.PID` beside `NAME`.
pub(super) fn sibling(out: &Path, purpose: &str) -> Result<PathBuf, DatasetError> {
    let absolute = std::path::absolute(out).map_err(|e| DatasetError::io(out, e))?;
    let name = absolute.file_name().ok_or_else(|| DatasetError::OutputOccupied {
        path: out.display().to_string(),
        found: "no name of its own".to_owned(),
    })?;
    Ok(absolute.with_file_name(format!(".{}.{purpose}.{}", name.to_string_lossy(), process::id())))
}
