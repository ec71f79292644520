//! The whole world, and what can be asked of it.

use std::path::Path;

use pagoda_dataset::{BadRows, DatasetError, DatasetTables, EntityTable, LogRow, LogTable, write_dataset_with};
use pagoda_model::{Entity, ItemId, UserId};

use crate::{
    config::{Config, InvalidConfig, WORLD_FILE},
    item::{Catalog, Item, later_birth},
    log::{CLICK, EVENTS, simulate},
    preference,
    society::Society,
    tables::{item_entity, item_id, place_of, schema, user_entity, user_id},
    themes::Themes,
    time::log_share,
    title::Titles,
    user::{User, draw_users},
};

/// The most items that can be born after the log's end.
const BORN_LATER_MAX: usize = 1_000_000;

/// A catalog and its users, drawn from a seed; the log is simulated when it is written.
#[derive(Debug)]
pub struct World {
    config: Config,
    themes: Themes,
    society: Society,
    catalog: Catalog,
    users: Vec<User>,
}

/// How much was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Users in the users' table.
    pub users: u64,
    /// Items in the items' table.
    pub items: u64,
    /// Items shown, clicked or not: the rows of the log.
    pub impressions: u64,
    /// Those of them that were clicked.
    pub clicks: u64,
}

/// An item that is born after the end of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct BornItem {
    /// Its id and features, as the items' table would have them.
    pub entity: Entity,
    /// Its title.
    pub title: String,
}

/// Why the world could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The data directory could not be written; nothing is left of it.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// An id that the simulator made is none, which is a fault of the simulator.
    #[error("a simulated id is invalid: {0}")]
    Id(#[from] pagoda_model::InvalidId),
}

impl World {
    /// Draws the catalog and the users.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let themes = Themes::for_catalog(config.items);
        let society = Society::draw(config.seed, &themes);
        let catalog = Catalog::draw(config.seed, config.items, &themes, &society);
        let users = draw_users(config.seed, config.users, &themes, &society);
        Ok(Self { config, themes, society, catalog, users })
    }

    /// The probability that a user who looks at an item clicks it, at the end of the log; None for ids that are not of
    /// this world. Known for items [born later](Self::born_later) too.
    pub fn true_preference(&self, user: &str, item: &str) -> Option<f64> {
        let user = self.users.get(place_of(user, 'u')?)?;
        let place = place_of(item, 'i')?;
        match self.catalog.items.get(place) {
            Some(item) => Some(preference::click_probability(user, item, 1.0)),
            None => Some(preference::click_probability(user, &self.item_born_later(place)?, 1.0)),
        }
    }

    /// [`Self::true_preference`] of a user at a time (seconds since the Unix epoch; interests stand still before and after the log) for
    /// every item of the catalog, by [`Self::place_of_item`]. None for an id that is no user of this world.
    pub fn true_preferences_at(&self, user: &str, time: i64) -> Option<Vec<f64>> {
        let user = self.users.get(place_of(user, 'u')?)?;
        let share = log_share(time).clamp(0.0, 1.0);
        Some(self.catalog.items.iter().map(|item| preference::click_probability(user, item, share)).collect())
    }

    /// An item's place in the catalog; None for an id that is not of it.
    pub fn place_of_item(&self, item: &str) -> Option<usize> {
        place_of(item, 'i').filter(|&place| place < self.catalog.items.len())
    }

    /// Whether an item is told of as this world would tell of it, its title aside: that of another seed tells otherwise.
    pub fn tells(&self, item: &Entity) -> bool {
        let Some(place) = self.place_of_item(&item.id) else { return false };
        let told = item_entity(place, &self.catalog.items[place], "", &self.themes);
        told.features
            .iter()
            .filter(|(name, _)| *name != "title")
            .all(|(name, value)| item.features.get(name) == Some(value))
    }

    /// Simulates the log and writes users.parquet, items.parquet, interactions.parquet, schema.toml and [`WORLD_FILE`] to `out`, which may
    /// be new, empty, or an older data directory. On an error nothing is left. `progress` is told how many of how many
    /// impressions are done.
    pub fn write(&self, out: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Written, SimulatorError> {
        let rows = simulate(self.config.seed, (&self.catalog, &self.users), self.config.impressions, progress);
        let written = Written {
            users: self.users.len() as u64,
            items: self.catalog.items.len() as u64,
            impressions: rows.len() as u64,
            clicks: rows.iter().filter(|row| row.event == CLICK).count() as u64,
        };
        let (users, items) = (Some(self.users_table()), self.items_table());
        let tables = DatasetTables { schema: schema(), users, items, log: self.log_table(rows)? };
        write_dataset_with(out, &tables, &[(WORLD_FILE, self.config.to_toml().as_bytes())])?;
        Ok(written)
    }

    /// The first `n` items that are born after the end of the log, with their features.
    pub fn born_later(&self, n: usize) -> Vec<BornItem> {
        let mut titles = Titles::new(self.config.seed, &self.themes);
        for (place, item) in self.catalog.items.iter().enumerate() {
            titles.next(place, item);
        }
        let later = (self.catalog.items.len()..).map_while(|place| Some((place, self.item_born_later(place)?)));
        later.take(n).map(|(place, item)| self.born_item(place, &item, titles.next(place, &item))).collect()
    }

    /// The ids of the `n` users who truly like an item most at the end of the log, the greatest fan first; None for an
    /// id that is not of this world. Known for items [born later](Self::born_later) too.
    pub fn fans_of(&self, item_id: &str, n: usize) -> Option<Vec<String>> {
        let place = place_of(item_id, 'i')?;
        let item = self.catalog.items.get(place).cloned().or_else(|| self.item_born_later(place))?;
        let users = self.users.iter().enumerate();
        let mut fans: Vec<(f64, usize)> = users.map(|(place, u)| (preference::logit(u, &item, 1.0), place)).collect();
        fans.sort_unstable_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
        Some(fans.into_iter().take(n).map(|(_, place)| user_id(place)).collect())
    }

    fn item_born_later(&self, place: usize) -> Option<Item> {
        let count = self.catalog.items.len();
        let range = count..count + BORN_LATER_MAX;
        let born = range.contains(&place).then(|| later_birth(place, count))?;
        Some(Item::draw(self.config.seed, place, born, &self.themes, &self.society))
    }

    fn born_item(&self, place: usize, item: &Item, title: String) -> BornItem {
        BornItem { entity: item_entity(place, item, &title, &self.themes), title }
    }

    fn users_table(&self) -> EntityTable {
        let entities = self.users.iter().enumerate().map(|(place, user)| user_entity(place, user)).collect();
        EntityTable { entities, titles: vec![None; self.users.len()], bad_rows: BadRows::default() }
    }

    fn items_table(&self) -> EntityTable {
        let mut titles = Titles::new(self.config.seed, &self.themes);
        let mut table = EntityTable::default();
        for (place, item) in self.catalog.items.iter().enumerate() {
            let title = titles.next(place, item);
            table.entities.push(item_entity(place, item, &title, &self.themes));
            table.titles.push(Some(title));
        }
        table
    }

    fn log_table(&self, rows: Vec<LogRow>) -> Result<LogTable, SimulatorError> {
        let users = (0..self.users.len()).map(|place| UserId::new(user_id(place))).collect::<Result<_, _>>()?;
        let items = (0..self.catalog.items.len()).map(|place| ItemId::new(item_id(place))).collect::<Result<_, _>>()?;
        Ok(LogTable { users, items, events: EVENTS.map(str::to_owned).to_vec(), rows })
    }
}
