//! The whole fold as one payload, as protobuf with a format version: numbers are never reused. Equal states are equal bytes.

use bytes::Bytes;
use pagoda_commit_log::Lsn;
use prost::Message;

use super::{LastWrite, Published, SpaceState, State};
use crate::{
    ids::{ItemId, ModelVersion},
    record::{DiskItem, item_from_disk, item_to_disk},
    request_id::Applied,
};

const FORMAT_VERSION: u32 = 1;

/// Why a payload is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not our protobuf.
    #[error("checkpoint: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A newer program wrote it.
    #[error("checkpoint of format version {0}, this program reads {FORMAT_VERSION}: use a newer one")]
    UnknownVersion(u32),
    /// A field holds what it must not.
    #[error("checkpoint: {0}")]
    Invalid(String),
}

impl State {
    /// The state as the payload of a checkpoint at its position.
    pub fn encode(&self) -> Bytes {
        let mut tombstones: Vec<_> =
            self.tombstones.iter().map(|(id, lsn)| Positioned { name: id.to_string(), lsn: lsn.0 }).collect();
        tombstones.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let applied = self.applied.iter().map(|(id, lsn)| Positioned { name: id.to_string(), lsn: lsn.0 });
        let dropped = self.dropped.iter().map(|(space, lsn)| Positioned { name: space.to_string(), lsn: lsn.0 });
        let checkpoint = Checkpoint {
            format_version: FORMAT_VERSION,
            lsn: self.lsn.0,
            tombstones,
            applied: applied.collect(),
            spaces: self.spaces.iter().map(space_to_disk).collect(),
            dropped: dropped.collect(),
        };
        checkpoint.encode_to_vec().into()
    }

    /// Reads the payload of a checkpoint.
    pub fn decode(payload: Bytes) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::decode(payload)?;
        if checkpoint.format_version != FORMAT_VERSION {
            return Err(CheckpointError::UnknownVersion(checkpoint.format_version));
        }
        let mut state = Self { lsn: Lsn(checkpoint.lsn), ..Self::default() };
        for Positioned { name, lsn } in checkpoint.tombstones {
            state.tombstones.insert(ItemId::new(&name).map_err(invalid)?, Lsn(lsn));
        }
        state.applied = applied_from_disk(checkpoint.applied)?;
        state.spaces = checkpoint.spaces.into_iter().map(space_from_disk).collect::<Result<_, _>>()?;
        for Positioned { name, lsn } in checkpoint.dropped {
            state.dropped.insert(name.parse().map_err(invalid)?, Lsn(lsn));
        }
        Ok(state)
    }
}

fn applied_from_disk(names: Vec<Positioned>) -> Result<Applied, CheckpointError> {
    let mut applied = Applied::default();
    for Positioned { name, lsn } in names {
        applied.remember(name.parse().map_err(invalid)?, Lsn(lsn));
    }
    Ok(applied)
}

fn space_to_disk(space: &SpaceState) -> DiskSpace {
    let mut history: Vec<_> = space.history.iter().collect();
    history.sort_unstable_by(|a, b| a.0.cmp(b.0));
    let history = history.into_iter().map(|(id, write)| DiskWrite {
        lsn: write.lsn.0,
        last: Some(
            write.item.as_ref().map_or_else(|| Last::Deleted(id.to_string()), |item| Last::Item(item_to_disk(item))),
        ),
    });
    DiskSpace {
        space_id: space.space.to_string(),
        embedding_dim: space.embedding_dim as u32,
        floor: space.floor.0,
        generations: space.generations.iter().map(published_to_disk).collect(),
        history: history.collect(),
    }
}

fn space_from_disk(disk: DiskSpace) -> Result<SpaceState, CheckpointError> {
    let history = disk.history.into_iter().map(|write| {
        let lsn = Lsn(write.lsn);
        match write.last.ok_or_else(|| invalid("a write says nothing"))? {
            Last::Deleted(id) => Ok((ItemId::new(&id).map_err(invalid)?, LastWrite { lsn, item: None })),
            Last::Item(item) => {
                let item = item_from_disk(item).map_err(invalid)?;
                Ok((item.id.clone(), LastWrite { lsn, item: Some(item.into()) }))
            }
        }
    });
    let generations: Vec<_> = disk.generations.into_iter().map(published_from_disk).collect::<Result<_, _>>()?;
    if generations.is_empty() {
        return Err(invalid("a space without a generation"));
    }
    let mut space = SpaceState {
        space: disk.space_id.parse().map_err(invalid)?,
        embedding_dim: disk.embedding_dim as usize,
        generations,
        floor: Lsn(disk.floor),
        history: history.collect::<Result<_, CheckpointError>>()?,
        fresh_count: 0,
    };
    space.count_fresh();
    Ok(space)
}

fn published_to_disk(published: &Published) -> DiskPublished {
    DiskPublished {
        generation_id: published.generation.to_string(),
        space_id: published.model.space.to_string(),
        revision: published.model.revision,
        covers_lsn: published.covers.0,
        published_lsn: published.published.0,
        current_since_lsn: published.current_since.0,
        forced_by: published.forced_by.clone().unwrap_or_default(),
        compacted_from: published.compacted_from.iter().map(ToString::to_string).collect(),
        known_from_lsn: published.known_from.0,
    }
}

fn published_from_disk(disk: DiskPublished) -> Result<Published, CheckpointError> {
    let ancestors = disk.compacted_from.iter().map(|id| id.parse().map_err(invalid));
    Ok(Published {
        generation: disk.generation_id.parse().map_err(invalid)?,
        model: ModelVersion { space: disk.space_id.parse().map_err(invalid)?, revision: disk.revision },
        covers: Lsn(disk.covers_lsn),
        known_from: Lsn(disk.known_from_lsn),
        published: Lsn(disk.published_lsn),
        current_since: Lsn(disk.current_since_lsn),
        forced_by: (!disk.forced_by.is_empty()).then_some(disk.forced_by),
        compacted_from: ancestors.collect::<Result<_, _>>()?,
    })
}

fn invalid(why: impl ToString) -> CheckpointError {
    CheckpointError::Invalid(why.to_string())
}

#[derive(Clone, PartialEq, prost::Message)]
struct Checkpoint {
    #[prost(uint32, tag = "1")]
    format_version: u32,
    #[prost(uint64, tag = "2")]
    lsn: u64,
    #[prost(message, repeated, tag = "3")]
    tombstones: Vec<Positioned>,
    #[prost(message, repeated, tag = "4")]
    applied: Vec<Positioned>,
    #[prost(message, repeated, tag = "5")]
    spaces: Vec<DiskSpace>,
    #[prost(message, repeated, tag = "6")]
    dropped: Vec<Positioned>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Positioned {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    lsn: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiskSpace {
    #[prost(string, tag = "1")]
    space_id: String,
    #[prost(uint32, tag = "2")]
    embedding_dim: u32,
    #[prost(uint64, tag = "3")]
    floor: u64,
    #[prost(message, repeated, tag = "4")]
    generations: Vec<DiskPublished>,
    #[prost(message, repeated, tag = "5")]
    history: Vec<DiskWrite>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiskPublished {
    #[prost(string, tag = "1")]
    generation_id: String,
    #[prost(string, tag = "2")]
    space_id: String,
    #[prost(uint32, tag = "3")]
    revision: u32,
    #[prost(uint64, tag = "4")]
    covers_lsn: u64,
    #[prost(uint64, tag = "5")]
    published_lsn: u64,
    #[prost(uint64, tag = "6")]
    current_since_lsn: u64,
    #[prost(string, tag = "7")]
    forced_by: String,
    #[prost(string, repeated, tag = "8")]
    compacted_from: Vec<String>,
    #[prost(uint64, tag = "9")]
    known_from_lsn: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiskWrite {
    #[prost(uint64, tag = "1")]
    lsn: u64,
    #[prost(oneof = "Last", tags = "2, 3")]
    last: Option<Last>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Last {
    #[prost(message, tag = "2")]
    Item(DiskItem),
    #[prost(string, tag = "3")]
    Deleted(String),
}
