//! How long the run is, and what is drawn in it.

use std::{env, fmt, fs, path::PathBuf, str::FromStr, time::Duration};

/// Without a word: short enough to be one test among many.
const SECONDS: u64 = 3;
/// A round's writers stop after so long, and all that was acknowledged is looked for.
const ROUND_S: u64 = 10;
const ROUNDS_MIN: u64 = 2;
const SEED: u64 = 1;

/// `PAGODA_SOAK_...` of the environment.
pub(super) struct Settings {
    /// How long faults go on, in seconds; the checks come on top.
    seconds: u64,
    pub(super) seed: u64,
    /// Another build of index-svc.
    pub(super) upgrade_to: Option<PathBuf>,
}

impl Settings {
    pub(super) fn read() -> Self {
        Self {
            seconds: seconds().unwrap_or(SECONDS),
            seed: number("PAGODA_SOAK_SEED").unwrap_or(SEED),
            upgrade_to: env::var_os("PAGODA_SOAK_UPGRADE_TO").map(|path| fs::canonicalize(path).unwrap()),
        }
    }

    pub(super) fn rounds(&self) -> u64 {
        (self.seconds / ROUND_S).max(ROUNDS_MIN)
    }

    /// The length of a round.
    pub(super) fn round(&self) -> Duration {
        Duration::from_secs(self.seconds) / self.rounds() as u32
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PAGODA_SOAK_SEED={} PAGODA_SOAK_SECONDS={}", self.seed, self.seconds)
    }
}

/// How long a long run is wanted, if one is.
pub(crate) fn seconds() -> Option<u64> {
    number("PAGODA_SOAK_SECONDS")
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    env::var(variable)
        .ok()
        .map(|value| value.parse().ok().unwrap_or_else(|| panic!("{variable}={value}: not a number")))
}
