//! What a log object says: a [`Commit`]. How it looks on disk stands in `disk`.

mod disk;

use bytes::Bytes;
use pagoda_commit_log::Lsn;

pub(crate) use self::disk::{DiskItem, item_from_disk, item_to_disk};
use crate::{
    ids::{GenerationId, ItemId, ModelVersion, SpaceId},
    item::Item,
    request_id::RequestId,
};

/// The newest format that this program reads; what needs no more is written as the first one.
const FORMAT_VERSION: u32 = 2;

/// One entry of the log, wholly present or absent.
#[derive(Clone, Debug, PartialEq)]
pub enum Commit {
    /// Writes, in the order in which they hold.
    Writes(Vec<Batch>),
    /// A generation becomes the current one of its space.
    Publish(Publication),
    /// A generation that was current before becomes so again.
    Rollback(Rollback),
}

/// What one call wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The caller's name for it: a second batch of the same name changes nothing.
    pub request_id: Option<RequestId>,
    /// What it writes.
    pub write: Write,
}

/// A write of one caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Items come, or come anew.
    Upsert {
        /// The model that made the embeddings.
        model: ModelVersion,
        /// The items.
        items: Vec<Item>,
    },
    /// Items go, in every space.
    Delete(Vec<ItemId>),
}

/// Which generation becomes current, and under which conditions. If they do not hold at its place in the log, it is void.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The generation; its id vouches for its every byte.
    pub generation: GenerationId,
    /// The model whose embeddings it holds.
    pub model: ModelVersion,
    /// Writes up to here are contained in it, later ones are laid over it.
    pub covers: Lsn,
    /// The values of an embedding; 0: not said, as older versions did not.
    pub embedding_dim: usize,
    /// The generation that has to be current in the space.
    pub expected: Expected,
    /// The last position at which a generation may be published that the space does not retain: its objects may be collected later on.
    pub publishable_until: Option<Lsn>,
    /// How many older generations the space retains from here on.
    pub retained_count: usize,
    /// Whether it is the expected generation with the writes since, and not a new catalog.
    pub compacted: bool,
    /// The operator who published it although a gate had refused it.
    pub forced_by: Option<String>,
}

/// Which generation becomes current again, if the space still retains it, and which one has to be current before.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    /// The space.
    pub space: SpaceId,
    /// The generation that becomes current.
    pub generation: GenerationId,
    /// The generation that has to be current.
    pub expected: Expected,
}

/// A condition on the current generation of a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// No condition.
    #[default]
    Any,
    /// The space must not be held.
    Nothing,
    /// This one, or one that was compacted from it.
    Generation(GenerationId),
}

/// Why a payload is no commit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not our protobuf.
    #[error("commit: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A newer program wrote it.
    #[error("commit of format version {0}, this program reads up to {FORMAT_VERSION}: use a newer one")]
    UnknownVersion(u32),
    /// A field is missing or holds what it must not.
    #[error("commit: {0}")]
    Invalid(String),
}

impl Commit {
    /// The commit as a log payload.
    pub fn encode(&self) -> Bytes {
        disk::encode(self)
    }

    /// Reads a log payload.
    pub fn decode(payload: Bytes) -> Result<Self, RecordError> {
        disk::decode(payload)
    }
}

impl Batch {
    /// A batch without a name.
    pub fn unnamed(write: Write) -> Self {
        Self { request_id: None, write }
    }

    /// About how many bytes it takes in a commit.
    pub fn byte_count(&self) -> usize {
        self.write.byte_count() + self.request_id.as_ref().map_or(0, |id| id.as_str().len())
    }
}

impl Write {
    /// About how many bytes it takes in a commit.
    pub fn byte_count(&self) -> usize {
        match self {
            Self::Upsert { items, .. } => items.iter().map(Item::byte_count).sum(),
            Self::Delete(ids) => ids.iter().map(|id| id.as_str().len() + 4).sum(),
        }
    }
}

impl Publication {
    /// A publication without conditions, as older versions made them.
    pub fn unconditional(generation: GenerationId, model: ModelVersion, covers: Lsn) -> Self {
        Self {
            generation,
            model,
            covers,
            embedding_dim: 0,
            expected: Expected::Any,
            publishable_until: None,
            retained_count: RETAINED_COUNT_OF_OLD,
            compacted: false,
            forced_by: None,
        }
    }
}

/// What a publication that does not say so retains.
pub(crate) const RETAINED_COUNT_OF_OLD: usize = 2;

#[cfg(test)]
mod tests;
