//! [`Stop`]: when long work is to end early.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use crate::AnnError;

/// Rows scored between two looks at the clock: a fraction of a millisecond.
pub(crate) const CHECK_ROWS: usize = 8192;

/// A deadline, a flag that somebody raises, both or neither.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop<'a> {
    /// Not beyond this moment.
    pub deadline: Option<Instant>,
    /// Not once this is true.
    pub cancelled: Option<&'a AtomicBool>,
}

impl Stop<'_> {
    /// Never.
    pub const NEVER: Stop<'static> = Stop { deadline: None, cancelled: None };

    /// [`AnnError::Cancelled`] once it is time.
    pub fn check(&self) -> Result<(), AnnError> {
        let cancelled = self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed));
        let late = || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if cancelled || late() { Err(AnnError::Cancelled) } else { Ok(()) }
    }
}
