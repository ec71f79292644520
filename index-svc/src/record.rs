//! What a log object says: a [`Commit`], as protobuf with a format version.
//!
//! The messages below are a format on disk: numbers are never reused, and what an older version wrote is read for ever.

use bytes::Bytes;
use pagoda_commit_log::Lsn;
use prost::Message;

use crate::ids::{GenerationId, ItemId, ModelVersion};

const FORMAT_VERSION: u32 = 1;

/// One entry of the log, wholly present or absent.
#[derive(Clone, Debug, PartialEq)]
pub enum Commit {
    /// Writes, in the order in which they hold.
    Writes(Vec<Write>),
    /// A generation becomes the current one of its space.
    Publish(Publication),
}

/// A batch that one caller wrote.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Items come, or come anew.
    Upsert {
        /// The model that made the embeddings.
        model: ModelVersion,
        /// The items and their embeddings.
        items: Vec<(ItemId, Vec<f32>)>,
    },
    /// Items go, in every space.
    Delete(Vec<ItemId>),
}

/// Which generation becomes current.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The generation; its id vouches for its every byte.
    pub generation: GenerationId,
    /// The model whose embeddings it holds.
    pub model: ModelVersion,
    /// Writes up to here are contained in it, later ones are laid over it.
    pub covers: Lsn,
}

/// Why a payload is no commit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not our protobuf.
    #[error("commit: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A newer program wrote it.
    #[error("commit of format version {0}, this program reads {FORMAT_VERSION}: use a newer one")]
    UnknownVersion(u32),
    /// A field is missing or holds what it must not.
    #[error("commit: {0}")]
    Invalid(String),
}

impl Commit {
    /// The commit as a log payload.
    pub fn encode(&self) -> Bytes {
        let body = match self {
            Self::Writes(writes) => disk::Body::Writes(disk::Writes { writes: writes.iter().map(to_disk).collect() }),
            Self::Publish(publication) => disk::Body::Publish(publication_to_disk(publication)),
        };
        disk::Commit { format_version: FORMAT_VERSION, body: Some(body) }.encode_to_vec().into()
    }

    /// Reads a log payload.
    pub fn decode(payload: Bytes) -> Result<Self, RecordError> {
        let commit = disk::Commit::decode(payload)?;
        if commit.format_version != FORMAT_VERSION {
            return Err(RecordError::UnknownVersion(commit.format_version));
        }
        match commit.body.ok_or_else(|| invalid("it says nothing"))? {
            disk::Body::Writes(writes) => {
                writes.writes.into_iter().map(from_disk).collect::<Result<_, _>>().map(Self::Writes)
            }
            disk::Body::Publish(publication) => publication_from_disk(publication).map(Self::Publish),
        }
    }
}

impl Write {
    /// About how many bytes it takes in a commit.
    pub fn byte_count(&self) -> usize {
        match self {
            Self::Upsert { items, .. } => {
                items.iter().map(|(id, values)| id.as_str().len() + 4 * values.len() + 12).sum()
            }
            Self::Delete(ids) => ids.iter().map(|id| id.as_str().len() + 4).sum(),
        }
    }
}

fn to_disk(write: &Write) -> disk::Write {
    let kind = match write {
        Write::Upsert { model, items } => disk::WriteKind::Upsert(disk::Upsert {
            space_id: model.space.to_string(),
            revision: model.revision,
            items: items.iter().map(|(id, values)| disk::Item { id: id.to_string(), values: values.clone() }).collect(),
        }),
        Write::Delete(ids) => {
            disk::WriteKind::Delete(disk::Delete { ids: ids.iter().map(ItemId::to_string).collect() })
        }
    };
    disk::Write { kind: Some(kind) }
}

fn from_disk(write: disk::Write) -> Result<Write, RecordError> {
    let id = |id: &str| ItemId::new(id).map_err(|e| invalid(&e.to_string()));
    match write.kind.ok_or_else(|| invalid("a write says nothing"))? {
        disk::WriteKind::Upsert(upsert) => {
            let items = upsert.items.into_iter().map(|item| Ok((id(&item.id)?, finite(item.values)?)));
            let items = items.collect::<Result<_, RecordError>>()?;
            Ok(Write::Upsert { model: model(&upsert.space_id, upsert.revision)?, items })
        }
        disk::WriteKind::Delete(delete) => {
            delete.ids.iter().map(|text| id(text)).collect::<Result<_, _>>().map(Write::Delete)
        }
    }
}

fn publication_to_disk(publication: &Publication) -> disk::Publish {
    disk::Publish {
        generation_id: publication.generation.to_string(),
        space_id: publication.model.space.to_string(),
        revision: publication.model.revision,
        covers_lsn: publication.covers.0,
    }
}

fn publication_from_disk(publish: disk::Publish) -> Result<Publication, RecordError> {
    Ok(Publication {
        generation: publish.generation_id.parse().map_err(|e| invalid(&format!("{e}")))?,
        model: model(&publish.space_id, publish.revision)?,
        covers: Lsn(publish.covers_lsn),
    })
}

fn model(space: &str, revision: u32) -> Result<ModelVersion, RecordError> {
    let space = space.parse().map_err(|e| invalid(&format!("{e}")))?;
    Ok(ModelVersion { space, revision })
}

fn finite(values: Vec<f32>) -> Result<Vec<f32>, RecordError> {
    if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(invalid("a value is not finite")) }
}

fn invalid(why: &str) -> RecordError {
    RecordError::Invalid(why.to_owned())
}

/// The protobuf messages.
#[allow(missing_docs, unreachable_pub)]
mod disk {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Commit {
        #[prost(uint32, tag = "1")]
        pub format_version: u32,
        #[prost(oneof = "Body", tags = "2, 3")]
        pub body: Option<Body>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "2")]
        Writes(Writes),
        #[prost(message, tag = "3")]
        Publish(Publish),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Writes {
        #[prost(message, repeated, tag = "1")]
        pub writes: Vec<Write>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Write {
        #[prost(oneof = "WriteKind", tags = "1, 2")]
        pub kind: Option<WriteKind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum WriteKind {
        #[prost(message, tag = "1")]
        Upsert(Upsert),
        #[prost(message, tag = "2")]
        Delete(Delete),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Upsert {
        #[prost(string, tag = "1")]
        pub space_id: String,
        #[prost(uint32, tag = "2")]
        pub revision: u32,
        #[prost(message, repeated, tag = "3")]
        pub items: Vec<Item>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Item {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(float, repeated, tag = "2")]
        pub values: Vec<f32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Delete {
        #[prost(string, repeated, tag = "1")]
        pub ids: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Publish {
        #[prost(string, tag = "1")]
        pub generation_id: String,
        #[prost(string, tag = "2")]
        pub space_id: String,
        #[prost(uint32, tag = "3")]
        pub revision: u32,
        #[prost(uint64, tag = "4")]
        pub covers_lsn: u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model() -> ModelVersion {
        ModelVersion { space: "00000000000000aa".parse().unwrap(), revision: 3 }
    }

    fn write() -> impl Strategy<Value = Write> {
        let id = || "[a-zé ]{1,20}".prop_map(|id| ItemId::new(&id).unwrap());
        prop_oneof![
            prop::collection::vec((id(), prop::collection::vec(-1.0f32..1.0, 0..9)), 0..5)
                .prop_map(|items| Write::Upsert { model: model(), items }),
            prop::collection::vec(id(), 0..5).prop_map(Write::Delete),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(writes in prop::collection::vec(write(), 0..4)) {
            let commit = Commit::Writes(writes);
            prop_assert_eq!(Commit::decode(commit.encode()), Ok(commit));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Commit::decode(bytes.into());
        }
    }

    #[test]
    fn publications_and_the_format_on_disk() {
        let generation = "00000000000000aa-3-x".parse().unwrap();
        let commit = Commit::Publish(Publication { generation, model: model(), covers: Lsn(7) });
        assert_eq!(Commit::decode(commit.encode()), Ok(commit));
        let delete = Commit::Writes(vec![Write::Delete(vec![ItemId::new("x").unwrap()])]);
        assert_eq!(&delete.encode()[..], b"\x08\x01\x12\x07\x0a\x05\x12\x03\x0a\x01x");
    }

    #[test]
    fn what_must_not_be_is_refused() {
        assert_eq!(Commit::decode(Bytes::from_static(b"\x08\x02")), Err(RecordError::UnknownVersion(2)));
        assert!(matches!(Commit::decode(Bytes::from_static(b"\x08\x01")), Err(RecordError::Invalid(_))));
        let nan = Commit::Writes(vec![Write::Upsert {
            model: model(),
            items: vec![(ItemId::new("x").unwrap(), vec![f32::NAN])],
        }]);
        assert!(matches!(Commit::decode(nan.encode()), Err(RecordError::Invalid(_))));
    }
}
