//! How much to simulate.

use std::{fs, io, ops::RangeInclusive, path::Path};

use serde::{Deserialize, Serialize};

/// Beside the tables of a generated data directory: the [`Config`] of its world.
pub const WORLD_FILE: &str = "world.toml";

const WORLD_FILE_HEADER: &str = "\
# The world that this data was generated from. It tells the truth about every preference: nothing that learns may read it.\n";

const USERS: RangeInclusive<usize> = 100..=10_000_000;
const ITEMS: RangeInclusive<usize> = 100..=10_000_000;
const IMPRESSIONS: RangeInclusive<usize> = 1000..=100_000_000;

/// How much to simulate, and from which seed. The default suits a demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[error("bad world:\n  {}", .0.join("\n  "))]
pub struct InvalidConfig(pub Vec<String>);

/// Why the world of a data directory is unknown.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableWorld {
    /// The directory was not generated, or by a version that did not say from what.
    #[error("{0}: no such file; `pagoda generate` writes it beside the tables that it makes")]
    Missing(String),
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The reason.
        source: io::Error,
    },
    /// The file says something else.
    #[error("{file}: {description}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        description: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self { users: 6000, items: 20_000, impressions: 800_000, seed: 1 }
    }
}

impl Config {
    /// Reads the [`WORLD_FILE`] of a generated data directory.
    pub fn of_directory(dir: &Path) -> Result<Self, UnreadableWorld> {
        let path = dir.join(WORLD_FILE);
        let file = path.display().to_string();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(UnreadableWorld::Missing(file)),
            Err(source) => return Err(UnreadableWorld::Io { file, source }),
        };
        let malformed = |description: String| UnreadableWorld::Malformed { file: file.clone(), description };
        let config: Self = toml::from_str(&text).map_err(|e| malformed(e.to_string().trim().to_owned()))?;
        config.validate().map_err(|e| malformed(e.to_string()))?;
        Ok(config)
    }

    /// The content of the [`WORLD_FILE`].
    pub(crate) fn to_toml(self) -> String {
        let Self { users, items, impressions, seed } = self;
        format!("{WORLD_FILE_HEADER}users = {users}\nitems = {items}\nimpressions = {impressions}\nseed = {seed}\n")
    }

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
    fn a_world_file_reads_what_it_writes() {
        let config = Config { users: 500, items: 600, impressions: 7000, seed: 8 };
        assert_eq!(toml::from_str(&config.to_toml()), Ok(config));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let config = Config { users: 99, items: 0, impressions: 1000, seed: 0 };
        let InvalidConfig(faults) = config.validate().unwrap_err();
        assert_eq!(faults, ["users: expected 100 to 10000000, found 99", "items: expected 100 to 10000000, found 0"]);
        assert_eq!(Config::default().validate(), Ok(()));
    }
}
