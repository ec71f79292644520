//! Exact evaluation over the full catalog, beside popularity, by one protocol.

mod metrics;
mod protocol;
mod ranking;
mod run;

pub(crate) use run::{Evaluation, run};
