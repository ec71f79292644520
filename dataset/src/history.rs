//! What is known of every user at the end of the log, for serving.

use std::collections::HashMap;

use pagoda_model::{Entity, FeatureValue, Schema};

use crate::{
    bad_rows::{BadRows, Limits},
    dataset::Dataset,
    entities::EntityTable,
    error::DatasetError,
    interactions::Interactions,
    unknown_items::UnknownItems,
};

/// The longest history kept of a user, where no model could use more of it.
const HISTORY_LIMIT: usize = 500;

/// Every user, as of the end of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserSnapshot {
    /// The users of the table and the log.
    pub users: EntityTable,
    /// The rows of the log left out as bad.
    pub bad_interactions: BadRows,
    /// The rows of the log left out because their item is not in the catalog.
    pub unknown_items: UnknownItems,
}

/// How many of a user's positives are kept, the newest: as many as the schema's history may have, and at least 500.
pub fn history_limit(schema: &Schema) -> usize {
    schema.history().map_or(HISTORY_LIMIT, |(_, max_length)| max_length.max(HISTORY_LIMIT))
}

/// Every user of the table or the log with features and, where the schema declares one, the history as of the end of
/// the log: all positives of items that the catalog has, oldest first, the newest [`history_limit`] of them.
pub fn user_snapshot(dataset: &Dataset) -> Result<UserSnapshot, DatasetError> {
    let limits = Limits::default();
    let log = dataset.read_interactions(&limits)?;
    let mut users = dataset.read_users(&limits)?;
    let (histories, limit) = (histories(&log), history_limit(dataset.schema()));
    let mut places: HashMap<String, usize> =
        users.entities.iter().enumerate().map(|(i, e)| (e.id.clone(), i)).collect();
    for (user, history) in log.users.iter().zip(histories) {
        let place = *places.entry(user.as_str().to_owned()).or_insert_with(|| {
            users.entities.push(Entity { id: user.as_str().to_owned(), ..Entity::default() });
            users.titles.push(None);
            users.entities.len() - 1
        });
        if let Some((name, _)) = dataset.schema().history() {
            let newest = &history[history.len().saturating_sub(limit)..];
            users.entities[place].features.insert(name.to_owned(), FeatureValue::Texts(texts(&log, newest)));
        }
    }
    Ok(UserSnapshot { users, bad_interactions: log.bad_rows, unknown_items: log.unknown_items })
}

/// Each user's positives as places of items, oldest first, by the user's place.
fn histories(log: &Interactions) -> Vec<Vec<u32>> {
    let mut histories = vec![Vec::new(); log.users.len()];
    for row in log.rows.iter().filter(|row| row.weight > 0.0) {
        histories[row.user as usize].push(row.item);
    }
    histories
}

fn texts(log: &Interactions, history: &[u32]) -> Vec<String> {
    history.iter().map(|&item| log.items[item as usize].as_str().to_owned()).collect()
}
