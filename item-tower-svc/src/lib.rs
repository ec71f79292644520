//! item-tower-svc: the batch side that keeps the index's embeddings equal to the catalog.
//!
//! Reading order: [`app`] puts the parts together; `grpc` answers each rpc as wire, work, wire; [`refresh`] is the long-running
//! operation, which runs as an rpc and as a [`job`] alike. Knows nothing of Faiss, and of the index only its contract.

pub mod app;
pub mod attributes;
pub mod catalog;
pub mod config;
pub mod error;
mod grpc;
pub mod index_client;
pub mod job;
pub mod models;
pub mod refresh;
mod wire;

pub use error::ItemTowerError;
