//! [`Walk`]: candidates in the order of their scores, passing over those of which some group is full.

use std::collections::HashMap;

use super::{ranking::Placed, scope::Scope};
use crate::filter::{GroupKey, GroupLimit};

/// What a walk took.
pub(super) struct Walk {
    /// Best first.
    pub(super) taken: Vec<Placed>,
    /// Whether there was one more that could have been taken.
    pub(super) is_more: bool,
    /// How many groups are full.
    pub(super) full: usize,
}

impl Walk {
    /// Walks through candidates, best first, until k are taken and it is known whether there is one more.
    pub(super) fn through(scope: &Scope<'_>, candidates: &[Placed], limit: &GroupLimit, k: usize) -> Self {
        let groups: Vec<_> = scope.segments.iter().map(|segment| segment.groups(limit)).collect();
        let mut sizes: HashMap<GroupKey<'_>, usize> = HashMap::new();
        let (mut taken, mut full) = (Vec::with_capacity(k.min(candidates.len())), 0);
        for candidate in candidates {
            let of_row = || groups[candidate.segment].of_row(candidate.hit.row);
            if of_row().any(|group| sizes.get(&group).is_some_and(|size| *size >= limit.max)) {
                continue;
            }
            if taken.len() == k {
                return Self { taken, is_more: true, full };
            }
            for group in of_row() {
                let size = sizes.entry(group).or_default();
                *size += 1;
                full += usize::from(*size == limit.max);
            }
            taken.push(*candidate);
        }
        Self { taken, is_more: false, full }
    }
}
