//! [`Data`]: the three tables joined.

use std::collections::HashMap;

use pagoda_dataset::{Dataset, EntityTable, Interactions, Limits};
use pagoda_model::{Entity, Schema};

use crate::error::TrainError;

/// The three tables joined: users of the log, and the whole catalog in the order of ids, so that ties go to the smaller id.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) schema: Schema,
    /// Users of the log, with the features of the users' table; the history is no such feature.
    pub(crate) users: Vec<Entity>,
    /// Items of the items' table and of the log.
    pub(crate) catalog: Vec<Entity>,
    /// Positives by (timestamp, order in the log).
    pub(crate) positives: Vec<Positive>,
    /// When each catalog item was first met in the log, be it an impression; i64::MAX if never.
    pub(crate) first_met: Vec<i64>,
    pub(crate) bad_rows: u64,
}

/// A positive interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Positive {
    /// The user's place in [`Data::users`].
    pub(crate) user: u32,
    /// The item's place in [`Data::catalog`].
    pub(crate) item: u32,
    pub(crate) timestamp: i64,
    pub(crate) weight: f32,
    pub(crate) test: bool,
}

impl Data {
    /// Reads the tables of a directory.
    pub(crate) fn read(dataset: &Dataset) -> Result<Self, TrainError> {
        let limits = Limits::default();
        let (users, items) = (dataset.read_users(&limits)?, dataset.read_items(&limits)?);
        Ok(Self::join(dataset.schema().clone(), users, items, dataset.read_interactions(&limits)?))
    }

    /// Joins tables.
    pub(crate) fn join(schema: Schema, users: EntityTable, items: EntityTable, log: Interactions) -> Self {
        let bad_rows = users.bad_rows.count + items.bad_rows.count + log.bad_rows.count;
        let catalog = catalog(items.entities, &log);
        let places: HashMap<&str, u32> = catalog.iter().zip(0..).map(|(e, i)| (e.id.as_str(), i)).collect();
        let item_places: Vec<u32> = log.items.iter().map(|id| places[id.as_str()]).collect();
        let mut first_met = vec![i64::MAX; catalog.len()];
        let mut positives = Vec::new();
        for row in &log.rows {
            let item = item_places[row.item as usize];
            let first = &mut first_met[item as usize];
            *first = row.timestamp.min(*first);
            if row.weight > 0.0 {
                let (user, timestamp, weight, test) = (row.user, row.timestamp, row.weight, row.test);
                positives.push(Positive { user, item, timestamp, weight, test });
            }
        }
        let users = log_users(&schema, users.entities, &log);
        Self { schema, users, catalog, positives, first_met, bad_rows }
    }
}

fn catalog(mut items: Vec<Entity>, log: &Interactions) -> Vec<Entity> {
    items.sort_by(|a, b| a.id.cmp(&b.id));
    items.dedup_by(|later, first| later.id == first.id);
    let known: std::collections::HashSet<String> = items.iter().map(|e| e.id.clone()).collect();
    items.extend(log.items.iter().filter(|id| !known.contains(id.as_str())).map(|id| Entity::of_id(id.as_str())));
    items.sort_by(|a, b| a.id.cmp(&b.id));
    items
}

fn log_users(schema: &Schema, table: Vec<Entity>, log: &Interactions) -> Vec<Entity> {
    let mut table: HashMap<String, Entity> = table.into_iter().map(|e| (e.id.clone(), e)).collect();
    let mut users: Vec<Entity> =
        log.users.iter().map(|id| table.remove(id.as_str()).unwrap_or_else(|| Entity::of_id(id.as_str()))).collect();
    if let Some((history, _)) = schema.history() {
        users.iter_mut().for_each(|user| drop(user.features.remove(history)));
    }
    users
}
