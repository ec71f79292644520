//! item-tower-svc over real gRPC, against an index of a few lines that keeps the contract.

#![allow(clippy::unwrap_used)]

#[path = "../../../model/fixtures/hand_written_bundle.rs"]
mod bundle;
mod calls;
mod index;
mod refresh;
mod service;
mod starts;
