//! The settings of item-tower-svc: `config.toml`, typed.

use pagoda_server::config::{Drain, Faults, Limits, Listen, Log, Peers, Sections, ServiceConfig, Store};
use serde::{Deserialize, Serialize};

use crate::index_client::UPSERT_ITEMS_MAX;

/// All settings. What each means stands in `config.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    pub listen: Listen,
    pub store: Store,
    pub peers: Peers,
    pub limits: Limits,
    pub drain: Drain,
    pub log: Log,
    pub models: Models,
    pub tower: Tower,
    pub refresh: Refresh,
}

/// `[models]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Models {
    pub poll_ms: u64,
    pub loaded_max: usize,
}

/// `[tower]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Tower {
    pub queue_capacity: usize,
    pub batch_max: usize,
    pub threads: usize,
}

/// `[refresh]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Refresh {
    pub batch_size: usize,
    pub threads: usize,
}

impl ServiceConfig for Config {
    const DEFAULTS: &'static str = include_str!("../config.toml");

    fn sections(&self) -> Sections<'_> {
        Sections { listen: &self.listen, limits: &self.limits, drain: &self.drain, log: &self.log }
    }

    fn validate(&self, faults: &mut Faults) {
        self.store.validate(faults);
        self.peers.validate(faults);
        faults.check_range("models.poll_ms", self.models.poll_ms, 10..=3_600_000);
        faults.check_range("models.loaded_max", self.models.loaded_max as u64, 1..=16);
        faults.check_range("tower.queue_capacity", self.tower.queue_capacity as u64, 1..=100_000);
        faults.check_range("tower.batch_max", self.tower.batch_max as u64, 1..=65_536);
        faults.check_range("tower.threads", self.tower.threads as u64, 1..=1024);
        faults.check_range("refresh.batch_size", self.refresh.batch_size as u64, 1..=UPSERT_ITEMS_MAX as u64);
        faults.check_range("refresh.threads", self.refresh.threads as u64, 0..=1024);
    }
}
