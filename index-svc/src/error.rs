//! What can go wrong, told apart by what the caller does next, and how each reaches the wire.

use std::{sync::Arc, time::Duration};

use pagoda_ann::AnnError;
use pagoda_commit_log::{LogError, Lsn, StoreError};
use pagoda_server::status::{Violation, invalid_argument, retryable, with_reason};
use tonic::{Code, Status};

use crate::{
    config::Role,
    generation::GateFailure,
    ids::{GenerationId, SpaceId},
    state::Void,
};

/// When a caller should try again that met a full queue or a store out of reach.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How a person makes room.
const MORE_MEMORY: &str = "raise memory.bytes_max (0: memory.share of what this process may have)";

/// Why the index did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IndexError {
    /// The request is wrong: every field at fault.
    #[error("invalid request: {} fields at fault", .0.len())]
    Invalid(Vec<Violation>),
    /// The space is not held: the caller's model and the index are of different rollouts.
    #[error("space {wanted} is not held, held are: {}", named(held))]
    SpaceNotHeld {
        /// The space of the request.
        wanted: SpaceId,
        /// The spaces held.
        held: Vec<SpaceId>,
    },
    /// A generation is not good enough to be published: every gate that says so.
    #[error("{}", gates(.0))]
    GateRefused(Vec<GateFailure>),
    /// Another generation is current than the one that the caller expected.
    #[error("{}", superseded(.current))]
    Superseded {
        /// The generation that is current, and since which position; none: the space is not held.
        current: Option<(GenerationId, Lsn)>,
    },
    /// A generation can no longer be published, or rolled back to.
    #[error("{0}")]
    NotPublishable(String),
    /// A generation does not fit into memory beside what is there.
    #[error("the generation needs {bytes} bytes of memory, {free} of {total} are free: {MORE_MEMORY}")]
    DoesNotFit {
        /// The bytes it needs.
        bytes: u64,
        /// The bytes that are free.
        free: u64,
        /// The bytes that all generations and builds may take.
        total: u64,
    },
    /// A build does not fit into memory beside what is there.
    #[error(
        "the build needs up to {bytes} bytes of memory, {free} of {total} are free, nothing was built: {MORE_MEMORY}"
    )]
    BuildDoesNotFit {
        /// The bytes it needs at its peak.
        bytes: u64,
        /// The bytes that are free.
        free: u64,
        /// The bytes that all generations and builds may take.
        total: u64,
    },
    /// A generation has fewer shards than the settings name.
    #[error(
        "index.shards names shard {shard}, and the generation has {shard_count}, numbered from 0: they are fixed when it is built (build.shard_count)"
    )]
    NoSuchShard {
        /// The shard named.
        shard: u32,
        /// How many there are.
        shard_count: u32,
    },
    /// This process does not do that.
    #[error("this process has not the role `{0}` (index.roles)")]
    Role(Role),
    /// A position was not visible in time.
    #[error("position {wanted} is not visible yet, {reached} is")]
    NotReached {
        /// The position wanted.
        wanted: Lsn,
        /// The position that is visible.
        reached: Lsn,
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
    /// The store has not been reached since the start.
    #[error("the store is away since the start of this process")]
    StoreAway,
    /// What was read is not what was written.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The caller waits no longer.
    #[error("the deadline passed while it was searched")]
    DeadlineExceeded,
    /// A mistake of ours.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<LogError> for IndexError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged { .. }
            | LogError::Gap { .. }
            | LogError::Foreign { .. }
            | LogError::NoCheckpoint { .. } => Self::Damaged { what: "the commit log".into(), why: chain(&error) },
            other => Self::Store(Arc::new(other)),
        }
    }
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        LogError::from(error).into()
    }
}

impl From<Void> for IndexError {
    fn from(void: Void) -> Self {
        match void {
            Void::AnotherIsCurrent(current) => Self::Superseded { current },
            Void::CoversTooLittle(floor) => Self::NotPublishable(format!(
                "writes up to position {floor} are no longer known one by one, and the generation does not cover them: build it anew"
            )),
            Void::NotRetained => Self::NotPublishable("the generation is not among those retained".into()),
            Void::TooOld(until) => Self::NotPublishable(format!(
                "the generation could be published up to position {until}, later on its objects may be collected: build it anew"
            )),
        }
    }
}

impl From<AnnError> for IndexError {
    fn from(error: AnnError) -> Self {
        match error {
            AnnError::Cancelled => Self::DeadlineExceeded,
            other => Self::Internal(other.to_string()),
        }
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
            IndexError::GateRefused(failures) => {
                with_reason(Code::FailedPrecondition, message, "GATE_REFUSED", numbers_of(&failures))
            }
            IndexError::Superseded { current } => {
                let (generation, lsn) =
                    current.map_or_else(Default::default, |(id, lsn)| (id.to_string(), lsn.to_string()));
                with_reason(Code::Aborted, message, "SUPERSEDED", [("generation_id", generation), ("lsn", lsn)])
            }
            IndexError::NotPublishable(_) => with_reason(Code::FailedPrecondition, message, "NOT_PUBLISHABLE", []),
            IndexError::DoesNotFit { bytes, free, .. } => {
                let numbers = [("bytes", bytes.to_string()), ("free_bytes", free.to_string())];
                let message = format!("{message}; what is current stays");
                with_reason(Code::FailedPrecondition, message, "DOES_NOT_FIT", numbers)
            }
            IndexError::NoSuchShard { shard, shard_count } => {
                let numbers = [("shard", shard.to_string()), ("shard_count", shard_count.to_string())];
                with_reason(Code::FailedPrecondition, message, "NO_SUCH_SHARD", numbers)
            }
            IndexError::BuildDoesNotFit { bytes, free, .. } => {
                let numbers = [("bytes", bytes.to_string()), ("free_bytes", free.to_string())];
                with_reason(Code::ResourceExhausted, message, "BUILD_DOES_NOT_FIT", numbers)
            }
            IndexError::Role(role) => {
                with_reason(Code::FailedPrecondition, message, "ROLE", [("role", role.to_string())])
            }
            IndexError::NotReached { reached, .. } => {
                with_reason(Code::Unavailable, message, "NOT_REACHED", [("lsn", reached.to_string())])
            }
            IndexError::GenerationNotFound(id) => {
                with_reason(Code::NotFound, message, "GENERATION_NOT_FOUND", [("generation_id", id.to_string())])
            }
            IndexError::Overloaded(_) => retryable(Code::ResourceExhausted, message, "OVERLOADED", RETRY_AFTER),
            IndexError::Store(source) if is_full(&source) => {
                with_reason(Code::ResourceExhausted, message, "STORE_FULL", [])
            }
            IndexError::Store(_) | IndexError::StoreAway => {
                retryable(Code::Unavailable, message, "STORE_UNAVAILABLE", RETRY_AFTER)
            }
            IndexError::Damaged { .. } => with_reason(Code::DataLoss, message, "DAMAGED", []),
            IndexError::DeadlineExceeded => with_reason(Code::DeadlineExceeded, message, "DEADLINE_EXCEEDED", []),
            IndexError::Internal(_) => with_reason(Code::Internal, message, "INTERNAL", []),
        }
    }
}

impl IndexError {
    /// Whether the store, or what lies in it, is at fault.
    pub(crate) fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(_) | Self::StoreAway | Self::Damaged { .. })
    }
}

fn gates(failures: &[GateFailure]) -> String {
    let one = |failure: &GateFailure| {
        format!("gate {} refused the generation: expected {}, found {}", failure.gate, failure.expected, failure.found)
    };
    failures.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The first failure by itself, and all of them by their gates.
fn numbers_of(failures: &[GateFailure]) -> Vec<(&'static str, String)> {
    let gates: Vec<_> = failures.iter().map(|failure| failure.gate.as_str()).collect();
    let mut numbers = vec![("gates", gates.join(","))];
    if let Some(first) = failures.first() {
        let GateFailure { gate, expected, found } = first.clone();
        numbers.extend([("gate", gate), ("expected", expected), ("found", found)]);
    }
    numbers
}

fn superseded(current: &Option<(GenerationId, Lsn)>) -> String {
    match current {
        Some((generation, lsn)) => {
            format!("generation {generation} has been current since position {lsn}, another than was expected")
        }
        None => "the space is not held, though one of its generations was expected to be current".into(),
    }
}

fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Store(StoreError::Full { .. }))
}

fn named(spaces: &[SpaceId]) -> String {
    if spaces.is_empty() { "none".into() } else { join(spaces) }
}

fn join(spaces: &[SpaceId]) -> String {
    spaces.iter().map(SpaceId::to_string).collect::<Vec<_>>().join(",")
}

/// An error and its causes, each said once: some say themselves what caused them.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |e| e.source()).map(ToString::to_string);
    causes.fold(error.to_string(), |said, cause| if said.contains(&cause) { said } else { format!("{said}: {cause}") })
}
