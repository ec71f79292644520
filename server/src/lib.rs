//! How each of our processes is a gRPC server: command line, config, logs, metrics, the layer stack, health, drain.
//!
//! Knows nothing of users, items or vectors. A service brings its typed config ([`config::ServiceConfig`]) and its generated
//! gRPC services, and [`process::main`] does the rest.

pub mod cli;
pub mod config;
mod connections;
mod descriptors;
pub mod metrics_endpoint;
pub mod process;
pub mod readiness;
pub mod serve;
pub mod shutdown;
pub mod stack;
pub mod status;
pub mod telemetry;

pub use crate::{cli::ServerArgs, process::Process, readiness::Readiness, serve::GrpcServer, stack::Deadline};
