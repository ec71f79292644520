//! What the importers share: a log that grows row by row, and a catalog that holds every item of the log.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use pagoda_model::{
    Entity, ItemId, UserId,
    schema::{EntitySchema, Feature, FeatureKind},
};

use crate::{
    entities::{EntityTable, at},
    error::DatasetError,
    interner::Interner,
    write::{LogRow, LogTable},
};

/// A log that grows row by row.
#[derive(Default)]
pub(super) struct LogBuilder {
    users: Interner<UserId>,
    items: Interner<ItemId>,
    rows: Vec<LogRow>,
    /// How many rows each user has, by the user's number.
    lengths: Vec<i64>,
}

/// One row to be added.
pub(super) struct NewRow<'a> {
    pub(super) user: &'a str,
    pub(super) item: &'a str,
    /// None: its place among the user's rows.
    pub(super) timestamp: Option<i64>,
    pub(super) event: u8,
    pub(super) test: bool,
}

/// Histories of users of whom nothing else is known.
pub(super) const HISTORY_LENGTHS: [usize; 3] = [50, 100, 200];

impl LogBuilder {
    pub(super) fn push(&mut self, row: &NewRow<'_>) -> Result<(), String> {
        let item = self.items.intern(row.item, |text| ItemId::new(text)).map_err(|e| at("item", &e))?;
        let user = self.users.intern(row.user, |text| UserId::new(text)).map_err(|e| at("user", &e))?;
        self.lengths.resize(self.users.ids.len(), 0);
        let place = &mut self.lengths[user as usize];
        let timestamp = row.timestamp.unwrap_or(*place);
        *place += 1;
        self.rows.push(LogRow { user, item, timestamp, event: row.event, test: row.test });
        Ok(())
    }

    /// How long a history should be known: the shortest of [`HISTORY_LENGTHS`] that holds all that three quarters of users have, or the
    /// longest.
    pub(super) fn history_length(&self) -> usize {
        let mut lengths = self.lengths.clone();
        lengths.sort_unstable();
        let most = lengths.get(lengths.len() * 3 / 4).copied().unwrap_or(0);
        let fits = HISTORY_LENGTHS.into_iter().find(|&length| i64::try_from(length).is_ok_and(|length| length >= most));
        fits.unwrap_or(HISTORY_LENGTHS[HISTORY_LENGTHS.len() - 1])
    }

    /// The log; `events` names the events by the numbers that the rows carry.
    pub(super) fn finish(self, events: Vec<String>) -> LogTable {
        LogTable { users: self.users.ids, items: self.items.ids, events, rows: self.rows }
    }
}

/// The described items, and after them those that only the log knows.
pub(super) fn catalog(mut described: EntityTable, log: &LogTable) -> EntityTable {
    let known: HashSet<String> = described.entities.iter().map(|e| e.id.clone()).collect();
    let others = log.items.iter().filter(|item| !known.contains(item.as_str()));
    described.entities.extend(others.map(|item| Entity::of_id(item.as_str())));
    described.titles.resize(described.entities.len(), None);
    described
}

/// A side whose entities are known by id, with these features.
pub(super) fn side(id: &str, title: Option<&str>, features: Vec<(&str, FeatureKind)>) -> EntitySchema {
    let features = features.into_iter().map(|(name, kind)| Feature::new(name, kind)).collect();
    EntitySchema { id: id.to_owned(), title: title.map(str::to_owned), features }
}

/// Users of whom the log is all that is known.
pub(super) fn users_by_history(max_length: usize) -> EntitySchema {
    side("user_id", None, vec![("history", FeatureKind::Sequence { max_length })])
}

/// Items of which the id is all that is known.
pub(super) fn items_by_id() -> EntitySchema {
    side("item_id", None, vec![("item_id", FeatureKind::Id { hash_buckets: None })])
}

/// A file of a directory, or what was expected instead.
pub(super) fn required_file(dir: &Path, name: &str, expected: &str) -> Result<PathBuf, DatasetError> {
    let path = dir.join(name);
    let missing = || DatasetError::MissingFile { file: path.display().to_string(), expected: expected.to_owned() };
    if path.is_file() { Ok(path.clone()) } else { Err(missing()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_are_as_long_as_most_users_fill() {
        let length = |users: &[usize]| {
            let mut log = LogBuilder::default();
            for (user, &rows) in users.iter().enumerate() {
                for _ in 0..rows {
                    let user = user.to_string();
                    log.push(&NewRow { user: &user, item: "i", timestamp: None, event: 0, test: false }).unwrap();
                }
            }
            log.history_length()
        };
        assert_eq!([length(&[3, 4, 5, 900]), length(&[3, 40, 60, 90]), length(&[900; 4])], [200, 100, 200]);
        assert_eq!([length(&[3, 4, 5, 6, 900]), length(&[])], [50, 50]);
    }
}
