//! How much a search reads, told before it begins. A short one runs where its call is: another thread's waking would cost a third of it again.

use super::Query;
use crate::{
    delta::Part,
    filter::{Condition, Predicate, Test},
    snapshot::{HeldShard, HeldSpace},
};

/// Values (rows times dimension) that a short search reads at most: a millisecond or two.
const VALUES_MAX: usize = 1 << 23;
/// Excluded ids of a short search: each is looked up.
const EXCLUDED_MAX: usize = 1000;
/// Values in the conditions of a short search: each is looked up.
const CONDITION_VALUES_MAX: usize = 100;

impl Query {
    /// Whether a search of this space is over in a millisecond or two. With a filter only if it is known which rows meet it; with groups
    /// never, for all that is known before.
    pub(super) fn is_short(&self, held: &HeldSpace, predicate: &Predicate) -> bool {
        let condition_values = self.filter.all.iter().map(values_of).sum::<usize>();
        let has_few =
            self.group_by.is_none() && self.exclude.len() <= EXCLUDED_MAX && condition_values <= CONDITION_VALUES_MAX;
        has_few && self.values_read(held, predicate).is_some_and(|values| values <= VALUES_MAX)
    }

    /// None: not known before.
    fn values_read(&self, held: &HeldSpace, predicate: &Predicate) -> Option<usize> {
        let base: Option<usize> = held.shards().iter().map(|shard| self.rows_of_base(shard, predicate)).sum();
        let rows = base? + held.delta().parts().into_iter().map(Part::rows).sum::<usize>();
        Some(rows.saturating_mul(held.generation().manifest.embedding_dim).saturating_mul(self.embeddings.len()))
    }

    fn rows_of_base(&self, held: &HeldShard, predicate: &Predicate) -> Option<usize> {
        let (shard, living) = (held.shard(), held.living().count());
        let allowed = match predicate.is_empty() {
            true => living,
            false => shard.attributes.remembered(predicate)?.len().min(living),
        };
        let Some(index) = &shard.index else { return Some(0) };
        let (k, parameters, exact) = (self.k, self.parameters, self.exact);
        let query = pagoda_ann::Query { k, parameters, exact, ..Default::default() };
        Some(index.rows_read(&shard.tuning, &query, allowed))
    }
}

fn values_of(condition: &Condition) -> usize {
    match &condition.test {
        Test::AnyOf(values) | Test::NoneOf(values) => values.len(),
        Test::Range(_) => 1,
    }
}
