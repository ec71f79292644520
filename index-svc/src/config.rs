//! The settings of index-svc: `config.toml`, typed.

use pagoda_server::config::{Drain, Faults, Limits, Listen, Log, Sections, ServiceConfig, Store};
use serde::{Deserialize, Serialize};

/// The most shards of a generation.
const SHARDS_LIMIT: u32 = 1024;

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
    pub generations: Generations,
    pub checkpoint: Checkpoint,
    pub cache: Cache,
    pub memory: Memory,
    pub search: Search,
    pub write: Write,
    pub build: Build,
    pub compaction: Compaction,
}

/// `[index]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Index {
    pub name: String,
    pub poll_ms: u64,
    pub roles: Vec<Role>,
    pub shards: Vec<u32>,
}

/// What a process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holds generations and answers searches.
    Search,
    /// Takes writes, publications and rollbacks.
    Write,
    /// Builds generations and compacts.
    Build,
}

/// `[generations]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Generations {
    pub retained_max: usize,
    pub orphan_age_commits: u64,
}

/// `[checkpoint]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Checkpoint {
    pub commits: u64,
    pub bytes: u64,
    pub commits_kept: u64,
}

/// `[cache]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Cache {
    pub directory: String,
    pub bytes_max: u64,
}

/// `[memory]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Memory {
    pub bytes_max: u64,
    pub share: f64,
    pub map_files: bool,
}

/// `[search]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Search {
    pub k_limit: usize,
    pub threads: usize,
    pub live_recall_share: f64,
    pub live_recall_core_share: f64,
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
    pub nice: u8,
    pub shard_count: u32,
    pub values_max: u64,
    pub recall_at_100_target: f64,
    pub recall_at_500_target: f64,
    pub recall_at_100_min: f64,
    pub recall_at_500_min: f64,
    pub item_count_ratio_min: f64,
    pub mean_cosine_max: f64,
}

/// `[compaction]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Compaction {
    pub delta_items: usize,
    pub delta_share: f64,
}

impl Index {
    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Search => "search",
            Self::Write => "write",
            Self::Build => "build",
        })
    }
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
        self.validate_index(faults);
        self.validate_lifecycle(faults);
        self.validate_build(faults);
    }
}

impl Config {
    fn validate_index(&self, faults: &mut Faults) {
        let Index { roles, shards, .. } = &self.index;
        faults.check(!roles.is_empty(), "index.roles", || "expected at least one of search, write and build".into());
        let outside = shards.iter().find(|shard| **shard >= SHARDS_LIMIT);
        faults.check(outside.is_none(), "index.shards", || format!("expected numbers below {SHARDS_LIMIT}"));
        let built = self.build.shard_count;
        let never = shards.iter().find(|shard| outside.is_none() && self.index.has(Role::Build) && **shard >= built);
        faults.check(never.is_none(), "index.shards", || {
            let shard = never.copied().unwrap_or_default();
            format!("expected numbers below build.shard_count, {built}, found {shard}: no generation built here has it")
        });
    }

    fn validate_lifecycle(&self, faults: &mut Faults) {
        faults.check_range("generations.retained_max", self.generations.retained_max as u64, 0..=100);
        faults.check_range("generations.orphan_age_commits", self.generations.orphan_age_commits, 2..=1 << 40);
        faults.check_range("checkpoint.commits", self.checkpoint.commits, 1..=1 << 40);
        faults.check_range("checkpoint.bytes", self.checkpoint.bytes, 1..=1 << 40);
        faults.check_range("checkpoint.commits_kept", self.checkpoint.commits_kept, 0..=1 << 40);
        faults.check_range("cache.bytes_max", self.cache.bytes_max, 1..=1 << 60);
        check_share(faults, "memory.share", self.memory.share);
        check_share(faults, "compaction.delta_share", self.compaction.delta_share);
    }

    fn validate_build(&self, faults: &mut Faults) {
        faults.check_range("build.threads", self.build.threads as u64, 0..=1024);
        faults.check_range("build.nice", self.build.nice.into(), 0..=19);
        faults.check_range("build.shard_count", self.build.shard_count.into(), 1..=SHARDS_LIMIT.into());
        faults.check_range("build.values_max", self.build.values_max, 1..=1 << 40);
        check_share(faults, "search.live_recall_share", self.search.live_recall_share);
        check_share(faults, "search.live_recall_core_share", self.search.live_recall_core_share);
        check_share(faults, "build.recall_at_100_target", self.build.recall_at_100_target);
        check_share(faults, "build.recall_at_500_target", self.build.recall_at_500_target);
        check_share(faults, "build.recall_at_100_min", self.build.recall_at_100_min);
        check_share(faults, "build.recall_at_500_min", self.build.recall_at_500_min);
        check_share(faults, "build.item_count_ratio_min", self.build.item_count_ratio_min);
        check_share(faults, "build.mean_cosine_max", self.build.mean_cosine_max);
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
