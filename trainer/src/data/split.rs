//! [`Part`]: what is trained on, validated with and tested with, and [`Cut`], which tells them apart.

use pagoda_model::schema::Split;

use super::{
    hash::{mixed, share},
    log::Log,
    quantile::nth_timestamp,
    timelines::{Timeline, Timelines},
};
use crate::{config::SplitConfig, error::TrainError};

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Part {
    Train,
    Validation,
    Test,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];
}

/// Tells the parts of a log apart. What is test does not depend on whether there is validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cut {
    /// From a timestamp on, rows are of the part: equal timestamps are never on both sides.
    Temporal { validation: i64, test: i64 },
    /// The last positive of every user who has at least two is test; if wanted, the last but one of every user who has at least
    /// three is validation.
    LeaveLastOut { validation: bool },
    /// What the table says; validation is drawn. All rows of a user and an item are drawn together, for a validation row of an item that
    /// is trained on would be no query.
    Given { validation_share: f64, seed: u64 },
}

impl Cut {
    /// For a log that is not split yet, all in all of so many positives between two timestamps.
    pub(super) fn new(log: &Log, split: Split, config: &SplitConfig, seed: u64) -> Result<Self, TrainError> {
        let validation_share = config.validation_share;
        match split {
            Split::Temporal => Self::temporal(log, config),
            Split::LeaveLastOut => Ok(Self::LeaveLastOut { validation: validation_share > 0.0 }),
            Split::Given => Ok(Self::Given { validation_share, seed }),
        }
    }

    fn temporal(log: &Log, config: &SplitConfig) -> Result<Self, TrainError> {
        let newest = |count: u64, share: f64| {
            let place = ((count as f64) * (1.0 - share)).floor() as u64;
            nth_timestamp(place.min(count.saturating_sub(1)), log.time_range(), |visit| {
                log.visit(|timelines| timelines.iter().for_each(|t| t.timestamps.iter().for_each(|&at| visit(at))))
            })
        };
        let test = newest(log.rows(), config.test_share)?;
        let validated = config.validation_share > 0.0 && test.earlier > 0;
        let validation =
            if validated { newest(test.earlier, config.validation_share)?.timestamp } else { test.timestamp };
        Ok(Self::Temporal { validation, test: test.timestamp })
    }

    /// Marks positives.
    pub(super) fn mark(&self, positives: &mut Timelines) {
        positives.mark(|timeline, parts| match *self {
            Self::Temporal { .. } | Self::Given { .. } => self.mark_each(timeline, parts),
            Self::LeaveLastOut { validation } => mark_last(parts, validation),
        });
    }

    /// Marks impressions of the same users. Where a user's last positives are left out, impressions from then on are as well.
    pub(super) fn mark_exposed(&self, exposed: &mut Timelines, positives: &Timelines) {
        exposed.mark(|timeline, parts| match *self {
            Self::Temporal { .. } | Self::Given { .. } => self.mark_each(timeline, parts),
            Self::LeaveLastOut { .. } => {
                let of_user = positives.of_user(timeline.user).map(|n| positives.timeline(n));
                for (part, &timestamp) in parts.iter_mut().zip(timeline.timestamps) {
                    *part = of_user.map_or(Part::Train, |positives| part_at(positives, timestamp));
                }
            }
        });
    }

    /// Where the part of a row depends on the row alone.
    fn mark_each(&self, timeline: Timeline<'_>, parts: &mut [Part]) {
        for ((part, &timestamp), &item) in parts.iter_mut().zip(timeline.timestamps).zip(timeline.items) {
            *part = match *self {
                Self::Temporal { test, .. } if timestamp >= test => Part::Test,
                Self::Temporal { validation, .. } if timestamp >= validation => Part::Validation,
                Self::Given { .. } if *part == Part::Test => Part::Test,
                Self::Given { validation_share, seed }
                    if share(mixed(&[seed, u64::from(timeline.user), u64::from(item)])) < validation_share =>
                {
                    Part::Validation
                }
                _ => Part::Train,
            };
        }
    }
}

fn mark_last(parts: &mut [Part], validation: bool) {
    parts.fill(Part::Train);
    let count = parts.len();
    if count >= 2 {
        parts[count - 1] = Part::Test;
    }
    if validation && count >= 3 {
        parts[count - 2] = Part::Validation;
    }
}

/// The part of the latest of a user's positives that is not after a time.
fn part_at(positives: Timeline<'_>, timestamp: i64) -> Part {
    let known = positives.timestamps.partition_point(|&t| t <= timestamp);
    positives.parts[..known].last().copied().unwrap_or(Part::Train)
}

/// Neither part may be empty; validation may be where none was asked for.
pub(super) fn check_counts(counts: [u64; 3], split: Split, config: &SplitConfig) -> Result<(), TrainError> {
    let [train, validation, test] = counts;
    let validated = config.validation_share > 0.0;
    if train > 0 && test > 0 && (validation > 0 || !validated) {
        return Ok(());
    }
    let to_validate = if validated { format!(", {validation} to validate with") } else { String::new() };
    Err(TrainError::TooLittleData(format!(
        "the split {split:?} of {} positives has {train} to train on{to_validate} and {test} to test with, expected some of each",
        train + validation + test
    )))
}
