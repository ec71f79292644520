//! The vector index: embeddings in, nearest ids out.
//!
//! Its state is a fold over a log of commits ([`state`]); an index at a position of its log is an immutable [`snapshot`]; a
//! write is acknowledged when its commit is durable and visible. Knows nothing of features or of how embeddings are made.

pub mod app;
pub mod build;
pub mod committer;
pub mod config;
pub mod delta;
pub mod error;
pub mod generation;
pub mod grpc;
pub mod ids;
pub mod record;
pub mod replica;
pub mod search;
pub mod snapshot;
pub mod state;
mod wire;
