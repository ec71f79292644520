//! [`HardPools`]: mined hard negatives read back, one pool a user.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use pagoda_dataset::{DatasetError, HardNegative, KnownItems, LeftOut, Limits, read_hard_negatives, shown};
use pagoda_model::Entity;
use serde::{Deserialize, Serialize};

/// Each user's hard negatives, in compressed rows: 4 bytes a negative and 8 a user.
#[derive(Clone, Debug, PartialEq)]
pub struct HardPools {
    /// User u's pool is `items[offsets[u]..offsets[u + 1]]`.
    offsets: Vec<usize>,
    /// Places in the catalog, ascending and distinct within a pool.
    items: Vec<u32>,
    mined_from: Vec<MinedFrom>,
    left_out: LeftOut,
}

/// How many rows of a file one version of one ranker made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinedFrom {
    /// What ranked: `model`, `scores`, `service`, `truth`.
    pub source: String,
    /// Which version of it.
    pub version: String,
    /// Rows.
    pub rows: u64,
}

impl HardPools {
    /// Reads a file of `pagoda mine`. Users and items stand for themselves by their places in `users` and `catalog`; rows of other users are bad
    /// ones; rows of other items, which may have left the catalog since, may be this share of all. A pair that is there twice is there once.
    pub fn read(
        path: &Path,
        users: &[Entity],
        catalog: &[Entity],
        unknown_share_max: f64,
    ) -> Result<Self, DatasetError> {
        let (users_by_id, items_by_id) = (places(users), places(catalog));
        let mut mined_from: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let has = |item: &str| items_by_id.contains_key(item);
        let items = KnownItems { has: &has, unknown_share_max };
        let left_out = read_hard_negatives(path, &Limits::default(), items, &mut |row| {
            let user = users_by_id.get(row.user).copied();
            let user =
                user.ok_or_else(|| format!("column `user_id`: expected a user of the log, found {}", shown(row.user)))?;
            count(&mut mined_from, &row);
            pairs.push((user, items_by_id[row.item]));
            Ok(())
        })?;
        if pairs.is_empty() {
            let (file, description) =
                (path.display().to_string(), "expected at least one hard negative, found none".into());
            return Err(DatasetError::Malformed { file, description });
        }
        let (offsets, items) = compressed(pairs, users.len());
        let mined_from = mined_from.into_iter().map(|((source, version), rows)| MinedFrom { source, version, rows });
        Ok(Self { offsets, items, mined_from: mined_from.collect(), left_out })
    }

    /// A user's hard negatives: places in the catalog, ascending; empty for a user without.
    pub fn pool(&self, user: u32) -> &[u32] {
        let user = user as usize;
        &self.items[self.offsets[user]..self.offsets[user + 1]]
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Where the rows came from, by source and version.
    pub fn mined_from(&self) -> &[MinedFrom] {
        &self.mined_from
    }

    /// The rows left out.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }
}

fn places(entities: &[Entity]) -> HashMap<&str, u32> {
    entities.iter().zip(0..).map(|(entity, place)| (entity.id.as_str(), place)).collect()
}

/// Without making the key anew for every row.
fn count(mined_from: &mut BTreeMap<(String, String), u64>, row: &HardNegative<'_>) {
    match mined_from.iter_mut().find(|((source, version), _)| source == row.source && version == row.version) {
        Some((_, rows)) => *rows += 1,
        None => drop(mined_from.insert((row.source.to_owned(), row.version.to_owned()), 1)),
    }
}

/// Pairs of user and item by user: offsets, one more than users, and items.
fn compressed(mut pairs: Vec<(u32, u32)>, users: usize) -> (Vec<usize>, Vec<u32>) {
    pairs.sort_unstable();
    pairs.dedup();
    let mut offsets = vec![0; users + 1];
    pairs.iter().for_each(|&(user, _)| offsets[user as usize + 1] += 1);
    (0..users).for_each(|user| offsets[user + 1] += offsets[user]);
    (offsets, pairs.into_iter().map(|(_, item)| item).collect())
}
