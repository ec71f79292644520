//! When the log takes place. All times are seconds since the Unix epoch.

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The log begins on 1 January 2025.
pub(crate) const LOG_START: i64 = 1_735_689_600;
/// It goes on for sixty days.
pub(crate) const LOG_SPAN: i64 = 60 * DAY;
/// Nothing is shown from here on.
pub(crate) const LOG_END: i64 = LOG_START + LOG_SPAN;

/// How much of the log has passed, 0 at its start, 1 at its end.
pub(crate) fn log_share(time: i64) -> f64 {
    (time - LOG_START) as f64 / LOG_SPAN as f64
}
