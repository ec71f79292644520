//! The settings of index-svc: `config.toml`, typed.

use pagoda_server::config::{Drain, Faults, Limits, Listen, Log, Sections, ServiceConfig, Store};
use serde::{Deserialize, Serialize};

/// All settings. What each means stands in `config.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    pub listen: Listen,
    pub store: Store,
    pub limits: Limits,
    pub drain: Drain,
    pub log: Log,
    pub index: Index,
    pub search: Search,
    pub write: Write,
    pub build: Build,
}

/// `[index]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Index {
    pub name: String,
    pub poll_ms: u64,
}

/// `[search]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Search {
    pub k_limit: usize,
    pub threads: usize,
}

/// `[write]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Write {
    pub queue_capacity: usize,
    pub group_writes_max: usize,
    pub group_bytes_max: usize,
    pub delta_items_max: usize,
}

/// `[build]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Build {
    pub threads: usize,
    pub values_max: u64,
    pub recall_at_100_target: f64,
    pub recall_at_100_min: f64,
}

impl ServiceConfig for Config {
    const DEFAULTS: &'static str = include_str!("../config.toml");

    fn sections(&self) -> Sections<'_> {
        Sections { listen: &self.listen, limits: &self.limits, drain: &self.drain, log: &self.log }
    }

    fn validate(&self, faults: &mut Faults) {
        self.store.validate(faults);
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let named = (1..=64).contains(&self.index.name.len()) && self.index.name.bytes().all(is_word);
        faults.check(named, "index.name", || {
            format!("expected 1 to 64 of a-z, 0-9, - and _, found `{}`", self.index.name)
        });
        faults.check_range("index.poll_ms", self.index.poll_ms, 10..=3_600_000);
        faults.check_range("search.k_limit", self.search.k_limit as u64, 1..=100_000);
        faults.check_range("search.threads", self.search.threads as u64, 0..=1024);
        faults.check_range("write.queue_capacity", self.write.queue_capacity as u64, 1..=100_000);
        faults.check_range("write.group_writes_max", self.write.group_writes_max as u64, 1..=10_000);
        faults.check_range("write.group_bytes_max", self.write.group_bytes_max as u64, 1024..=1 << 30);
        faults.check_range("write.delta_items_max", self.write.delta_items_max as u64, 1..=100_000_000);
        faults.check_range("build.threads", self.build.threads as u64, 0..=1024);
        faults.check_range("build.values_max", self.build.values_max, 1..=1 << 40);
        check_share(faults, "build.recall_at_100_target", self.build.recall_at_100_target);
        check_share(faults, "build.recall_at_100_min", self.build.recall_at_100_min);
    }
}

/// As many as are wanted, or, for 0, as there are cores.
pub(crate) fn or_cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

fn check_share(faults: &mut Faults, key: &str, share: f64) {
    faults.check((0.0..=1.0).contains(&share), key, || format!("expected 0 to 1, found {share}"));
}
