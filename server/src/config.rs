//! Typed settings: the embedded defaults, then a file, then the environment, then `--set`; unknown keys refused.

mod known;
mod load;
mod redact;
mod sections;
mod sources;
mod values;

pub use load::{ConfigError, changed, load, redacted, stray_variables};
pub use sections::{Drain, Faults, Limits, Listen, Log, LogFormat, Peers, Store};

use serde::{Serialize, de::DeserializeOwned};

/// The settings of one service. Every key has its default, and its comment, in [`Self::DEFAULTS`].
pub trait ServiceConfig: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The service's embedded `config.toml`: every key with its default.
    const DEFAULTS: &'static str;

    /// The sections that the server itself obeys.
    fn sections(&self) -> Sections<'_>;

    /// Notes every fault of the service's own sections; those of [`Self::sections`] are checked already.
    fn validate(&self, faults: &mut Faults);
}

/// The sections that the server itself obeys.
#[derive(Clone, Copy, Debug)]
pub struct Sections<'a> {
    /// Where it listens.
    pub listen: &'a Listen,
    /// How much it takes.
    pub limits: &'a Limits,
    /// How it leaves.
    pub drain: &'a Drain,
    /// What it says.
    pub log: &'a Log,
}

impl Sections<'_> {
    fn validate(&self, faults: &mut Faults) {
        self.listen.validate(faults);
        self.limits.validate(faults);
        self.drain.validate(faults);
        self.log.validate(faults);
    }
}
