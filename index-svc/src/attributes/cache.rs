//! [`Cache`]: what the last few predicates allowed. Services filter by the same few conditions again and again, and a generation never changes.

use std::sync::{Arc, Mutex, PoisonError};

use super::Matches;
use crate::filter::Predicate;

/// So many are remembered; each takes a bit a row or less.
const ENTRIES_MAX: usize = 32;

/// The least recently used is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// The most recently used last.
    entries: Mutex<Vec<(Predicate, Arc<Matches>)>>,
}

impl Cache {
    /// What is remembered, or what is found now. Two callers may both find it; nobody waits for another's work.
    pub(super) fn get_or(&self, predicate: &Predicate, find: impl FnOnce() -> Matches) -> Arc<Matches> {
        if let Some(known) = self.get(predicate) {
            return known;
        }
        let found = Arc::new(find());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == ENTRIES_MAX {
            entries.remove(0);
        }
        entries.push((predicate.clone(), found.clone()));
        found
    }

    /// What is remembered.
    pub(super) fn get(&self, predicate: &Predicate) -> Option<Arc<Matches>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().rposition(|(known, _)| known == predicate)?;
        entries[at..].rotate_left(1);
        entries.last().map(|(_, matches)| matches.clone())
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
