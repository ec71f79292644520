//! The two-tower model: schema, features, towers and the model bundle. Pure and synchronous.
//!
//! Knows nothing of tokio, gRPC, losses or training. Features are encoded here ([`features`]) and nowhere else:
//! the trainer and both tower services call the same code. In reading order: a [`Schema`] declares features, an
//! [`features::Encoder`] turns an [`Entity`] into rows of embedding [`tables`], a [`history::HistoryEncoder`] makes one vector of a
//! user's history, a [`tower::Tower`] turns the concatenated rows into an [`Embedding`], and a [`bundle::ModelBundle`] is all of that as files.

mod ids;
mod value;

mod architecture;
pub mod bundle;
pub mod dropout;
mod embedding;
mod entity;
pub mod features;
pub mod history;
pub mod initial;
mod ops;
pub mod schema;
pub mod tables;
#[cfg(test)]
mod test_gradients;
pub mod tower;
pub mod two_tower;

pub use embedding::{Embedding, NotNormalisable};
pub use entity::{Entity, Side};
pub use ids::{ID_BYTES_LIMIT, InvalidId, InvalidSpaceId, ItemId, ModelVersion, SpaceId, UserId};
pub use schema::Schema;
pub use value::{FeatureValue, RawFeatures};
