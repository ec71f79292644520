//! What is asked: each query's user, what was known of the user, and which items answer it.
//!
//! Users' timelines are visited one by one, and only the queries that are asked are kept, whatever the length of the log.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashSet},
    ops::Deref,
    sync::Arc,
};

use pagoda_model::schema::Split;

use crate::{
    data::{Data, Part, Row, Timeline, mixed},
    error::TrainError,
};

/// One query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) user: u32,
    /// Catalog items, oldest first. They are the user's history, and they are removed from the ranking.
    pub(crate) seen: Seen,
    /// Catalog items, distinct, none of them seen.
    pub(crate) relevant: Vec<u32>,
    /// Of each of these, the places of the events that the user has with it in the part, at whatever time.
    pub(crate) events: Vec<Vec<u8>>,
}

/// A user's items up to some time. Queries of one user share them, so that a long history is held once.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    items: Arc<[u32]>,
    count: usize,
}

impl Query {
    /// What a user would like, whatever turns out to be.
    pub(crate) fn of_user(user: u32, seen: &[u32]) -> Self {
        let seen = Seen { items: seen.into(), count: seen.len() };
        Self { user, seen, relevant: Vec::new(), events: Vec::new() }
    }
}

impl Deref for Seen {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.items[..self.count]
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// The queries of a data set that is split.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Protocol {
    /// By user and time.
    pub(crate) queries: Vec<Query>,
    /// Positives of the part that are of items seen before.
    pub(crate) repeats: u64,
}

impl Protocol {
    /// At most `queries_max` queries of the test or the validation part, drawn by the seed. Rows of a later part are unknown to them.
    pub(crate) fn new(data: &Data, part: Part, queries_max: usize, seed: u64) -> Result<Self, TrainError> {
        let mut drawn = Drawn { part, queries_max, seed, queries: BTreeMap::new(), repeats: 0 };
        data.log.visit(|timelines| {
            for timeline in timelines.iter().filter(|timeline| timeline.parts.contains(&part)) {
                match data.schema.interactions.split {
                    Split::Temporal => drawn.ask_per_positive(timeline),
                    Split::LeaveLastOut | Split::Given => drawn.ask_once(timeline),
                }
            }
        })?;
        Ok(drawn.finish())
    }
}

/// The queries whose rows have the smallest hashes: a draw without replacement that does not depend on the order of users or on the other queries.
struct Drawn {
    part: Part,
    queries_max: usize,
    seed: u64,
    queries: BTreeMap<Key, Query>,
    repeats: u64,
}

/// The hash of a query's first row, and what tells it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    hash: u64,
    user: u32,
    row: usize,
}

impl Drawn {
    /// Made just before each positive of the part: earlier ones, of the same part too, are its history. The model is not retrained.
    fn ask_per_positive(&mut self, timeline: Timeline<'_>) {
        let (part, mut known, mut noted) = (self.part, HashSet::new(), 0);
        let items: OnceCell<Arc<[u32]>> = OnceCell::new();
        for (number, row) in timeline.rows().enumerate().filter(|(_, row)| row.part == part) {
            let seen: &[u32] = timeline.before(row.timestamp);
            known.extend(seen[noted..].iter().copied());
            noted = seen.len();
            if known.contains(&row.item) {
                self.repeats += 1;
            } else {
                self.ask(number, row, || Query {
                    user: row.user,
                    seen: Seen { items: Arc::clone(items.get_or_init(|| timeline.items.into())), count: noted },
                    relevant: vec![row.item],
                    events: vec![events(timeline, part, row.item)],
                });
            }
        }
    }

    /// All positives of earlier parts are the history, all those of the part are relevant.
    fn ask_once(&mut self, timeline: Timeline<'_>) {
        let earlier = |part: Part| (part as u8) < self.part as u8;
        let seen: Vec<u32> = timeline.rows().filter(|row| earlier(row.part)).map(|row| row.item).collect();
        let known: HashSet<u32> = seen.iter().copied().collect();
        let mut relevant = Vec::new();
        let mut first = None;
        for (number, row) in timeline.rows().enumerate().filter(|(_, row)| row.part == self.part) {
            if known.contains(&row.item) {
                self.repeats += 1;
            } else {
                relevant.push(row.item);
                first = first.or(Some((number, row)));
            }
        }
        relevant.sort_unstable();
        relevant.dedup();
        if let Some((number, row)) = first {
            let part = self.part;
            self.ask(number, row, || {
                let events = relevant.iter().map(|&item| events(timeline, part, item)).collect();
                Query { relevant, events, ..Query::of_user(row.user, &seen) }
            });
        }
    }

    fn ask(&mut self, number: usize, row: Row, query: impl FnOnce() -> Query) {
        let words = [self.seed, u64::from(row.user), u64::from(row.item), row.timestamp.cast_unsigned()];
        let key = Key { hash: mixed(&words), user: row.user, row: number };
        let full = self.queries.len() >= self.queries_max;
        if full && self.queries.last_key_value().is_none_or(|(last, _)| *last < key) {
            return;
        }
        self.queries.insert(key, query());
        if full {
            self.queries.pop_last();
        }
    }

    fn finish(self) -> Protocol {
        let mut queries: Vec<(Key, Query)> = self.queries.into_iter().collect();
        queries.sort_unstable_by_key(|(key, _)| (key.user, key.row));
        Protocol { queries: queries.into_iter().map(|(_, query)| query).collect(), repeats: self.repeats }
    }
}

/// The events of a part's rows of an item.
fn events(timeline: Timeline<'_>, part: Part, item: u32) -> Vec<u8> {
    timeline.rows().filter(|row| row.part == part && row.item == item).map(|row| row.event).collect()
}

#[cfg(test)]
mod tests {
    use pagoda_dataset::{EntityTable, Interaction, Interactions};
    use pagoda_model::{Entity, ItemId, Schema, UserId};

    use super::*;
    use crate::{config::SplitConfig, data::LogLimits};

    const SCHEMA: &str = r#"
    user = { id = "u", feature = [{ name = "history", kind = "sequence" }] }
    item = { id = "i", feature = [{ name = "i", kind = "id" }] }
    "#;

    /// Rows of (user, item), one a second, the last two of them test.
    fn data(rows: &[(u32, u32)], split: Split) -> Data {
        split_data(rows, split, 0.0, LogLimits::default())
    }

    fn split_data(rows: &[(u32, u32)], split: Split, validation_share: f64, limits: LogLimits) -> Data {
        let mut schema = Schema::from_toml(SCHEMA).unwrap();
        schema.interactions.split = split;
        let row = |(at, &(user, item)): (usize, &(u32, u32))| {
            let test = split == Split::Given && at + 2 >= rows.len();
            Interaction { user, item, timestamp: at as i64, event: 0, weight: 1.0, test }
        };
        let log = Interactions {
            users: (0..20).map(|i| UserId::new(format!("{i:02}")).unwrap()).collect(),
            items: (0..20).map(|i| ItemId::new(format!("{i:02}")).unwrap()).collect(),
            rows: rows.iter().enumerate().map(row).collect(),
            ..Interactions::default()
        };
        let items = (0..20).map(|i| Entity::of_id(format!("{i:02}"))).collect();
        let items = EntityTable { entities: items, ..EntityTable::default() };
        let mut data = Data::of_interactions(schema, EntityTable::default(), items, log, limits);
        data.split(&SplitConfig { test_share: 2.0 / rows.len() as f64, validation_share }, 1).unwrap();
        data
    }

    fn asked(data: &Data, part: Part) -> Protocol {
        Protocol::new(data, part, 10, 1).unwrap()
    }

    fn query(user: u32, seen: &[u32], relevant: &[u32]) -> Query {
        let events = vec![vec![0]; relevant.len()];
        Query { relevant: relevant.to_vec(), events, ..Query::of_user(user, seen) }
    }

    #[test]
    fn a_temporal_query_knows_what_came_before_it_even_in_the_test_period() {
        let protocol = asked(&data(&[(0, 1), (1, 1), (0, 2), (0, 3)], Split::Temporal), Part::Test);
        assert_eq!(protocol.queries, [query(0, &[1], &[2]), query(0, &[1, 2], &[3])]);
        let [first, second] = [0, 1].map(|n| &protocol.queries[n].seen.items);
        assert!(Arc::ptr_eq(first, second), "a long history is held once, not once a query");
    }

    #[test]
    fn a_repeat_is_counted_and_not_asked() {
        let protocol = asked(&data(&[(0, 1), (1, 1), (0, 2), (0, 1)], Split::Temporal), Part::Test);
        assert_eq!((protocol.queries.as_slice(), protocol.repeats), (&[query(0, &[1], &[2])][..], 1));
        let protocol = asked(&data(&[(0, 1), (1, 1), (0, 2), (0, 1)], Split::Given), Part::Test);
        assert_eq!((protocol.queries.as_slice(), protocol.repeats), (&[query(0, &[1], &[2])][..], 1));
    }

    #[test]
    fn given_and_leave_last_out_ask_once_per_user() {
        let rows = [(0, 1), (1, 1), (0, 3), (0, 2)];
        assert_eq!(asked(&data(&rows, Split::Given), Part::Test).queries, [query(0, &[1], &[2, 3])]);
        assert_eq!(asked(&data(&rows, Split::LeaveLastOut), Part::Test).queries, [query(0, &[1, 3], &[2])]);
    }

    #[test]
    fn a_validation_query_knows_nothing_of_the_test_part_and_a_test_query_knows_validation() {
        let rows = [(0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (0, 5)];
        let temporal = split_data(&rows, Split::Temporal, 0.5, LogLimits::default());
        assert_eq!(asked(&temporal, Part::Validation).queries, [query(0, &[1, 2], &[3]), query(1, &[], &[3])]);
        let tests = [query(0, &[1, 2, 3], &[4]), query(0, &[1, 2, 3, 4], &[5])];
        assert_eq!(asked(&temporal, Part::Test).queries, tests);
        let left_out = split_data(&rows, Split::LeaveLastOut, 0.5, LogLimits::default());
        assert_eq!(asked(&left_out, Part::Validation).queries, [query(0, &[1, 2, 3], &[4])]);
        assert_eq!(asked(&left_out, Part::Test).queries, [query(0, &[1, 2, 3, 4], &[5])]);
        let many: Vec<(u32, u32)> = (0..18).map(|i| (0, i)).collect();
        let given = split_data(&many, Split::Given, 0.5, LogLimits::default());
        let validation = asked(&given, Part::Validation).queries;
        let [Query { seen, relevant, .. }] = validation.as_slice() else { panic!("{validation:?}") };
        assert_eq!(seen.len() + relevant.len(), 16, "neither knows of the two test items");
        assert_eq!(asked(&given, Part::Test).queries, [query(0, &(0..16).collect::<Vec<_>>(), &[16, 17])]);
    }

    #[test]
    fn what_shares_the_timestamp_is_not_yet_known() {
        let rows = [(0, 1), (0, 2), (0, 3), (0, 4)];
        let mut schema = data(&rows, Split::Temporal).schema;
        schema.interactions.split = Split::Temporal;
        let times = [1, 2, 2, 2];
        let row = |(&(user, item), &timestamp): (&(u32, u32), &i64)| Interaction {
            user,
            item,
            timestamp,
            event: 0,
            weight: 1.0,
            test: false,
        };
        let log = Interactions {
            users: vec![UserId::new("u").unwrap()],
            items: (0..5).map(|i| ItemId::new(i.to_string()).unwrap()).collect(),
            rows: rows.iter().zip(&times).map(row).collect(),
            ..Interactions::default()
        };
        let (users, items) = (EntityTable::default(), EntityTable::default());
        let mut data = Data::of_interactions(schema, users, items, log, LogLimits::default());
        data.split(&SplitConfig { test_share: 0.5, validation_share: 0.0 }, 1).unwrap();
        let expected = [2, 3, 4].map(|item| query(0, &[1], &[item]));
        assert_eq!(asked(&data, Part::Test).queries, expected);
    }

    #[test]
    fn queries_are_capped_by_the_seed_without_regard_to_where_rows_lie() {
        let rows: Vec<(u32, u32)> = (0..200).map(|i| (i % 17, i % 19)).collect();
        let disk = LogLimits { memory_rows: 10, partition_rows: 20, partitions_max: 8 };
        for split in [Split::Temporal, Split::LeaveLastOut] {
            let [data, spilled] = [LogLimits::default(), disk].map(|limits| split_data(&rows, split, 0.1, limits));
            for part in [Part::Validation, Part::Test] {
                let all = Protocol::new(&data, part, 1000, 1).unwrap();
                assert!(!all.queries.is_empty());
                let draw = |data, seed| Protocol::new(data, part, 1, seed).unwrap();
                assert_eq!((draw(&data, 1), all.repeats), (draw(&spilled, 1), draw(&data, 1).repeats));
                assert!((0..50).any(|seed| draw(&data, seed).queries != draw(&data, 1).queries));
                assert!((0..50).all(|seed| draw(&data, seed).queries.len() == 1));
                assert!(all.queries.contains(&draw(&data, 1).queries[0]));
            }
        }
    }

    #[test]
    fn every_query_is_drawn_equally_often() {
        let rows: Vec<(u32, u32)> = (0..12).map(|i| (i, i)).chain((0..2).map(|i| (0, 12 + i))).collect();
        let mut data = data(&rows, Split::Temporal);
        data.split(&SplitConfig { test_share: 0.7, validation_share: 0.0 }, 1).unwrap();
        let all = Protocol::new(&data, Part::Test, 1000, 0).unwrap().queries;
        assert_eq!(all.len(), 10);
        let mut drawn = vec![0; all.len()];
        for seed in 0..1000 {
            for query in Protocol::new(&data, Part::Test, 3, seed).unwrap().queries {
                drawn[all.iter().position(|q| *q == query).unwrap()] += 1;
            }
        }
        // 3 of 10, a thousand times: 300 each, with a standard deviation of 14.5.
        assert!(drawn.iter().all(|&count| (235..=365).contains(&count)), "{drawn:?}");
    }
}
