//! The service's typed settings; `config.toml` beside the sources has every key with its default and its comment.

use pagoda_inference::TowerLimits;
use pagoda_server::config::{Drain, Faults, Limits, Listen, Log, Peers, Sections, ServiceConfig, Store};
use serde::{Deserialize, Serialize};

/// All settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Where the artefacts are.
    pub store: Store,
    /// Who is asked.
    pub peers: Peers,
    /// How much it takes.
    pub limits: Limits,
    /// How it leaves.
    pub drain: Drain,
    /// What it says.
    pub log: Log,
    /// The rpc `Recall`.
    pub recall: Recall,
    /// The user tower.
    pub tower: Tower,
    /// How artefacts are followed.
    pub registry: Registry,
    /// How the index is asked.
    pub index: Index,
}

/// `[recall]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recall {
    /// The largest k.
    pub k_limit: u32,
}

/// `[tower]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tower {
    /// Calls that wait for the tower.
    pub queue_capacity: usize,
    /// Users that share one forward pass.
    pub batch_max: usize,
    /// Threads that run forward passes.
    pub threads: usize,
}

/// `[registry]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// How often newer artefacts are looked for.
    pub poll_ms: u64,
    /// How many of the newest models are held.
    pub models_max: usize,
}

/// `[index]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// How often the index is asked for its spaces.
    pub poll_ms: u64,
    /// How long a connection may take to come about.
    pub connect_timeout_ms: u64,
}

impl From<&Tower> for TowerLimits {
    fn from(tower: &Tower) -> Self {
        Self { queue_capacity: tower.queue_capacity, batch_max: tower.batch_max, threads: tower.threads }
    }
}

impl ServiceConfig for Config {
    const DEFAULTS: &'static str = include_str!("../config.toml");

    fn sections(&self) -> Sections<'_> {
        Sections { listen: &self.listen, limits: &self.limits, drain: &self.drain, log: &self.log }
    }

    fn validate(&self, faults: &mut Faults) {
        self.store.validate(faults);
        self.peers.validate(faults);
        faults.check_range("recall.k_limit", self.recall.k_limit.into(), 1..=100_000);
        faults.check_range("tower.queue_capacity", self.tower.queue_capacity as u64, 1..=100_000);
        faults.check_range("tower.batch_max", self.tower.batch_max as u64, 1..=4096);
        faults.check_range("tower.threads", self.tower.threads as u64, 1..=1024);
        faults.check_range("registry.poll_ms", self.registry.poll_ms, 10..=3_600_000);
        faults.check_range("registry.models_max", self.registry.models_max as u64, 1..=16);
        faults.check_range("index.poll_ms", self.index.poll_ms, 10..=3_600_000);
        faults.check_range("index.connect_timeout_ms", self.index.connect_timeout_ms, 10..=60_000);
    }
}

#[cfg(test)]
mod tests {
    use pagoda_server::{ServerArgs, config};

    use super::*;

    #[test]
    fn the_defaults_are_valid_and_complete() {
        let config: Config = config::load(&ServerArgs::default()).unwrap();
        assert_eq!((config.recall.k_limit, config.registry.models_max), (1000, 2));
    }

    #[test]
    fn faults_of_own_sections_are_named() {
        let set = vec!["recall.k_limit=0".into(), "peers.index=index:7103".into()];
        let error = config::load::<Config>(&ServerArgs { set, ..ServerArgs::default() }).unwrap_err().to_string();
        assert!(error.contains("recall.k_limit") && error.contains("peers.index"), "{error}");
    }
}
