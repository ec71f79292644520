//! How much to simulate.

use std::ops::RangeInclusive;

const USERS: RangeInclusive<usize> = 100..=10_000_000;
const ITEMS: RangeInclusive<usize> = 100..=10_000_000;
const IMPRESSIONS: RangeInclusive<usize> = 1000..=100_000_000;

/// How much to simulate, and from which seed. The default suits a demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many users, 100 to 10,000,000.
    pub users: usize,
    /// How many items are born before the log ends, 100 to 10,000,000.
    pub items: usize,
    /// How many items are shown, clicked or not, 1000 to 100,000,000; as many rows are in the log.
    pub impressions: usize,
    /// The same seed gives the same bytes.
    pub seed: u64,
}

/// What is wrong with a configuration: every fault at once, each naming its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct InvalidConfig(pub Vec<String>);

impl Default for Config {
    fn default() -> Self {
        Self { users: 6000, items: 20_000, impressions: 800_000, seed: 1 }
    }
}

impl Config {
    /// Reports every fault at once.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let keys = [
            ("users", self.users, USERS),
            ("items", self.items, ITEMS),
            ("impressions", self.impressions, IMPRESSIONS),
        ];
        let faults = keys.into_iter().filter(|(_, found, allowed)| !allowed.contains(found));
        let faults: Vec<String> = faults
            .map(|(key, found, allowed)| {
                format!("{key}: expected {} to {}, found {found}", allowed.start(), allowed.end())
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(InvalidConfig(faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_at_once() {
        let config = Config { users: 99, items: 0, impressions: 1000, seed: 0 };
        let InvalidConfig(faults) = config.validate().unwrap_err();
        assert_eq!(faults, ["users: expected 100 to 10000000, found 99", "items: expected 100 to 10000000, found 0"]);
        assert_eq!(Config::default().validate(), Ok(()));
    }
}
