//! The two-tower model: schema, features, towers and the model bundle. Pure and synchronous.
//!
//! Knows nothing of tokio, gRPC, losses or training. Features are encoded here ([`features`]) and nowhere else:
//! the trainer and both tower services call the same code.

mod ids;
pub mod schema;
mod value;

pub use ids::{ID_BYTES_LIMIT, InvalidId, InvalidSpaceId, ItemId, ModelVersion, SpaceId, UserId};
pub use schema::Schema;
pub use value::{FeatureValue, RawFeatures};
