//! How much a search reads, told before it begins. A short one runs where its call is: another thread's waking would cost a third of it again.

use super::Query;
use crate::{
    delta::Part,
    snapshot::{HeldShard, HeldSpace, Snapshot},
};

/// Values (rows times dimension) that a short search reads at most: about a millisecond.
const VALUES_MAX: usize = 1 << 22;
/// Excluded ids of a short search: each is looked up.
const EXCLUDED_MAX: usize = 1000;

impl Query {
    /// Whether a search of this snapshot is over in about a millisecond. Filters and groups never are, for all that is known before.
    pub(super) fn is_short(&self, snapshot: &Snapshot) -> bool {
        let is_plain = self.filter.all.is_empty() && self.group_by.is_none() && self.exclude.len() <= EXCLUDED_MAX;
        // A space that is not held is refused at once.
        is_plain && snapshot.space(self.space).map_or(true, |held| self.values_read(held) <= VALUES_MAX)
    }

    fn values_read(&self, held: &HeldSpace) -> usize {
        let base = held.shards().iter().map(|shard| self.rows_of_base(shard));
        let rows = base.sum::<usize>() + held.delta().parts().into_iter().map(Part::rows).sum::<usize>();
        rows.saturating_mul(held.generation().manifest.embedding_dim).saturating_mul(self.embeddings.len())
    }

    fn rows_of_base(&self, held: &HeldShard) -> usize {
        let shard = held.shard();
        match &shard.index {
            Some(index) => {
                let (k, parameters, exact) = (self.k, self.parameters, self.exact);
                let query = pagoda_ann::Query { k, mask: held.mask(), parameters, exact, ..Default::default() };
                index.rows_read(&shard.tuning, &query).unwrap_or(usize::MAX)
            }
            None => 0,
        }
    }
}
