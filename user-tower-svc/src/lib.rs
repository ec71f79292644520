//! The online entrance: `Recall` and `EmbedUsers`. One forward pass of the user tower, one search, candidates.
//!
//! Knows nothing of Faiss or of how an index is kept. A request walks through `wire` (proto to domain), [`recall`]
//! (the walk itself) and `grpc` (domain to proto); beside it `follow` keeps models, users and the index's spaces up to date.

mod active;
pub mod app;
pub mod config;
mod error;
mod follow;
mod grpc;
mod index;
pub mod recall;
mod users;
mod wire;
