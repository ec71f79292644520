//! A data directory: `schema.toml` and the three tables.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use pagoda_model::{Entity, Schema};

use crate::{
    bad_rows::Limits,
    entities::{self, EntityTable},
    error::DatasetError,
    interactions::{self, Interaction, Interactions, LogIds},
    source::{EXTENSIONS, Source},
};

/// The schema's file in a data directory.
pub const SCHEMA_FILE: &str = "schema.toml";

const USERS: &str = "users";
const ITEMS: &str = "items";
const INTERACTIONS: &str = "interactions";

/// A data directory whose schema is valid and whose tables exist. The users' table is optional.
#[derive(Clone, Debug)]
pub struct Dataset {
    dir: PathBuf,
    schema: Schema,
    users: Option<PathBuf>,
    items: PathBuf,
    interactions: PathBuf,
}

impl Dataset {
    /// Reads the schema and looks for the tables.
    pub fn open(dir: &Path) -> Result<Self, DatasetError> {
        if !dir.is_dir() {
            let expected = format!("a directory with {SCHEMA_FILE} and the tables users, items and interactions");
            let file = dir.display().to_string();
            return Err(match dir.exists() {
                true => DatasetError::malformed(file, format!("expected {expected}, found a file")),
                false => DatasetError::MissingFile { file, expected },
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            schema: read_schema(&dir.join(SCHEMA_FILE))?,
            users: find_table(dir, USERS)?,
            items: require_table(dir, ITEMS)?,
            interactions: require_table(dir, INTERACTIONS)?,
        })
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of the items' table.
    pub fn items_file(&self) -> &Path {
        &self.items
    }

    /// The users. Without a users' table: those in the log, without features.
    pub fn read_users(&self, limits: &Limits) -> Result<EntityTable, DatasetError> {
        match &self.users {
            Some(path) => entities::read_source(&Source::file(path)?, &self.schema.user, limits),
            None => self.users_of_the_log(limits),
        }
    }

    /// The catalog; at least one item.
    pub fn read_items(&self, limits: &Limits) -> Result<EntityTable, DatasetError> {
        let table = entities::read_source(&Source::file(&self.items)?, &self.schema.item, limits)?;
        if table.entities.is_empty() { Err(no_rows(&self.items)) } else { Ok(table) }
    }

    /// The log in memory; at least one interaction.
    pub fn read_interactions(&self, limits: &Limits) -> Result<Interactions, DatasetError> {
        let source = Source::file(&self.interactions)?;
        let catalog = self.item_ids(limits)?;
        let log = interactions::read_source(&source, &self.schema.interactions, Some(&catalog), limits)?;
        if log.rows.is_empty() { Err(no_rows(&self.interactions)) } else { Ok(log) }
    }

    /// The log row by row, in the order of its file and with its repetitions; at least one interaction. No row is kept in
    /// memory. That a log has too many bad rows shows only at its end, unless [`Limits::bad_rows_max`] is set.
    pub fn visit_interactions(
        &self,
        limits: &Limits,
        visit: &mut dyn FnMut(Interaction) -> Result<(), DatasetError>,
    ) -> Result<LogIds, DatasetError> {
        let source = Source::file(&self.interactions)?;
        let catalog = self.item_ids(limits)?;
        let ids = interactions::visit_source(&source, &self.schema.interactions, Some(&catalog), limits, visit)?;
        if ids.rows == 0 { Err(no_rows(&self.interactions)) } else { Ok(ids) }
    }

    fn item_ids(&self, limits: &Limits) -> Result<HashSet<String>, DatasetError> {
        let ids = entities::read_ids(&Source::file(&self.items)?, &self.schema.item, limits)?;
        // Else every item of the log would be told as unknown.
        if ids.is_empty() { Err(no_rows(&self.items)) } else { Ok(ids) }
    }

    fn users_of_the_log(&self, limits: &Limits) -> Result<EntityTable, DatasetError> {
        let users = self.visit_interactions(limits, &mut |_| Ok(()))?.users;
        let entities: Vec<Entity> = users.into_iter().map(|id| Entity { id: id.into(), ..Entity::default() }).collect();
        Ok(EntityTable { titles: vec![None; entities.len()], entities, ..EntityTable::default() })
    }
}

fn read_schema(path: &Path) -> Result<Schema, DatasetError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let expected = "the schema of the tables beside it".to_owned();
            return Err(DatasetError::MissingFile { file: path.display().to_string(), expected });
        }
        Err(e) => return Err(DatasetError::io(path, e)),
    };
    Schema::from_toml(&text).map_err(|source| DatasetError::Schema { file: path.display().to_string(), source })
}

fn find_table(dir: &Path, table: &'static str) -> Result<Option<PathBuf>, DatasetError> {
    let paths = EXTENSIONS.map(|extension| dir.join(format!("{table}.{extension}")));
    let mut found: Vec<PathBuf> = paths.into_iter().filter(|path| path.is_file()).collect();
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|p| p.display().to_string()).collect();
        return Err(DatasetError::AmbiguousTable {
            directory: dir.display().to_string(),
            table,
            found: names.join(", "),
        });
    }
    Ok(found.pop())
}

fn require_table(dir: &Path, table: &'static str) -> Result<PathBuf, DatasetError> {
    find_table(dir, table)?.ok_or_else(|| DatasetError::MissingFile {
        file: dir.join(table).display().to_string(),
        expected: format!("{table}.parquet, {table}.csv or {table}.jsonl"),
    })
}

fn no_rows(path: &Path) -> DatasetError {
    DatasetError::malformed(path.display().to_string(), "expected at least one good row, found none")
}
