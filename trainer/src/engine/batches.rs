//! [`Batch`]: the examples of one step, with histories point-in-time and accidental hits found.

use pagoda_model::{Side, features::EncodedBatch, schema::Split};
use rand::{Rng, seq::index};
use rand_chacha::ChaCha8Rng;

use super::{Encoded, encoded::UserExample, sampling::NegativeSampler};
use crate::{
    config::TrainingConfig,
    data::{Positive, Timelines},
};

const NONE: u32 = u32::MAX;

/// One step's examples, encoded. User i's positive is candidate i; uniform negatives follow.
pub(super) struct Batch {
    pub(super) users: EncodedBatch,
    pub(super) items: EncodedBatch,
    pub(super) weights: Vec<f32>,
    pub(super) log_q: Vec<f32>,
    pub(super) hits: Vec<Vec<u32>>,
}

/// Makes batches of examples.
pub(super) struct Batcher<'a> {
    pub(super) encoded: &'a Encoded,
    /// Training positives only.
    pub(super) timelines: &'a Timelines,
    pub(super) sampler: NegativeSampler,
    pub(super) split: Split,
    pub(super) config: &'a TrainingConfig,
    pub(super) columns: ColumnsByItem,
}

impl Batcher<'_> {
    /// Puts a batch together.
    pub(super) fn batch(&mut self, examples: &[Positive], rng: &mut ChaCha8Rng) -> Batch {
        let mut candidates: Vec<u32> = examples.iter().map(|e| e.item).collect();
        candidates.extend(self.sampler.draw(rng));
        Batch {
            users: self.users(examples, rng),
            items: self.items(&candidates, rng),
            weights: examples.iter().map(|e| e.weight).collect(),
            log_q: candidates.iter().map(|&item| self.sampler.log_q(item)).collect(),
            hits: self.columns.accidental_hits(examples, &candidates, self.timelines),
        }
    }

    fn users(&self, examples: &[Positive], rng: &mut ChaCha8Rng) -> EncodedBatch {
        let mut users = self.encoded.empty(Side::User);
        for example in examples {
            let history =
                if rng.random_bool(self.config.history_dropout) { Vec::new() } else { self.history(example, rng) };
            let id_hidden = rng.random_bool(self.config.id_dropout);
            self.encoded.push_user(&mut users, &UserExample { user: example.user, history: &history, id_hidden });
        }
        users
    }

    fn items(&self, candidates: &[u32], rng: &mut ChaCha8Rng) -> EncodedBatch {
        let mut items = self.encoded.empty(Side::Item);
        for &item in candidates {
            self.encoded.push_item(&mut items, item, rng.random_bool(self.config.id_dropout));
        }
        items
    }

    /// What was known of the user before the example. Given files have no order: there it is a sample of the user's others.
    fn history(&self, example: &Positive, rng: &mut ChaCha8Rng) -> Vec<u32> {
        match self.split {
            Split::Temporal | Split::LeaveLastOut => self.timelines.before(example.user, example.timestamp).to_vec(),
            Split::Given => {
                let others = self.timelines.all(example.user).iter().copied().filter(|&item| item != example.item);
                sample(others.collect(), self.encoded.history_length(), rng)
            }
        }
    }
}

fn sample(items: Vec<u32>, length: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    if items.len() <= length {
        return items;
    }
    index::sample(rng, items.len(), length).iter().map(|i| items[i]).collect()
}

/// Finds the columns of an item: a linked list through a batch's columns, by catalog item.
pub(super) struct ColumnsByItem {
    first: Vec<u32>,
    next: Vec<u32>,
}

impl ColumnsByItem {
    /// For a catalog of so many items.
    pub(super) fn new(catalog: usize) -> Self {
        Self { first: vec![NONE; catalog], next: Vec::new() }
    }

    /// For each example the columns, other than its own, of items that its user is known to like (in training); the example's own
    /// item among them. These are no negatives.
    fn accidental_hits(&mut self, examples: &[Positive], candidates: &[u32], timelines: &Timelines) -> Vec<Vec<u32>> {
        self.link(candidates);
        let hits = examples.iter().enumerate().map(|(row, e)| self.hits_of(row, timelines.all(e.user))).collect();
        candidates.iter().for_each(|&item| self.first[item as usize] = NONE);
        hits
    }

    fn link(&mut self, candidates: &[u32]) {
        self.next.clear();
        for (column, &item) in candidates.iter().enumerate() {
            self.next.push(self.first[item as usize]);
            self.first[item as usize] = column as u32;
        }
    }

    fn hits_of(&self, row: usize, liked: &[u32]) -> Vec<u32> {
        let mut hits = Vec::new();
        for &item in liked {
            let mut column = self.first[item as usize];
            while column != NONE {
                if column as usize != row {
                    hits.push(column);
                }
                column = self.next[column as usize];
            }
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_other_positives_and_repeats_of_its_own_are_hits() {
        let positive = |user, item, timestamp| Positive { user, item, timestamp, weight: 1.0, test: false };
        let log = [positive(0, 5, 1), positive(0, 6, 2), positive(1, 7, 3), positive(2, 5, 4)];
        let timelines = Timelines::new(&log, 3, |_| true);
        let examples = [log[0], log[2], log[3]];
        let mut columns = ColumnsByItem::new(10);
        for _ in 0..2 {
            let mut hits = columns.accidental_hits(&examples, &[5, 7, 5, 6, 8, 7], &timelines);
            hits.iter_mut().for_each(|h| h.sort_unstable());
            assert_eq!(hits, [vec![2, 3], vec![5], vec![0]]);
        }
    }
}
