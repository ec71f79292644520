//! Commits as protobuf. The messages are a format on disk: numbers are never reused, and what an older version wrote is read for ever.

use std::sync::Arc;

use bytes::Bytes;
use pagoda_commit_log::Lsn;
use prost::Message;

use super::{
    Batch, Commit, Expected, FORMAT_VERSION, Publication, RETAINED_COUNT_OF_OLD, RecordError, Rollback, Write,
};
use crate::{
    ids::{ItemId, ModelVersion},
    item::{Attributes, Item, Value},
    request_id::RequestId,
};

pub(super) fn encode(commit: &Commit) -> Bytes {
    let body = match commit {
        Commit::Writes(batches) => Body::Writes(Writes { writes: batches.iter().map(batch_to_disk).collect() }),
        Commit::Publish(publication) => Body::Publish(publication_to_disk(publication)),
        Commit::Rollback(rollback) => Body::Rollback(rollback_to_disk(rollback)),
    };
    DiskCommit { format_version: version_of(commit), body: Some(body) }.encode_to_vec().into()
}

pub(super) fn decode(payload: Bytes) -> Result<Commit, RecordError> {
    let commit = DiskCommit::decode(payload)?;
    if !(1..=FORMAT_VERSION).contains(&commit.format_version) {
        return Err(RecordError::UnknownVersion(commit.format_version));
    }
    match commit.body.ok_or_else(|| invalid("it says nothing"))? {
        Body::Writes(writes) => {
            writes.writes.into_iter().map(batch_from_disk).collect::<Result<_, _>>().map(Commit::Writes)
        }
        Body::Publish(publish) => publication_from_disk(publish).map(Commit::Publish),
        Body::Rollback(rollback) => rollback_from_disk(rollback).map(Commit::Rollback),
    }
}

/// The oldest format whose readers understand a commit in full: a condition must not be read past.
fn version_of(commit: &Commit) -> u32 {
    let is_plain = match commit {
        Commit::Writes(batches) => batches.iter().all(|batch| batch.request_id.is_none()),
        Commit::Publish(p) => p.expected == Expected::Any && p.publishable_until.is_none(),
        Commit::Rollback(_) => false,
    };
    if is_plain { 1 } else { FORMAT_VERSION }
}

fn batch_to_disk(batch: &Batch) -> DiskWrite {
    let kind = match &batch.write {
        Write::Upsert { model, items } => WriteKind::Upsert(Upsert {
            space_id: model.space.to_string(),
            revision: model.revision,
            items: items.iter().map(item_to_disk).collect(),
        }),
        Write::Delete(ids) => WriteKind::Delete(Delete { ids: ids.iter().map(ItemId::to_string).collect() }),
    };
    DiskWrite { kind: Some(kind), request_id: batch.request_id.as_ref().map(RequestId::to_string).unwrap_or_default() }
}

fn batch_from_disk(write: DiskWrite) -> Result<Batch, RecordError> {
    let id = |id: &str| ItemId::new(id).map_err(|e| invalid(&e.to_string()));
    let request_id = match write.request_id.as_str() {
        "" => None,
        name => Some(name.parse::<RequestId>().map_err(|e| invalid(&e.to_string()))?),
    };
    let write = match write.kind.ok_or_else(|| invalid("a write says nothing"))? {
        WriteKind::Upsert(upsert) => {
            let items = upsert.items.into_iter().map(item_from_disk).collect::<Result<_, _>>()?;
            Write::Upsert { model: model(&upsert.space_id, upsert.revision)?, items }
        }
        WriteKind::Delete(delete) => Write::Delete(delete.ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?),
    };
    Ok(Batch { request_id, write })
}

pub(crate) fn item_to_disk(item: &Item) -> DiskItem {
    let attributes = item.attributes.iter().map(|(name, value)| DiskAttribute {
        name: name.to_string(),
        value: Some(match value {
            Value::Texts(texts) => DiskValue::Texts(Texts { texts: texts.iter().map(ToString::to_string).collect() }),
            Value::Integer(integer) => DiskValue::Integer(*integer),
            Value::Number(number) => DiskValue::Number(*number),
        }),
    });
    DiskItem { id: item.id.to_string(), values: item.embedding.clone(), attributes: attributes.collect() }
}

pub(crate) fn item_from_disk(item: DiskItem) -> Result<Item, RecordError> {
    let id = ItemId::new(&item.id).map_err(|e| invalid(&e.to_string()))?;
    let attributes = item.attributes.into_iter().map(attribute_from_disk).collect::<Result<Attributes, _>>()?;
    Ok(Item { id, embedding: finite(item.values)?, attributes })
}

fn attribute_from_disk(attribute: DiskAttribute) -> Result<(Arc<str>, Value), RecordError> {
    let value = match attribute.value.ok_or_else(|| invalid("an attribute has no value"))? {
        DiskValue::Texts(texts) => Value::Texts(texts.texts.into_iter().map(Into::into).collect()),
        DiskValue::Integer(integer) => Value::Integer(integer),
        DiskValue::Number(number) if number.is_finite() => Value::Number(number),
        DiskValue::Number(_) => return Err(invalid("an attribute is not finite")),
    };
    Ok((attribute.name.into(), value))
}

fn publication_to_disk(publication: &Publication) -> Publish {
    Publish {
        generation_id: publication.generation.to_string(),
        space_id: publication.model.space.to_string(),
        revision: publication.model.revision,
        covers_lsn: publication.covers.0,
        embedding_dim: publication.embedding_dim as u32,
        expected_generation_id: expected_to_disk(&publication.expected),
        publishable_until_lsn: publication.publishable_until.map(|lsn| lsn.0),
        retained_count: Some(publication.retained_count as u32),
        compacted: publication.compacted,
        forced_by: publication.forced_by.clone().unwrap_or_default(),
    }
}

fn publication_from_disk(publish: Publish) -> Result<Publication, RecordError> {
    Ok(Publication {
        generation: publish.generation_id.parse().map_err(|e| invalid(&format!("{e}")))?,
        model: model(&publish.space_id, publish.revision)?,
        covers: Lsn(publish.covers_lsn),
        embedding_dim: publish.embedding_dim as usize,
        expected: expected_from_disk(publish.expected_generation_id)?,
        publishable_until: publish.publishable_until_lsn.map(Lsn),
        retained_count: publish.retained_count.map_or(RETAINED_COUNT_OF_OLD, |count| count as usize),
        compacted: publish.compacted,
        forced_by: (!publish.forced_by.is_empty()).then_some(publish.forced_by),
    })
}

fn rollback_to_disk(rollback: &Rollback) -> DiskRollback {
    DiskRollback {
        space_id: rollback.space.to_string(),
        generation_id: rollback.generation.to_string(),
        expected_generation_id: expected_to_disk(&rollback.expected),
    }
}

fn rollback_from_disk(rollback: DiskRollback) -> Result<Rollback, RecordError> {
    Ok(Rollback {
        space: rollback.space_id.parse().map_err(|e| invalid(&format!("{e}")))?,
        generation: rollback.generation_id.parse().map_err(|e| invalid(&format!("{e}")))?,
        expected: expected_from_disk(rollback.expected_generation_id)?,
    })
}

fn expected_to_disk(expected: &Expected) -> Option<String> {
    match expected {
        Expected::Any => None,
        Expected::Nothing => Some(String::new()),
        Expected::Generation(id) => Some(id.to_string()),
    }
}

fn expected_from_disk(expected: Option<String>) -> Result<Expected, RecordError> {
    match expected.as_deref() {
        None => Ok(Expected::Any),
        Some("") => Ok(Expected::Nothing),
        Some(id) => id.parse().map(Expected::Generation).map_err(|e| invalid(&format!("{e}"))),
    }
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

#[derive(Clone, PartialEq, prost::Message)]
struct DiskCommit {
    #[prost(uint32, tag = "1")]
    format_version: u32,
    #[prost(oneof = "Body", tags = "2, 3, 4")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Body {
    #[prost(message, tag = "2")]
    Writes(Writes),
    #[prost(message, tag = "3")]
    Publish(Publish),
    #[prost(message, tag = "4")]
    Rollback(DiskRollback),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Writes {
    #[prost(message, repeated, tag = "1")]
    writes: Vec<DiskWrite>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiskWrite {
    #[prost(oneof = "WriteKind", tags = "1, 2")]
    kind: Option<WriteKind>,
    #[prost(string, tag = "3")]
    request_id: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WriteKind {
    #[prost(message, tag = "1")]
    Upsert(Upsert),
    #[prost(message, tag = "2")]
    Delete(Delete),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Upsert {
    #[prost(string, tag = "1")]
    space_id: String,
    #[prost(uint32, tag = "2")]
    revision: u32,
    #[prost(message, repeated, tag = "3")]
    items: Vec<DiskItem>,
}

/// An item, in commits and in checkpoints.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DiskItem {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(float, repeated, tag = "2")]
    values: Vec<f32>,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<DiskAttribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiskAttribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "DiskValue", tags = "2, 3, 4")]
    value: Option<DiskValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum DiskValue {
    #[prost(message, tag = "2")]
    Texts(Texts),
    #[prost(sint64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Number(f64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Delete {
    #[prost(string, repeated, tag = "1")]
    ids: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Publish {
    #[prost(string, tag = "1")]
    generation_id: String,
    #[prost(string, tag = "2")]
    space_id: String,
    #[prost(uint32, tag = "3")]
    revision: u32,
    #[prost(uint64, tag = "4")]
    covers_lsn: u64,
    #[prost(uint32, tag = "5")]
    embedding_dim: u32,
    #[prost(string, optional, tag = "6")]
    expected_generation_id: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    publishable_until_lsn: Option<u64>,
    #[prost(uint32, optional, tag = "8")]
    retained_count: Option<u32>,
    #[prost(bool, tag = "9")]
    compacted: bool,
    #[prost(string, tag = "10")]
    forced_by: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DiskRollback {
    #[prost(string, tag = "1")]
    space_id: String,
    #[prost(string, tag = "2")]
    generation_id: String,
    #[prost(string, optional, tag = "3")]
    expected_generation_id: Option<String>,
}
