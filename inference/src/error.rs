//! Why entities were not embedded, by what the caller does next.

use pagoda_model::{ModelVersion, bundle::EmbedError, features::InvalidFeatures};

/// Why entities were not embedded.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// No model is loaded yet.
    #[error("no model is loaded yet")]
    NoModel,
    /// Another model was asked for than those that are loaded.
    #[error("model {0} is not loaded")]
    NotLoaded(ModelVersion),
    /// The queue is full.
    #[error("too many calls wait for the tower")]
    Overloaded,
    /// Some entities are at fault: each by its position, with all its faults.
    #[error("{} entities have invalid features", .0.len())]
    Invalid(Vec<(usize, InvalidFeatures)>),
    /// The tower is at fault.
    #[error("the tower failed: {0}")]
    Internal(String),
}

impl From<EmbedError> for InferenceError {
    fn from(error: EmbedError) -> Self {
        match error {
            EmbedError::Invalid(faults) => Self::Invalid(faults),
            EmbedError::Internal(why) => Self::Internal(why),
        }
    }
}
