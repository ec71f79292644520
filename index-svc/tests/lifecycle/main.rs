//! The lifecycle of an index in process, on real stores: publishing and rolling back, checkpoints, gates, the local cache, memory, compaction.

#![allow(clippy::unwrap_used)]

mod building;
mod cache;
mod checkpoints;
mod compaction;
mod gates;
mod harness;
mod kept;
mod listing;
mod mapping;
mod memory;
mod publishing;
mod requests;
mod simulation;
