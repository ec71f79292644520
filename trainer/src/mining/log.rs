//! [`MiningLog`]: what mining may know of a data set. Of the log only the training part gets past here.

use pagoda_dataset::{Dataset, history_limit};
use pagoda_model::{Entity, FeatureValue, Schema};

use super::AskedUser;
use crate::{
    config::SplitConfig,
    data::{Data, Part, Tally, Timeline, Timelines},
    error::TrainError,
};

/// Users, catalog, and the positives of the training part of a data set. The log need not fit in memory.
#[derive(Debug)]
pub struct MiningLog {
    data: Data,
    trained: Tally,
}

impl MiningLog {
    /// Reads a data set and splits it as training does. Neither test nor validation positives are looked at from here on.
    pub fn read(dataset: &Dataset, split: &SplitConfig, seed: u64) -> Result<Self, TrainError> {
        let mut data = Data::read(dataset)?;
        data.split(split, seed)?;
        let trained = data.tally(|part| part == Part::Train)?;
        Ok(Self { data, trained })
    }

    /// The data set's schema.
    pub fn schema(&self) -> &Schema {
        &self.data.schema
    }

    /// The catalog in the order of ids; an item's place in it stands for the item.
    pub fn catalog(&self) -> &[Entity] {
        &self.data.catalog
    }

    /// Users of the log, without their histories; a user's place stands for the user.
    pub fn users(&self) -> &[Entity] {
        &self.data.users
    }

    /// The end of the training part: the first second after its newest positive.
    pub fn end(&self) -> i64 {
        self.trained.end.saturating_add(1)
    }

    /// Users who have positives in the training part, ascending: those that training has examples of.
    pub fn trained_users(&self) -> Vec<u32> {
        self.trained.users.iter().zip(0..).filter(|&(&positives, _)| positives > 0).map(|(_, user)| user).collect()
    }

    /// The tables.
    pub(super) fn data(&self) -> &Data {
        &self.data
    }

    /// What the tables left out, a note for each that did.
    pub fn left_out(&self) -> Vec<String> {
        self.data.left_out().collect()
    }

    /// How many partitions the users are in.
    pub(super) fn partitions(&self) -> usize {
        self.data.log.partitions()
    }

    /// The training positives of a partition's users.
    pub(super) fn positives(&self, partition: usize) -> Result<Timelines, TrainError> {
        Ok(self.data.log.load(partition)?.retain(|part| part == Part::Train))
    }

    /// A user as of a time: the history, as the schema names it, has what came strictly before.
    pub(super) fn asked(&self, positives: &Timeline<'_>, time: i64) -> AskedUser {
        let mut entity = self.data.users[positives.user as usize].clone();
        let known = positives.before(time);
        let history = known[known.len().saturating_sub(history_limit(&self.data.schema))..].to_vec();
        if let Some((name, _)) = self.data.schema.history() {
            let ids = history.iter().map(|&item| self.data.catalog[item as usize].id.clone()).collect();
            entity.features.insert(name.to_owned(), FeatureValue::Texts(ids));
        }
        AskedUser { place: positives.user, entity, history, time }
    }
}
