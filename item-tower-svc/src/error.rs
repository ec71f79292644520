//! What can go wrong, told apart by what the caller does next, and how each reaches the wire.

use std::time::Duration;

use pagoda_commit_log::{LogError, StoreError};
use pagoda_inference::InferenceError;
use pagoda_model::ModelVersion;
use pagoda_registry::RegistryError;
use pagoda_server::status::{Violation, invalid_argument, reason_of, retryable, with_reason};
use tonic::{Code, Status};

use crate::refresh::RefreshId;

/// When a caller should try again that met a full queue, a peer out of reach or a system without a model.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Why the item tower did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ItemTowerError {
    /// The request is wrong: every field at fault.
    #[error("invalid request: {} fields at fault", .0.len())]
    Invalid(Vec<Violation>),
    /// No model is registered, or none is loaded yet.
    #[error("no model is registered in the store yet; `pagoda train` makes one")]
    ModelNotReady,
    /// The newest registered model is refused.
    #[error("model {label} cannot be used: {why}")]
    ModelRefused {
        /// Its label in the registry.
        label: String,
        /// Why.
        why: String,
    },
    /// The index holds embeddings of a model that the registry does not have.
    #[error("the index holds a generation of model {0}, which is not registered in the store")]
    ModelNotRegistered(ModelVersion),
    /// There is no such catalog.
    #[error("{0}")]
    CatalogNotFound(String),
    /// A catalog cannot be read, or was made for another schema than the model's.
    #[error("catalog {version}: {why}")]
    CatalogRefused {
        /// Its version.
        version: u64,
        /// Why.
        why: String,
    },
    /// There is no such refresh in this process.
    #[error("refresh `{0}` is not known to this process")]
    RefreshNotFound(String),
    /// One refresh at a time.
    #[error("{} runs in this process", .0.as_ref().map_or_else(|| "another refresh".to_owned(), RefreshId::to_string))]
    RefreshRunning(Option<RefreshId>),
    /// Refreshes of two processes at once: the one that begins later goes on.
    #[error("another process refreshes at the same time: {0}")]
    RefreshedElsewhere(String),
    /// The process stops and starts no more work.
    #[error("the process is stopping")]
    Stopping,
    /// The index has nothing that could be brought up to date.
    #[error("{0}; a full refresh is needed")]
    FullRefreshNeeded(String),
    /// Somebody asked the refresh to stop.
    #[error("cancelled by request")]
    Cancelled,
    /// Too much at once: try later.
    #[error("too many calls wait for the tower")]
    Overloaded,
    /// index-svc is out of reach.
    #[error("index-svc is unavailable: {0}")]
    IndexUnavailable(String),
    /// index-svc refused; its status is passed on.
    #[error("index-svc refused: {}", .0.message())]
    Index(Box<Status>),
    /// The store is out of reach.
    #[error("the store failed: {0}")]
    Store(String),
    /// A mistake of ours, or damage.
    #[error("internal: {0}")]
    Internal(String),
}

impl ItemTowerError {
    /// Whether index-svc has said no, so that what it was asked for has certainly not been done.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Index(status) if matches!(status.code(), Code::FailedPrecondition | Code::Aborted))
    }

    /// Whether gates of index-svc have refused a generation, which an operator may publish all the same.
    pub(crate) fn is_of_gates(&self) -> bool {
        matches!(self, Self::Index(status) if reason_of(status).is_some_and(|(reason, _)| reason == "GATE_REFUSED"))
    }

    /// A refusal of the index with the generation that it is about.
    pub(crate) fn about(self, generation_id: &str) -> Self {
        match self {
            Self::Index(status) => {
                let message = format!("generation {generation_id} is stored and not published: {}", status.message());
                Self::Index(Box::new(Status::with_details(status.code(), message, status.details().to_vec().into())))
            }
            other => other,
        }
    }
}

impl From<StoreError> for ItemTowerError {
    fn from(error: StoreError) -> Self {
        Self::Store(chain(&error))
    }
}

impl From<LogError> for ItemTowerError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged { .. } | LogError::Gap { .. } | LogError::Foreign { .. } => Self::Internal(chain(&error)),
            other => Self::Store(chain(&other)),
        }
    }
}

impl From<RegistryError> for ItemTowerError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Store(error) => error.into(),
            RegistryError::Log(error) => error.into(),
            other => Self::Internal(chain(&other)),
        }
    }
}

impl From<InferenceError> for ItemTowerError {
    fn from(error: InferenceError) -> Self {
        match error {
            // A model that was replaced between two steps of a call is as good as one not loaded yet: trying again helps.
            InferenceError::NoModel | InferenceError::NotLoaded(_) => Self::ModelNotReady,
            InferenceError::Overloaded => Self::Overloaded,
            // The wire has validated every item with the model's own schema.
            InferenceError::Invalid(_) | InferenceError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<ItemTowerError> for Status {
    fn from(error: ItemTowerError) -> Self {
        use ItemTowerError as E;
        let message = error.to_string();
        let failed = |reason| with_reason(Code::FailedPrecondition, message.as_str(), reason, []);
        let later = |code, reason| retryable(code, message.as_str(), reason, RETRY_AFTER);
        match error {
            E::Invalid(violations) => invalid_argument(&violations),
            E::ModelNotReady => later(Code::Unavailable, "MODEL_NOT_READY"),
            E::ModelRefused { .. } => failed("MODEL_REFUSED"),
            E::ModelNotRegistered(_) => failed("MODEL_NOT_REGISTERED"),
            E::CatalogRefused { .. } => failed("CATALOG_REFUSED"),
            E::FullRefreshNeeded(_) => failed("FULL_REFRESH_NEEDED"),
            E::CatalogNotFound(_) => with_reason(Code::NotFound, message, "CATALOG_NOT_FOUND", []),
            E::RefreshNotFound(_) => with_reason(Code::NotFound, message, "REFRESH_NOT_FOUND", []),
            E::RefreshRunning(_) | E::RefreshedElsewhere(_) => {
                with_reason(Code::Aborted, message, "REFRESH_RUNNING", [])
            }
            E::Cancelled => with_reason(Code::Cancelled, message, "CANCELLED", []),
            E::Stopping => later(Code::Unavailable, "STOPPING"),
            E::Overloaded => later(Code::ResourceExhausted, "OVERLOADED"),
            E::IndexUnavailable(_) => later(Code::Unavailable, "INDEX_UNAVAILABLE"),
            E::Index(status) => passed_on(&status, message),
            E::Store(_) => later(Code::Unavailable, "STORE_UNAVAILABLE"),
            E::Internal(_) => with_reason(Code::Internal, message, "INTERNAL", []),
        }
    }
}

/// What index-svc says of our caller's data is passed on with its details; what it says of our own request is our mistake.
fn passed_on(status: &Status, message: String) -> Status {
    match status.code() {
        Code::InvalidArgument | Code::Internal | Code::Unimplemented => {
            with_reason(Code::Internal, message, "INTERNAL", [])
        }
        code => Status::with_details(code, message, status.details().to_vec().into()),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
