//! Logs of ratings: which of them are positives is known when the highest is.

use std::collections::BTreeMap;

use super::{
    ImportOptions,
    builder::{LogBuilder, NewRow},
};
use crate::{bad_rows::shown, write::LogTable};

const VIEW: u8 = 0;
const LIKE: u8 = 1;

/// Ratings as they are read.
#[derive(Default)]
pub(super) struct Ratings {
    log: LogBuilder,
    ratings: Vec<f64>,
}

/// The fields of a rating, as text.
pub(super) struct RatingFields<'a> {
    pub(super) user: &'a str,
    pub(super) item: &'a str,
    pub(super) rating: &'a str,
    pub(super) timestamp: i64,
}

/// Ratings as events: `like` from the threshold on, `view` below it.
pub(super) struct Rated {
    pub(super) log: LogTable,
    /// What the events weigh.
    pub(super) weights: BTreeMap<String, f32>,
    pub(super) threshold: f64,
    /// Which rows are positives, as messages say it.
    pub(super) positive_rule: String,
}

impl Ratings {
    pub(super) fn push(&mut self, fields: &RatingFields<'_>) -> Result<(), String> {
        let rating: f64 = fields
            .rating
            .trim()
            .parse()
            .ok()
            .filter(|r: &f64| (0.0..=1e6).contains(r))
            .ok_or_else(|| format!("rating: expected a number from 0, found {}", shown(fields.rating)))?;
        let RatingFields { user, item, timestamp, .. } = *fields;
        self.log.push(&NewRow { user, item, timestamp: Some(timestamp), event: VIEW, test: false })?;
        self.ratings.push(rating);
        Ok(())
    }

    pub(super) fn history_length(&self) -> usize {
        self.log.history_length()
    }

    pub(super) fn rated(self, options: &ImportOptions) -> Rated {
        let highest = self.ratings.iter().copied().fold(0.0, f64::max);
        let threshold = options.positive_rating.unwrap_or(0.7 * highest);
        let mut log = self.log.finish(vec!["view".to_owned(), "like".to_owned()]);
        for (row, rating) in log.rows.iter_mut().zip(self.ratings) {
            row.event = if rating >= threshold { LIKE } else { VIEW };
        }
        let weights = [("view".to_owned(), 0.0), ("like".to_owned(), 1.0)].into();
        let positive_rule = format!("ratings from {threshold} on are positives, the highest is {highest}");
        Rated { log, weights, threshold, positive_rule }
    }
}
