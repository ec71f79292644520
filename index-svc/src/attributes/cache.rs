//! [`Cache`]: what the last few predicates allowed. Services filter by the same few conditions again and again, and a generation never changes.
//!
//! Nobody waits for anybody: of those who filter, some have the processor time that the others leave, and a lock that they were interrupted with
//! would keep all of these waiting.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use super::Matches;
use crate::filter::Predicate;

/// So many are remembered; each takes a bit a row or less.
const ENTRIES_MAX: usize = 32;

/// The least recently used is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: ArcSwap<Vec<Arc<Entry>>>,
    /// How often any was asked for.
    uses: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    predicate: Predicate,
    matches: Arc<Matches>,
    last_use: AtomicU64,
}

impl Cache {
    /// What is remembered, or what is found now. Two callers may both find it; nobody waits for another's work.
    pub(super) fn get_or(&self, predicate: &Predicate, find: impl FnOnce() -> Matches) -> Arc<Matches> {
        if let Some(known) = self.get(predicate) {
            return known;
        }
        let matches = Arc::new(find());
        let last_use = AtomicU64::new(self.next_use());
        let entry = Arc::new(Entry { predicate: predicate.clone(), matches: matches.clone(), last_use });
        self.entries.rcu(|entries| {
            let mut entries = entries.to_vec();
            if entries.len() == ENTRIES_MAX {
                let oldest = (0..ENTRIES_MAX).min_by_key(|at| entries[*at].last_use.load(Ordering::Relaxed));
                oldest.into_iter().for_each(|at| drop(entries.swap_remove(at)));
            }
            entries.push(entry.clone());
            entries
        });
        matches
    }

    /// What is remembered.
    pub(super) fn get(&self, predicate: &Predicate) -> Option<Arc<Matches>> {
        let entries = self.entries.load();
        let entry = entries.iter().find(|entry| entry.predicate == *predicate)?;
        entry.last_use.store(self.next_use(), Ordering::Relaxed);
        Some(entry.matches.clone())
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Predicate;

    #[test]
    fn the_least_recently_used_is_forgotten() {
        let cache = Cache::default();
        let predicate = |n: i64| Predicate::of_integers("n", &[n]);
        for n in 0..ENTRIES_MAX as i64 {
            cache.get_or(&predicate(n), || Matches::Few(vec![n as u32]));
        }
        assert_eq!(*cache.get_or(&predicate(0), || unreachable!()), Matches::Few(vec![0]));
        cache.get_or(&predicate(-1), || Matches::Few(vec![]));
        assert_eq!(*cache.get_or(&predicate(0), || unreachable!()), Matches::Few(vec![0]));
        assert_eq!(*cache.get_or(&predicate(1), || Matches::Few(vec![77])), Matches::Few(vec![77]));
    }
}
