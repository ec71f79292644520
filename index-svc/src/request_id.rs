//! [`RequestId`]: a caller's name for a write, so that a retry changes nothing; [`Applied`]: those that were applied.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    str::FromStr,
    sync::Arc,
};

use pagoda_commit_log::Lsn;

use crate::ids::InvalidId;

const REQUEST_ID_BYTES_LIMIT: usize = 64;
/// How many names are remembered, the latest ones. Part of the fold, hence no setting: all replicas must forget alike.
const APPLIED_LIMIT: usize = 10_000;

/// A name that a caller gives to a write: 1 to 64 bytes of UTF-8 without control characters, unlike any other's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// The names of the latest writes, and where each was committed.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    by_id: HashMap<RequestId, Lsn>,
    oldest_first: VecDeque<RequestId>,
}

impl RequestId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = InvalidId;
    fn from_str(id: &str) -> Result<Self, InvalidId> {
        match id.len() {
            1..=REQUEST_ID_BYTES_LIMIT if !id.chars().any(char::is_control) => Ok(Self(id.into())),
            found => Err(InvalidId::new(format!(
                "expected a request id of 1 to {REQUEST_ID_BYTES_LIMIT} bytes without control characters, found {found} bytes"
            ))),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Applied {
    /// Where a write of this name was committed.
    pub fn position_of(&self, id: &RequestId) -> Option<Lsn> {
        self.by_id.get(id).copied()
    }

    /// Remembers a name that is not known yet, and forgets the oldest where there are too many.
    pub(crate) fn remember(&mut self, id: RequestId, lsn: Lsn) {
        self.by_id.insert(id.clone(), lsn);
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > APPLIED_LIMIT {
            self.oldest_first.pop_front().map(|oldest| self.by_id.remove(&oldest));
        }
    }

    /// All, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RequestId, Lsn)> {
        self.oldest_first.iter().map(|id| (id, self.by_id[id]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_names_are_remembered() {
        let mut applied = Applied::default();
        let id = |n: usize| format!("r{n}").parse::<RequestId>().unwrap();
        (0..APPLIED_LIMIT + 2).for_each(|n| applied.remember(id(n), Lsn(n as u64)));
        assert_eq!((applied.position_of(&id(1)), applied.position_of(&id(2))), (None, Some(Lsn(2))));
        assert_eq!(applied.iter().count(), APPLIED_LIMIT);
    }

    #[test]
    fn hostile_names_are_refused() {
        for bad in ["", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }
}
