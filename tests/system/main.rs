//! The whole system, driven as its users drive it: the real programs, started on free ports, called over gRPC.
//!
//! The programs are those beside this test in the target directory: `cargo build --workspace --bins` makes them.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod failing_s3;
mod harness;
mod index_calls;
mod numbered_items;
mod ranking_server;

mod bad_input;
mod by_hand;
mod compaction;
mod compare;
mod demo;
mod disk_errors;
mod durability;
mod hanging;
mod index_faults;
mod metrics;
mod mine;
mod operate;
mod python_client;
mod recall;
mod refresh;
mod rollout;
mod settings;
mod soak;
mod status;
mod store_faults;
mod swaps;
mod training;
mod up;
