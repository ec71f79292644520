//! The vector index: embeddings in, nearest ids out.
//!
//! Its state is a fold over a log of commits ([`state`]); an index at a position of its log is an immutable [`snapshot`]; a
//! write is acknowledged when its commit is durable and visible. Knows nothing of features or of how embeddings are made.

pub mod app;
pub mod attributes;
mod background;
pub mod build;
pub mod builder;
mod caller;
mod checkpointer;
pub mod collector;
pub mod committer;
pub mod compaction;
pub mod config;
pub mod current;
pub mod delta;
pub mod error;
pub mod failpoint;
mod figures;
pub mod filter;
mod gates;
pub mod generation;
pub mod grpc;
pub mod ids;
pub mod item;
pub mod listing;
mod local_state;
pub mod memory;
pub mod publisher;
pub mod record;
pub mod replica;
pub mod request_id;
pub mod search;
pub mod snapshot;
pub mod state;
pub mod troubles;
mod wire;
