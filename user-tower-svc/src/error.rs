//! Why a call was not answered, by what the caller does next, and the status that tells so.

use std::time::Duration;

use pagoda_inference::InferenceError;
use pagoda_model::SpaceId;
use pagoda_server::status::{self, Violation};
use tonic::{Code, Status};

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong: every field at fault.
    #[error("{} fields are invalid", .0.len())]
    Invalid(Vec<Violation>),
    /// No model is loaded; try again.
    #[error("{0}")]
    ModelNotReady(String),
    /// The index holds no generation of any loaded model.
    #[error("the index holds no generation of a loaded model; it holds {}", named(.held))]
    SpaceNotHeld {
        /// The spaces that it does hold.
        held: Vec<SpaceId>,
    },
    /// The index does not answer; try again.
    #[error("the index does not answer: {0}")]
    IndexUnavailable(String),
    /// Too much is asked at once; try again.
    #[error("{0}")]
    Overloaded(String),
    /// The deadline passed.
    #[error("the call's deadline, or the server's limit, passed")]
    DeadlineExceeded,
    /// We are at fault.
    #[error("{0}")]
    Internal(String),
}

/// When a restart or a rollout may have moved on.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// When a queue may have emptied.
const RETRY_SOON: Duration = Duration::from_millis(100);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => status::invalid_argument(&violations),
            Error::ModelNotReady(_) => status::retryable(Code::Unavailable, message, "MODEL_NOT_READY", RETRY_AFTER),
            Error::SpaceNotHeld { held } => {
                let held = [("spaces_held", listed(&held))];
                status::with_reason(Code::FailedPrecondition, message, "SPACE_NOT_HELD", held)
            }
            Error::IndexUnavailable(_) => {
                status::retryable(Code::Unavailable, message, "INDEX_UNAVAILABLE", RETRY_AFTER)
            }
            Error::Overloaded(_) => status::retryable(Code::ResourceExhausted, message, "OVERLOADED", RETRY_SOON),
            Error::DeadlineExceeded => Self::deadline_exceeded(message),
            Error::Internal(_) => Self::internal(message),
        }
    }
}

impl From<InferenceError> for Error {
    /// Features are checked before they reach the tower, so that one it finds at fault is ours to explain.
    fn from(error: InferenceError) -> Self {
        match error {
            InferenceError::NoModel | InferenceError::NotLoaded(_) => Self::ModelNotReady(error.to_string()),
            InferenceError::Overloaded => Self::Overloaded(error.to_string()),
            InferenceError::Invalid(_) | InferenceError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
}

/// Spaces, for a person.
pub(crate) fn named(spaces: &[SpaceId]) -> String {
    if spaces.is_empty() { "none".into() } else { listed(spaces) }
}

/// Spaces, comma-separated.
pub(crate) fn listed(spaces: &[SpaceId]) -> String {
    spaces.iter().map(SpaceId::to_string).collect::<Vec<_>>().join(",")
}
