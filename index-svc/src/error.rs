//! What can go wrong, told apart by what the caller does next, and how each reaches the wire.

use std::{sync::Arc, time::Duration};

use pagoda_ann::AnnError;
use pagoda_commit_log::{LogError, StoreError};
use pagoda_server::status::{Violation, invalid_argument, retryable, with_reason};
use tonic::{Code, Status};

use crate::ids::{GenerationId, SpaceId};

/// When a caller should try again that met a full queue or a store out of reach.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why the index did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IndexError {
    /// The request is wrong: every field at fault.
    #[error("invalid request: {} fields at fault", .0.len())]
    Invalid(Vec<Violation>),
    /// The space is not held: the caller's model and the index are of different rollouts.
    #[error("space {wanted} is not held, held are [{}]", join(held))]
    SpaceNotHeld {
        /// The space of the request.
        wanted: SpaceId,
        /// The spaces held.
        held: Vec<SpaceId>,
    },
    /// A generation is not good enough to be published.
    #[error("gate {gate} refused the generation: expected {expected}, found {found}")]
    GateRefused {
        /// Which gate.
        gate: &'static str,
        /// What it wants.
        expected: String,
        /// What it saw.
        found: String,
    },
    /// There is no such generation.
    #[error("generation `{0}` was not found")]
    GenerationNotFound(GenerationId),
    /// Too much at once: nothing was written, try later.
    #[error("{0}")]
    Overloaded(&'static str),
    /// The store is out of reach. The write may yet be found in the log.
    #[error("the store failed: {}", chain(.0))]
    Store(Arc<LogError>),
    /// What was read is not what was written.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A mistake of ours.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<LogError> for IndexError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged { .. } | LogError::Gap { .. } | LogError::Foreign { .. } => {
                Self::Damaged { what: "the commit log".into(), why: chain(&error) }
            }
            other => Self::Store(Arc::new(other)),
        }
    }
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        LogError::from(error).into()
    }
}

impl From<AnnError> for IndexError {
    fn from(error: AnnError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<IndexError> for Status {
    fn from(error: IndexError) -> Self {
        let message = error.to_string();
        match error {
            IndexError::Invalid(violations) => invalid_argument(&violations),
            IndexError::SpaceNotHeld { held, .. } => {
                with_reason(Code::FailedPrecondition, message, "SPACE_NOT_HELD", [("spaces_held", join(&held))])
            }
            IndexError::GateRefused { gate, expected, found } => {
                let numbers = [("gate", gate.to_owned()), ("expected", expected), ("found", found)];
                with_reason(Code::FailedPrecondition, message, "GATE_REFUSED", numbers)
            }
            IndexError::GenerationNotFound(id) => {
                with_reason(Code::NotFound, message, "GENERATION_NOT_FOUND", [("generation_id", id.to_string())])
            }
            IndexError::Overloaded(_) => retryable(Code::ResourceExhausted, message, "OVERLOADED", RETRY_AFTER),
            IndexError::Store(source) if is_full(&source) => {
                with_reason(Code::ResourceExhausted, message, "STORE_FULL", [])
            }
            IndexError::Store(_) => retryable(Code::Unavailable, message, "STORE_UNAVAILABLE", RETRY_AFTER),
            IndexError::Damaged { .. } => with_reason(Code::DataLoss, message, "DAMAGED", []),
            IndexError::Internal(_) => with_reason(Code::Internal, message, "INTERNAL", []),
        }
    }
}

fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Store(StoreError::Full { .. }))
}

fn join(spaces: &[SpaceId]) -> String {
    spaces.iter().map(SpaceId::to_string).collect::<Vec<_>>().join(",")
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
