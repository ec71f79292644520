//! The sections that all services share, and what is a fault in them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[listen]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The address of the gRPC server; port 0 takes a free one.
    pub address: String,
    /// The address of the Prometheus endpoint; empty: none.
    pub metrics_address: String,
}

/// `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls of one gRPC service that are worked on at once; further ones are shed.
    pub concurrency: usize,
    /// The largest message taken, in bytes.
    pub message_bytes_max: usize,
    /// The deadline of a call that brings none.
    pub deadline_ms_default: u64,
    /// The longest deadline of a call; a longer one is shortened to it.
    pub deadline_ms_max: u64,
    /// The deadline, default and longest, of the few rpcs that are long by nature.
    pub deadline_ms_long: u64,
}

/// `[drain]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// How long calls may go on after the signal to stop.
    pub grace_ms: u64,
}

/// `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines are written, in the syntax of tracing's `EnvFilter`, e.g. `info,h2=warn`.
    pub filter: String,
    /// A name that each line begins with (in JSON: its field `service`), for processes that share a terminal; empty: none.
    pub name: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[store]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// A directory, `file://...`, `s3://bucket/prefix` (credentials from the AWS_* environment) or `memory://`.
    pub url: String,
}

/// `[peers]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    /// Where index-svc answers, as `http://host:port`.
    pub index: String,
}

/// What is wrong with the settings, all of it.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes that `key` is wrong unless `holds`; `expected` says what was expected and found.
    pub fn check(&mut self, holds: bool, key: &str, expected: impl FnOnce() -> String) {
        if !holds {
            self.0.push(format!("{key}: {}", expected()));
        }
    }

    /// Notes that `key` is wrong unless `value` is within the bounds, both included.
    pub fn check_range(&mut self, key: &str, value: u64, bounds: std::ops::RangeInclusive<u64>) {
        let (low, high) = (bounds.start(), bounds.end());
        self.check(bounds.contains(&value), key, || format!("expected {low} to {high}, found {value}"));
    }

    /// The faults in the order in which they were noted.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

const HOUR_MS: u64 = 3_600_000;

impl Listen {
    pub(super) fn validate(&self, faults: &mut Faults) {
        check_address(faults, "listen.address", &self.address);
        if !self.metrics_address.is_empty() {
            check_address(faults, "listen.metrics_address", &self.metrics_address);
        }
    }
}

impl Limits {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.check_range("limits.concurrency", self.concurrency as u64, 1..=100_000);
        faults.check_range("limits.message_bytes_max", self.message_bytes_max as u64, 1024..=1 << 30);
        faults.check_range("limits.deadline_ms_max", self.deadline_ms_max, 1..=HOUR_MS);
        faults.check_range("limits.deadline_ms_default", self.deadline_ms_default, 1..=self.deadline_ms_max);
        faults.check_range("limits.deadline_ms_long", self.deadline_ms_long, self.deadline_ms_max..=24 * HOUR_MS);
    }
}

impl Drain {
    pub(super) fn validate(&self, faults: &mut Faults) {
        faults.check_range("drain.grace_ms", self.grace_ms, 0..=HOUR_MS);
    }
}

impl Log {
    pub(super) fn validate(&self, faults: &mut Faults) {
        let parsed = tracing_subscriber::EnvFilter::try_new(&self.filter);
        faults.check(parsed.is_ok(), "log.filter", || {
            format!("expected a filter such as `info,h2=warn`, found `{}`", self.filter)
        });
        faults.check(!self.name.contains(char::is_control), "log.name", || {
            "expected a name without control characters".into()
        });
    }
}

impl Store {
    /// Notes what is wrong; to be called from the service's `validate`.
    pub fn validate(&self, faults: &mut Faults) {
        faults.check(!self.url.trim().is_empty(), "store.url", || {
            "expected a directory, `file://...`, `s3://bucket/prefix` or `memory://`, found nothing".into()
        });
    }
}

impl Peers {
    /// Notes what is wrong; to be called from the service's `validate`.
    pub fn validate(&self, faults: &mut Faults) {
        let valid =
            self.index.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        faults.check(valid, "peers.index", || format!("expected `http://host:port`, found `{}`", self.index));
    }
}

fn check_address(faults: &mut Faults, key: &str, address: &str) {
    faults.check(address.parse::<SocketAddr>().is_ok(), key, || {
        format!("expected an IP address and port such as `127.0.0.1:7101`, found `{address}`")
    });
}
