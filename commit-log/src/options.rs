//! How long a log waits for its store, and how its waits grow.

use std::time::Duration;

use tokio::time::Instant;

/// How a log deals with a store that fails. Nothing here decides who committed what: that never depends on a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How long a call that meets failures is tried again before the failure is handed on; zero tries once. An append to a bucket that is silent ends
    /// within it as well: a request for a slot may take half of it, besides what its bytes take, and what the first try took counts.
    pub retry_budget: Duration,
    /// The pause before the first retry; each later one is twice as long.
    pub shortest_pause: Duration,
    /// The longest pause between two tries.
    pub longest_pause: Duration,
    /// The most objects read, or replaced, at once; from 1.
    pub objects_at_once: usize,
    /// Where put ids come from: `None` draws them at random, a seed makes them repeatable, for simulations alone. Two logs of one
    /// seed must never share a store.
    pub seed: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            retry_budget: Duration::from_secs(20),
            shortest_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
            objects_at_once: 32,
            seed: None,
        }
    }
}

/// What is left of a call's retry budget. It starts with the first failure.
#[derive(Debug)]
pub(crate) struct Retries {
    budget: Duration,
    ends: Option<Instant>,
    pause: Duration,
    longest_pause: Duration,
}

impl Retries {
    pub(crate) fn new(options: &LogOptions) -> Self {
        let LogOptions { retry_budget, shortest_pause, longest_pause, .. } = *options;
        Self { budget: retry_budget, ends: None, pause: shortest_pause, longest_pause }
    }

    /// With the usual pauses.
    pub(crate) fn within(budget: Duration) -> Self {
        Self::new(&LogOptions { retry_budget: budget, ..LogOptions::default() })
    }

    /// Pauses before another try, or says at once that the budget is spent.
    pub(crate) async fn another(&mut self) -> bool {
        self.another_after(Duration::ZERO).await
    }

    /// As [`Retries::another`], where the try that failed had been failing for so long already.
    pub(crate) async fn another_after(&mut self, failing: Duration) -> bool {
        let now = Instant::now();
        let ends = *self.ends.get_or_insert(now + self.budget.saturating_sub(failing));
        if now + self.pause > ends {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.longest_pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_end_within_their_budget() {
        let options = LogOptions { retry_budget: Duration::from_secs(3), ..LogOptions::default() };
        let began = Instant::now();
        let mut retries = Retries::new(&options);
        let mut tries = 0;
        while retries.another().await {
            tries += 1;
        }
        assert!(tries > 5, "{tries}");
        assert!(began.elapsed() <= options.retry_budget && began.elapsed() >= options.retry_budget / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_budget_means_one_try() {
        let options = LogOptions { retry_budget: Duration::ZERO, ..LogOptions::default() };
        assert!(!Retries::new(&options).another().await);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_against_the_budget_and_other_work_does_not() {
        let budget = Duration::from_secs(3);
        tokio::time::sleep(budget * 2).await;
        assert!(Retries::within(budget).another().await);
        assert!(Retries::within(budget).another_after(budget / 2).await);
        assert!(!Retries::within(budget).another_after(budget).await);
    }
}
