//! [`ScoresRanker`]: a ranking from a file of scores.

use std::{collections::HashMap, path::Path, sync::Arc};

use pagoda_dataset::{KnownItems, LeftOut, Limits, ScoreRow, read_scores};

use super::{AskedUser, Mining, MiningLog, Ranker, RankerError, Ranking, Top};
use crate::error::TrainError;

/// The best scored items of each user that is asked about. Items without a score are not ranked.
#[derive(Debug)]
pub struct ScoresRanker {
    version: Arc<str>,
    tops: HashMap<u32, Top>,
    /// Rows of users that are not asked about.
    pub rows_of_others: u64,
    /// Rows that score an item again for its user, as far as they might have been among the best; the highest score counts.
    pub repeated: u64,
    /// Rows left out.
    pub left_out: LeftOut,
}

impl ScoresRanker {
    /// Reads a file of `user`, `item` and `score` for the users of a mining; `version` names it, by its digest perhaps. Of a pair that
    /// is scored twice the higher score counts.
    pub fn read(
        path: &Path,
        version: &str,
        log: &MiningLog,
        mining: &Mining<'_>,
        limits: &Limits,
    ) -> Result<Self, TrainError> {
        let users: HashMap<&str, u32> =
            mining.users().iter().map(|&user| (log.users()[user as usize].id.as_str(), user)).collect();
        let items: HashMap<&str, u32> =
            log.catalog().iter().zip(0..).map(|(e, place)| (e.id.as_str(), place)).collect();
        let mut tops: HashMap<u32, Top> = HashMap::new();
        let mut rows_of_others = 0;
        let has = |item: &str| items.contains_key(item);
        let known = KnownItems { has: &has, unknown_share_max: log.schema().interactions.unknown_items_share_max };
        let left_out = read_scores(path, limits, known, &mut |row: ScoreRow<'_>| {
            match users.get(row.user) {
                Some(&user) => {
                    let top = tops.entry(user).or_insert_with(|| Top::of_repeated(mining.top()));
                    top.push(items[row.item], row.score);
                }
                None => rows_of_others += 1,
            }
            Ok(())
        })?;
        let repeated = tops.values_mut().map(Top::repeated).sum();
        Ok(Self { version: version.into(), tops, rows_of_others, repeated, left_out })
    }
}

impl Ranker for ScoresRanker {
    fn source(&self) -> &str {
        "scores"
    }

    fn block_users(&self) -> usize {
        256
    }

    fn rank(&mut self, users: &[AskedUser], _: usize) -> Result<Vec<Ranking>, RankerError> {
        let ranking = |user: &AskedUser| {
            let items = self.tops.remove(&user.place).map(Top::finish).unwrap_or_default();
            Ranking { version: self.version.clone(), items }
        };
        Ok(users.iter().map(ranking).collect())
    }
}
