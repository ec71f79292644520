//! The data set in memory: users, catalog and positives as numbers, the split, and each user's timeline.

mod split;
mod tables;
mod timelines;

pub(crate) use split::split_positives;
pub(crate) use tables::{Data, Positive};
pub(crate) use timelines::Timelines;
