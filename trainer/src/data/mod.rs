//! The data set: users and catalog in memory, and the log, which need not fit there: partitions of users' [`Timelines`], split into parts, from
//! which passes and [`Examples`] are drawn.
//!
//! Knows nothing of encoding, models or metrics.

mod examples;
mod hash;
mod log;
mod quantile;
mod rows;
mod spill;
mod split;
mod tables;
#[cfg(test)]
mod tests;
mod timelines;

#[cfg(test)]
pub(crate) use self::log::LogLimits;
pub(crate) use self::{
    examples::{Example, Examples},
    hash::mixed,
    rows::Row,
    split::Part,
    tables::{Data, Tally},
    timelines::{Timeline, Timelines},
};
