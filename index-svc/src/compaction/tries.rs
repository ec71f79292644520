//! [`Tries`]: what came of the compactions that were tried, and when each is tried again.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{error::IndexError, ids::GenerationId};

/// How long it is before the first try after one that failed; twice as long before each further one,
const PAUSE_LEAST: Duration = Duration::from_secs(5);
/// up to this: a build takes minutes of processor time.
const PAUSE_MOST: Duration = Duration::from_secs(600);

/// What was tried with generations that are due still.
#[derive(Default)]
pub(super) struct Tries(HashMap<GenerationId, Try>);

#[derive(Default)]
struct Try {
    /// What it was compacted to, where that is built and could not be published yet.
    built: Option<GenerationId>,
    failures: u32,
    next: Next,
}

#[derive(Default)]
enum Next {
    #[default]
    Now,
    At(Instant),
    Never,
}

impl Tries {
    /// Forgets what is no longer due.
    pub(super) fn retain(&mut self, is_due: impl Fn(&GenerationId) -> bool) {
        self.0.retain(|base, _| is_due(base));
    }

    /// Whether a generation may be tried now.
    pub(super) fn may_try(&self, base: &GenerationId) -> bool {
        self.0.get(base).is_none_or(|tried| match tried.next {
            Next::Now => true,
            Next::At(next) => Instant::now() >= next,
            Next::Never => false,
        })
    }

    /// What it was compacted to, and is to be published.
    pub(super) fn built(&self, base: &GenerationId) -> Option<GenerationId> {
        self.0.get(base)?.built.clone()
    }

    /// Notes what a generation was compacted to.
    pub(super) fn note_built(&mut self, base: &GenerationId, built: GenerationId) {
        self.0.entry(base.clone()).or_default().built = Some(built);
    }

    /// Notes a failure; whether it is the first.
    pub(super) fn note_failure(&mut self, base: &GenerationId, error: &IndexError) -> bool {
        let tried = self.0.entry(base.clone()).or_default();
        tried.next = match error {
            // It would be the same again.
            IndexError::GateRefused(_) => Next::Never,
            _ => Next::At(Instant::now() + PAUSE_MOST.min(PAUSE_LEAST * 2_u32.saturating_pow(tried.failures))),
        };
        // Anything else says nothing against what was built.
        if matches!(
            error,
            IndexError::NotPublishable(_) | IndexError::GenerationNotFound(_) | IndexError::Damaged { .. }
        ) {
            tried.built = None;
        }
        tried.failures += 1;
        tried.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> GenerationId {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_less_and_less_often_and_what_gates_refused_never() {
        let (base, other, built) = (id("00000000000000aa-0-1"), id("00000000000000aa-0-2"), id("00000000000000aa-0-3"));
        let mut tries = Tries::default();
        let began = Instant::now();
        let mut at = Vec::new();
        tries.note_built(&base, built.clone());
        for failure in 0..12 {
            assert!(tries.may_try(&base));
            let error = IndexError::DoesNotFit { bytes: 2, free: 1, total: 1 };
            assert_eq!(tries.note_failure(&base, &error), failure == 0);
            assert!(!tries.may_try(&base) && tries.may_try(&other));
            while !tries.may_try(&base) {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            at.push(began.elapsed().as_secs());
        }
        assert_eq!(at[..4], [5, 15, 35, 75]);
        assert_eq!(at[11] - at[10], 600);
        assert_eq!(tries.built(&base), Some(built), "it is published once there is room");

        tries.note_failure(&base, &IndexError::NotPublishable(String::new()));
        assert_eq!(tries.built(&base), None);
        tries.note_failure(&base, &IndexError::GateRefused(Vec::new()));
        tokio::time::advance(PAUSE_MOST * 2).await;
        assert!(!tries.may_try(&base));
        tries.retain(|due| *due != base);
        assert!(tries.may_try(&base));
    }
}
