//! What is asked: each query's user, what was known of the user, and which items answer it.

use pagoda_model::schema::Split;
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;

use crate::data::{Data, Timelines};

/// One query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) user: u32,
    /// Catalog items, oldest first. They are the user's history, and they are removed from the ranking.
    pub(crate) seen: Vec<u32>,
    /// Catalog items, distinct, none of them seen.
    pub(crate) relevant: Vec<u32>,
}

/// The queries of a data set whose split is marked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Protocol {
    pub(crate) queries: Vec<Query>,
    /// Test positives of items seen before.
    pub(crate) repeats: u64,
}

impl Protocol {
    /// At most `queries_max` queries, drawn by the seed.
    pub(crate) fn new(data: &Data, queries_max: usize, seed: u64) -> Self {
        let (all, repeats) = match data.schema.interactions.split {
            Split::Temporal => one_per_test_positive(data),
            Split::LeaveLastOut | Split::Given => one_per_test_user(data),
        };
        Self { queries: sample(all, queries_max, seed), repeats }
    }
}

/// Made just before each test positive: earlier ones, of the test period too, are its history. The model is not retrained.
fn one_per_test_positive(data: &Data) -> (Vec<Query>, u64) {
    let timelines = Timelines::new(&data.positives, data.users.len(), |_| true);
    let tests = data.positives.iter().filter(|p| p.test);
    let all = tests.map(|p| query(p.user, timelines.before(p.user, p.timestamp), &[p.item]));
    keep_answerable(all)
}

/// All training positives are the history, all test positives are relevant.
fn one_per_test_user(data: &Data) -> (Vec<Query>, u64) {
    let users = data.users.len();
    let train = Timelines::new(&data.positives, users, |p| !p.test);
    let test = Timelines::new(&data.positives, users, |p| p.test);
    let asked = (0..users as u32).filter(|&user| !test.all(user).is_empty());
    keep_answerable(asked.map(|user| query(user, train.all(user), test.all(user))))
}

/// The query, and how many of the wanted items were seen before.
fn query(user: u32, seen: &[u32], wanted: &[u32]) -> (Query, u64) {
    let mut relevant: Vec<u32> = wanted.iter().copied().filter(|item| !seen.contains(item)).collect();
    let repeats = (wanted.len() - relevant.len()) as u64;
    relevant.sort_unstable();
    relevant.dedup();
    (Query { user, seen: seen.to_vec(), relevant }, repeats)
}

fn keep_answerable(all: impl Iterator<Item = (Query, u64)>) -> (Vec<Query>, u64) {
    let mut repeats = 0;
    let counted = all.map(|(query, repeated)| {
        repeats += repeated;
        query
    });
    let queries = counted.filter(|q| !q.relevant.is_empty()).collect();
    (queries, repeats)
}

fn sample(mut queries: Vec<Query>, count: usize, seed: u64) -> Vec<Query> {
    if queries.len() <= count {
        return queries;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = index::sample(&mut rng, queries.len(), count).into_vec();
    chosen.sort_unstable();
    chosen
        .into_iter()
        .map(|i| Query {
            user: queries[i].user,
            seen: std::mem::take(&mut queries[i].seen),
            relevant: std::mem::take(&mut queries[i].relevant),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pagoda_model::{Entity, Schema};

    use super::*;
    use crate::data::{Positive, split_positives};

    const SCHEMA: &str = r#"
    user = { id = "u", feature = [{ name = "history", kind = "sequence" }] }
    item = { id = "i", feature = [{ name = "i", kind = "id" }] }
    "#;

    /// Rows of (user, item), one a second, the last two of them test.
    fn data(rows: &[(u32, u32)], split: Split) -> Data {
        let mut schema = Schema::from_toml(SCHEMA).unwrap();
        schema.interactions.split = split;
        let test = |at: usize| split == Split::Given && at + 2 >= rows.len();
        let positive = |(at, &(user, item))| Positive { user, item, timestamp: at as i64, weight: 1.0, test: test(at) };
        let mut positives: Vec<Positive> = rows.iter().enumerate().map(positive).collect();
        split_positives(&mut positives, split, 2.0 / rows.len() as f64).unwrap();
        let entities = |n: usize| (0..n).map(|i| Entity::of_id(i.to_string())).collect();
        Data { schema, users: entities(2), catalog: entities(9), positives, first_met: vec![0; 9], bad_rows: 0 }
    }

    fn query(user: u32, seen: &[u32], relevant: &[u32]) -> Query {
        Query { user, seen: seen.to_vec(), relevant: relevant.to_vec() }
    }

    #[test]
    fn a_temporal_query_knows_what_came_before_it_even_in_the_test_period() {
        let protocol = Protocol::new(&data(&[(0, 1), (1, 1), (0, 2), (0, 3)], Split::Temporal), 10, 1);
        assert_eq!(protocol.queries, [query(0, &[1], &[2]), query(0, &[1, 2], &[3])]);
    }

    #[test]
    fn a_repeat_is_counted_and_not_asked() {
        let protocol = Protocol::new(&data(&[(0, 1), (1, 1), (0, 2), (0, 1)], Split::Temporal), 10, 1);
        assert_eq!((protocol.queries.as_slice(), protocol.repeats), (&[query(0, &[1], &[2])][..], 1));
    }

    #[test]
    fn given_and_leave_last_out_ask_once_per_user() {
        let rows = [(0, 1), (1, 1), (0, 2), (0, 3)];
        assert_eq!(Protocol::new(&data(&rows, Split::Given), 10, 1).queries, [query(0, &[1], &[2, 3])]);
        assert_eq!(Protocol::new(&data(&rows, Split::LeaveLastOut), 10, 1).queries, [query(0, &[1, 2], &[3])]);
    }

    #[test]
    fn queries_are_capped_by_the_seed() {
        let rows: Vec<(u32, u32)> = (0..8).map(|i| (i % 2, i)).collect();
        let data = data(&rows, Split::Temporal);
        let draw = |seed| Protocol::new(&data, 1, seed).queries;
        assert_eq!(draw(1), draw(1));
        assert!((0..50).any(|seed| draw(seed) != draw(1)));
        assert!((0..50).all(|seed| draw(seed).len() == 1));
    }
}
