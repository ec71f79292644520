//! [`Data`]: the three tables joined.

use std::{collections::HashMap, sync::OnceLock};

use pagoda_dataset::{BadRows, Dataset, EntityTable, Limits, LogIds, UnknownItems};
use pagoda_model::{Entity, Schema, schema::InteractionSchema};

use super::{
    Part,
    log::{Log, LogLimits, LogWriter},
};
use crate::{config::SplitConfig, error::TrainError};

/// The three tables joined: users of the log, and the whole catalog in the order of ids, so that ties go to the smaller id.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) schema: Schema,
    /// Users of the log, with the features of the users' table; the history is no such feature.
    pub(crate) users: Vec<Entity>,
    /// Items of the items' table and of the log.
    pub(crate) catalog: Vec<Entity>,
    /// Titles by id, of items that have one.
    titles: HashMap<String, String>,
    /// Rows of [`Data::users`] and [`Data::catalog`] by place.
    pub(crate) log: Log,
    /// By the place of an event; the last is that of rows that name none.
    pub(crate) event_weights: Vec<f32>,
    /// When each catalog item was first met in the log, be it an impression; i64::MAX if never.
    pub(crate) first_met: Vec<i64>,
    /// Of the users, the items and the log.
    pub(crate) bad_rows: [BadRows; 3],
    /// Rows of the log that were left out because the items' table does not have their item.
    pub(crate) unknown_items: UnknownItems,
    /// By part, once they are asked for.
    tallies: OnceLock<[Tally; 3]>,
}

/// Positives of some parts, counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tally {
    /// By catalog item.
    pub(crate) items: Vec<u32>,
    /// By user.
    pub(crate) users: Vec<u32>,
    /// By the place of an event.
    pub(crate) events: Vec<u64>,
    /// The latest timestamp; i64::MIN without any.
    pub(crate) end: i64,
}

impl Data {
    /// Reads the tables of a directory. The log is not split yet: but for test rows that are given, all is training.
    pub(crate) fn read(dataset: &Dataset) -> Result<Self, TrainError> {
        Self::read_within(dataset, LogLimits::default())
    }

    pub(super) fn read_within(dataset: &Dataset, log_limits: LogLimits) -> Result<Self, TrainError> {
        let limits = Limits::default();
        let (items, users) = (dataset.read_items(&limits)?, dataset.read_users(&limits)?);
        let mut writer = LogWriter::new(log_limits);
        let ids = dataset.visit_interactions(&limits, &mut |row| writer.push(&row))?;
        Self::join(dataset.schema().clone(), users, items, ids, writer)
    }

    fn join(
        schema: Schema,
        users: EntityTable,
        items: EntityTable,
        ids: LogIds,
        writer: LogWriter,
    ) -> Result<Self, TrainError> {
        let titles = items.entities.iter().zip(&items.titles);
        let titles = titles.filter_map(|(e, title)| Some((e.id.clone(), title.clone()?))).collect();
        let bad_rows = [users.bad_rows, items.bad_rows, ids.bad_rows.clone()];
        let unknown_items = ids.unknown_items.clone();
        let catalog = catalog(items.entities, &ids);
        let places: HashMap<&str, u32> = catalog.iter().zip(0..).map(|(e, i)| (e.id.as_str(), i)).collect();
        let item_places: Vec<u32> = ids.items.iter().map(|id| places[id.as_str()]).collect();
        let (log, first_met) = writer.finish(&item_places, catalog.len())?;
        let users = log_users(&schema, users.entities, &ids);
        let event_weights = event_weights(&schema.interactions);
        let tallies = OnceLock::new();
        Ok(Self { users, catalog, titles, log, event_weights, first_met, bad_rows, unknown_items, tallies, schema })
    }

    /// What the tables left out, a note for each that did.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = String> {
        self.bad_rows.iter().filter_map(BadRows::note).chain(self.unknown_items.note())
    }

    /// Splits the log as its schema and the configuration say. No part may be empty.
    pub(crate) fn split(&mut self, config: &SplitConfig, seed: u64) -> Result<(), TrainError> {
        if self.log.rows() == 0 {
            return Err(TrainError::TooLittleData(no_positives(&self.schema.interactions)));
        }
        self.tallies = OnceLock::new();
        self.log.split(self.schema.interactions.split, config, seed)
    }

    /// An item's title, or its id where it has none.
    pub(crate) fn title(&self, item: u32) -> &str {
        let id = &self.catalog[item as usize].id;
        self.titles.get(id).unwrap_or(id)
    }

    /// Counts the positives of the parts that are kept.
    pub(crate) fn tally(&self, keep: impl Fn(Part) -> bool) -> Result<Tally, TrainError> {
        let by_part = match self.tallies.get() {
            Some(counted) => counted,
            None => {
                let counted = self.count()?;
                self.tallies.get_or_init(|| counted)
            }
        };
        let mut all = self.nothing();
        for tally in Part::ALL.into_iter().filter(|&part| keep(part)).map(|part| &by_part[part as usize]) {
            all.items.iter_mut().zip(&tally.items).for_each(|(all, count)| *all += count);
            all.users.iter_mut().zip(&tally.users).for_each(|(all, count)| *all += count);
            all.events.iter_mut().zip(&tally.events).for_each(|(all, count)| *all += count);
            all.end = all.end.max(tally.end);
        }
        Ok(all)
    }

    /// Each part by itself.
    fn count(&self) -> Result<[Tally; 3], TrainError> {
        let mut by_part = Part::ALL.map(|_| self.nothing());
        self.log.visit(|timelines| {
            for row in timelines.iter().flat_map(|timeline| timeline.rows()) {
                let tally = &mut by_part[row.part as usize];
                tally.items[row.item as usize] += 1;
                tally.users[row.user as usize] += 1;
                tally.events[usize::from(row.event)] += 1;
                tally.end = tally.end.max(row.timestamp);
            }
        })?;
        Ok(by_part)
    }

    fn nothing(&self) -> Tally {
        let (items, users) = (vec![0; self.catalog.len()], vec![0; self.users.len()]);
        Tally { items, users, events: vec![0; self.event_weights.len()], end: i64::MIN }
    }

    /// Joins tables in memory.
    #[cfg(test)]
    pub(crate) fn of_interactions(
        schema: Schema,
        users: EntityTable,
        items: EntityTable,
        log: pagoda_dataset::Interactions,
        limits: LogLimits,
    ) -> Self {
        let mut writer = LogWriter::new(limits);
        log.rows.iter().for_each(|row| writer.push(row).unwrap());
        let rows = log.rows.len() as u64;
        let ids = LogIds { users: log.users, items: log.items, rows, ..LogIds::default() };
        Self::join(schema, users, items, ids, writer).unwrap()
    }
}

/// Why there is nothing to split.
fn no_positives(schema: &InteractionSchema) -> String {
    let named = |positive: bool| {
        let names: Vec<&str> = schema
            .events
            .iter()
            .filter(|(_, weight)| (**weight > 0.0) == positive)
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    format!(
        "the log has impressions only, and no positive to learn from: positives are events that weigh more than 0 in the schema's \
         [interactions.events] ({}), impressions those that weigh 0 ({})",
        named(true),
        named(false)
    )
}

fn event_weights(schema: &InteractionSchema) -> Vec<f32> {
    schema.events.values().copied().chain([1.0]).collect()
}

fn catalog(mut items: Vec<Entity>, log: &LogIds) -> Vec<Entity> {
    items.sort_by(|a, b| a.id.cmp(&b.id));
    items.dedup_by(|later, first| later.id == first.id);
    let known: std::collections::HashSet<String> = items.iter().map(|e| e.id.clone()).collect();
    items.extend(log.items.iter().filter(|id| !known.contains(id.as_str())).map(|id| Entity::of_id(id.as_str())));
    items.sort_by(|a, b| a.id.cmp(&b.id));
    items
}

fn log_users(schema: &Schema, table: Vec<Entity>, log: &LogIds) -> Vec<Entity> {
    let mut table: HashMap<String, Entity> = table.into_iter().map(|e| (e.id.clone(), e)).collect();
    let mut users: Vec<Entity> =
        log.users.iter().map(|id| table.remove(id.as_str()).unwrap_or_else(|| Entity::of_id(id.as_str()))).collect();
    if let Some((history, _)) = schema.history() {
        users.iter_mut().for_each(|user| drop(user.features.remove(history)));
    }
    users
}
