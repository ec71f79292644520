//! [`Scope`]: the rows that a query may find, one set for each part of a space. Living rows, filter and exclusions are one bitmap.

use std::{borrow::Cow, collections::HashSet};

use pagoda_ann::{Bitmap, Mask, check_vector};
use pagoda_server::status::Violation;

use super::Query;
use crate::{
    attributes::{AttributeIndex, Columns, Matches},
    delta::Part,
    error::IndexError,
    filter::{GroupLimit, Groups, Predicate},
    generation::Shard,
    ids::{IdRef, ItemId},
    snapshot::{HeldShard, HeldSpace},
};

/// What a query may find in a space.
pub(super) struct Scope<'a> {
    pub(super) segments: Vec<Segment<'a>>,
    /// How many items that is.
    pub(super) count: usize,
}

/// Rows that are searched together.
pub(super) struct Segment<'a> {
    pub(super) rows: Rows<'a>,
    /// Those that may be found; none: all.
    allowed: Option<Cow<'a, Bitmap>>,
    /// But for these, all of them allowed.
    excluded: Vec<u32>,
    /// How many may be found.
    pub(super) count: usize,
}

/// Where rows are.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// In a shard of the generation.
    Base(&'a Shard),
    /// In a part of the delta.
    Delta(&'a Part),
}

impl<'a> Scope<'a> {
    /// What meets a query's filter, as [`bind`] has it, but for what it excludes.
    pub(super) fn new(held: &'a HeldSpace, predicate: &Predicate, exclude: &[ItemId]) -> Self {
        let base = held.shards().iter().map(|shard| Segment::of_base(shard, predicate, exclude));
        let delta = held.delta().parts().into_iter().map(|part| Segment::of_delta(part, predicate, exclude));
        let segments: Vec<_> = base.chain(delta).filter(|segment| segment.count > 0).collect();
        let count = segments.iter().map(|segment| segment.count).sum();
        Self { segments, count }
    }

    /// How many groups there are, if no item is without one and they have no room for k items: once they are full, nothing is left.
    pub(super) fn few_groups(&self, limit: &GroupLimit, k: usize) -> Option<usize> {
        let mut all = HashSet::new();
        for segment in &self.segments {
            let texts =
                segment.groups(limit).of_every_row().filter(|texts| texts.len().saturating_mul(limit.max) < k)?;
            all.extend(texts);
        }
        Some(all.len()).filter(|groups| groups * limit.max < k)
    }
}

impl<'a> Segment<'a> {
    fn of_base(held: &'a HeldShard, predicate: &Predicate, exclude: &[ItemId]) -> Self {
        let (shard, living) = (held.shard(), held.living());
        let allowed = if predicate.is_empty() {
            Cow::Borrowed(living)
        } else {
            Cow::Owned(living_matches(living, &shard.attributes, predicate))
        };
        let allowed = (allowed.count() < allowed.rows()).then_some(allowed);
        Self::new(Rows::Base(shard), shard.items.len(), allowed, exclude)
    }

    fn of_delta(part: &'a Part, predicate: &Predicate, exclude: &[ItemId]) -> Self {
        let (rows, living) = (part.rows(), part.living());
        let allowed = if predicate.is_empty() {
            Cow::Borrowed(living)
        } else {
            let resolved = predicate.resolve(part.columns());
            Cow::Owned(Bitmap::of(rows, living.iter().filter(|row| resolved.is_met_by(*row))))
        };
        let allowed = (allowed.count() < allowed.rows()).then_some(allowed);
        Self::new(Rows::Delta(part), rows, allowed, exclude)
    }

    fn new(rows: Rows<'a>, row_count: usize, allowed: Option<Cow<'a, Bitmap>>, exclude: &[ItemId]) -> Self {
        let is_allowed = |row: &u32| allowed.as_ref().is_none_or(|allowed| allowed.contains(*row));
        let excluded: Vec<_> = exclude.iter().filter_map(|id| rows.row_of(id)).filter(is_allowed).collect();
        let count = allowed.as_ref().map_or(row_count, |allowed| allowed.count()) - excluded.len();
        Self { rows, allowed, excluded, count }
    }

    /// For ann.
    pub(super) fn mask(&self) -> Mask<'_> {
        Mask { allowed: self.allowed.as_deref(), excluded: &self.excluded }
    }

    /// The groups of the rows.
    pub(super) fn groups(&self, limit: &GroupLimit) -> Groups<'a> {
        Groups::of(self.rows.columns(), limit)
    }
}

impl<'a> Rows<'a> {
    /// The id of a row.
    pub(super) fn id(self, row: u32) -> IdRef<'a> {
        match self {
            Self::Base(shard) => shard.items.get(row),
            Self::Delta(part) => IdRef::Text(part.id(row).as_str()),
        }
    }

    fn row_of(self, id: &ItemId) -> Option<u32> {
        match self {
            Self::Base(shard) => shard.row_of(id),
            Self::Delta(part) => part.living_row(id),
        }
    }

    fn columns(self) -> &'a Columns {
        match self {
            Self::Base(shard) => shard.attributes.columns(),
            Self::Delta(part) => part.columns(),
        }
    }
}

fn living_matches(living: &Bitmap, attributes: &AttributeIndex, predicate: &Predicate) -> Bitmap {
    match attributes.matching(predicate).as_ref() {
        Matches::Few(rows) => Bitmap::of(living.rows(), rows.iter().copied().filter(|row| living.contains(*row))),
        Matches::Many(matches) => {
            let mut allowed = matches.clone();
            if living.count() < living.rows() {
                allowed.intersect(living);
            }
            allowed
        }
    }
}

/// A query's filter in the terms of a space; whatever only the space can tell is wrong with a query, all of it.
pub(super) fn bind(held: &HeldSpace, query: &Query) -> Result<Predicate, IndexError> {
    let manifest = &held.generation().manifest;
    let mut faults = Vec::new();
    for (n, embedding) in query.embeddings.iter().enumerate() {
        let path = if query.is_batch { format!("embeddings[{n}].values") } else { "embedding.values".to_owned() };
        faults
            .extend(check_vector(embedding, manifest.embedding_dim).err().map(|e| Violation::new(path, e.to_string())));
    }
    let declared = &manifest.attributes;
    let predicate = query.filter.bind(declared).map_err(|found| faults.extend(found));
    faults.extend(query.group_by.as_ref().and_then(|limit| limit.check(declared).err()));
    match predicate {
        Ok(predicate) if faults.is_empty() => Ok(predicate),
        _ => Err(IndexError::Invalid(faults)),
    }
}
