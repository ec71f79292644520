//! index-svc as this service sees it: status, builds, publications, writes. The other edge where proto types end.

use std::time::Duration;

use futures::{Stream, StreamExt, TryFutureExt, future::try_join};
use pagoda_commit_log::Lsn;
use pagoda_model::{Embedding, ModelVersion, SpaceId};
use pagoda_proto::index::v1::{
    self as proto, build_generation_request::Message, index_service_client::IndexServiceClient,
};
use pagoda_server::config::Limits;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    attributes::{Attribute, Declared},
    error::ItemTowerError,
    wire,
};

/// The most items of one upsert by this service.
pub const UPSERT_ITEMS_MAX: usize = 1024;
/// The most ids of one delete.
pub const DELETE_IDS_MAX: usize = 4096;

/// How long a call that is short by nature may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it is alive, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Batches of a build that wait to be sent.
const BATCHES_AHEAD: usize = 2;
/// A message's values may take this much, whatever the dimension: 8 MiB.
const MESSAGE_VALUES_MAX: usize = 2 << 20;
/// The contract's limit on sample queries.
const SAMPLE_QUERIES_MAX: usize = 1000;

/// An item's id, its embedding and its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedItem {
    /// The id.
    pub id: String,
    /// The embedding.
    pub embedding: Embedding,
    /// The attributes, those that the generation declares.
    pub attributes: Vec<(String, Attribute)>,
}

/// What the index holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStatus {
    /// The position up to which writes are visible.
    pub lsn: Lsn,
    /// The model of each generation searched, the most recently published first.
    pub models: Vec<ModelVersion>,
    /// The ids of these generations, in the same order.
    pub generation_ids: Vec<String>,
    /// The attributes that each of these generations declares, in the same order.
    pub declared: Vec<Declared>,
    /// How many items each of these spaces has, in the same order.
    pub item_counts: Vec<u64>,
    /// How many deleted ids are remembered.
    pub tombstone_count: u64,
    /// The current generation of each space that the log has, searched or not, and before it those that it was compacted from; empty from an index that does
    /// not say.
    pub lineages: Vec<(SpaceId, Vec<String>)>,
}

impl IndexStatus {
    /// The current generation of a space, though another may be searched where it cannot be loaded; empty when the log has none.
    pub fn current_of(&self, space: SpaceId) -> &str {
        let searched = || self.models.iter().zip(&self.generation_ids).find(|(model, _)| model.space == space);
        self.lineage_of(space).last().or_else(|| searched().map(|(_, id)| id)).map_or("", String::as_str)
    }

    /// How many items a space has.
    pub fn item_count_of(&self, space: SpaceId) -> u64 {
        self.models.iter().zip(&self.item_counts).find(|(model, _)| model.space == space).map_or(0, |(_, count)| *count)
    }

    /// The current generation of a space, after those that it was compacted from; empty where that is not known.
    pub fn lineage_of(&self, space: SpaceId) -> &[String] {
        self.lineages.iter().find(|(of, _)| *of == space).map_or(&[], |(_, line)| line)
    }

    /// The attributes that the generation of a space declares; none, where there is none.
    pub fn declared_in(&self, space: SpaceId) -> Declared {
        let held = self.models.iter().zip(&self.declared).find(|(model, _)| model.space == space);
        held.map(|(_, declared)| declared.clone()).unwrap_or_default()
    }
}

/// What a build needs to know beforehand.
#[derive(Clone, Debug)]
pub struct BuildHeader {
    /// The model that makes the embeddings.
    pub model: ModelVersion,
    /// Their dimension.
    pub embedding_dim: usize,
    /// How many items will follow.
    pub item_count: u64,
    /// The position that the catalog was read at.
    pub covers: Lsn,
    /// Embeddings of real users; those beyond what one message carries are left out.
    pub sample_queries: Vec<Embedding>,
    /// The attributes that the items may have.
    pub declared: Declared,
}

/// A client of index-svc. Cheap to clone; clones share one connection, made when it is first needed and made again when it breaks.
#[derive(Clone, Debug)]
pub struct IndexClient {
    rpcs: IndexServiceClient<Channel>,
    long_timeout: Duration,
}

impl IndexClient {
    /// A client for an address such as `http://127.0.0.1:7103`.
    pub fn new(address: &str, limits: &Limits) -> Result<Self, ItemTowerError> {
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|e| ItemTowerError::Internal(format!("peers.index `{address}`: {e}")))?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let rpcs = IndexServiceClient::new(channel)
            .max_decoding_message_size(limits.message_bytes_max)
            .max_encoding_message_size(limits.message_bytes_max);
        Ok(Self { rpcs, long_timeout: Duration::from_millis(limits.deadline_ms_long) })
    }

    /// What the index holds now.
    pub async fn status(&self) -> Result<IndexStatus, ItemTowerError> {
        let request = within(CALL_TIMEOUT, proto::GetIndexStatusRequest {});
        let status = answer(CALL_TIMEOUT, self.rpcs.clone().get_index_status(request)).await?;
        let declared = status.spaces.iter().map(|space| wire::declared_by_peer(&space.attributes)).collect();
        let generation_ids = status.spaces.iter().map(|space| space.generation_id.clone()).collect();
        let item_counts = status.spaces.iter().map(|space| space.base_count + space.delta_count).collect();
        let tombstone_count = status.tombstone_count;
        let lineages = status.spaces.iter().chain(&status.unsearched_spaces).map(lineage).collect::<Result<_, _>>()?;
        let models = status.spaces.into_iter().map(|space| wire::model_version_of_peer(space.model_version));
        let models = models.collect::<Result<_, _>>()?;
        let lsn = Lsn(status.lsn);
        Ok(IndexStatus { lsn, models, generation_ids, declared, item_counts, tombstone_count, lineages })
    }

    /// Streams batches into a new generation and returns its id. An error among the batches ends the build.
    pub async fn build(
        &self,
        header: BuildHeader,
        batches: impl Stream<Item = Result<Vec<EmbeddedItem>, ItemTowerError>> + Send,
    ) -> Result<String, ItemTowerError> {
        let (sender, messages) = mpsc::channel(BATCHES_AHEAD);
        let request = within(self.long_timeout, ReceiverStream::new(messages));
        let mut rpcs = self.rpcs.clone();
        let call = answer(self.long_timeout, rpcs.build_generation(request));
        // When the feed fails, the call is dropped, which resets its stream: the index sees no regular end.
        let (built, ()) = try_join(call, feed(sender, header, batches)).await?;
        Ok(built.generation_id)
    }

    /// Makes a generation current, provided that the expected one of its space is so still (empty: that the space is not held); its items are searchable
    /// when this returns. The index's refusals, by a gate or because another refresh was faster, are handed on as they are.
    pub async fn publish(&self, generation_id: &str, expected: &str) -> Result<Lsn, ItemTowerError> {
        let request = proto::PublishGenerationRequest {
            generation_id: generation_id.to_owned(),
            expected_generation_id: Some(expected.to_owned()),
            forced_by: String::new(),
        };
        let mut rpcs = self.rpcs.clone();
        let call = rpcs.publish_generation(within(self.long_timeout, request));
        Ok(Lsn(answer(self.long_timeout, call).await?.lsn))
    }

    /// Writes at most [`UPSERT_ITEMS_MAX`] items.
    pub async fn upsert(&self, model: ModelVersion, items: Vec<EmbeddedItem>) -> Result<Lsn, ItemTowerError> {
        self.upsert_of(model, items, None).await
    }

    /// Writes those of at most [`UPSERT_ITEMS_MAX`] items that are deleted, and were up to a position; 0: there are none.
    pub async fn revive(
        &self,
        model: ModelVersion,
        items: Vec<EmbeddedItem>,
        deleted_until: Lsn,
    ) -> Result<Lsn, ItemTowerError> {
        self.upsert_of(model, items, Some(deleted_until.0)).await
    }

    async fn upsert_of(
        &self,
        model: ModelVersion,
        items: Vec<EmbeddedItem>,
        deleted_until_lsn: Option<u64>,
    ) -> Result<Lsn, ItemTowerError> {
        let items = items.into_iter().map(wire::item_embedding).collect();
        let model_version = Some(wire::model_version(model));
        let request = proto::UpsertRequest { model_version, items, deleted_until_lsn, ..Default::default() };
        let call = answer(CALL_TIMEOUT, self.rpcs.clone().upsert(within(CALL_TIMEOUT, request))).await?;
        Ok(Lsn(call.lsn))
    }

    /// Deletes at most [`DELETE_IDS_MAX`] items.
    pub async fn delete(&self, item_ids: Vec<String>) -> Result<Lsn, ItemTowerError> {
        let request = within(CALL_TIMEOUT, proto::DeleteRequest { item_ids, ..Default::default() });
        Ok(Lsn(answer(CALL_TIMEOUT, self.rpcs.clone().delete(request)).await?.lsn))
    }
}

fn lineage(space: &proto::SpaceStatus) -> Result<(SpaceId, Vec<String>), ItemTowerError> {
    let model = wire::model_version_of_peer(space.model_version.clone())?;
    Ok((model.space, space.lineage.clone()))
}

/// How many embeddings of a dimension one message may carry, at least one.
pub fn message_items_max(embedding_dim: usize) -> usize {
    (MESSAGE_VALUES_MAX / embedding_dim.max(1)).max(1)
}

async fn feed(
    sender: mpsc::Sender<proto::BuildGenerationRequest>,
    header: BuildHeader,
    batches: impl Stream<Item = Result<Vec<EmbeddedItem>, ItemTowerError>> + Send,
) -> Result<(), ItemTowerError> {
    let mut batches = std::pin::pin!(batches);
    let mut message = Message::Header(header_message(header));
    // A send fails when the call has ended; then the call knows why.
    while sender.send(proto::BuildGenerationRequest { message: Some(message) }).await.is_ok() {
        let Some(batch) = batches.next().await else { return Ok(()) };
        let items = batch?.into_iter().map(wire::item_embedding).collect();
        message = Message::Batch(proto::ItemBatch { items });
    }
    Ok(())
}

fn header_message(header: BuildHeader) -> proto::GenerationHeader {
    let queries_max = SAMPLE_QUERIES_MAX.min(message_items_max(header.embedding_dim));
    proto::GenerationHeader {
        model_version: Some(wire::model_version(header.model)),
        embedding_dim: header.embedding_dim as u32,
        item_count: header.item_count,
        covers_lsn: header.covers.0,
        sample_queries: header.sample_queries.into_iter().take(queries_max).map(wire::embedding).collect(),
        spec: None,
        attributes: wire::declarations(header.declared),
    }
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// The server is told of the deadline; should it not keep it, we do.
async fn answer<T>(
    timeout: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ItemTowerError> {
    let late = |_| ItemTowerError::IndexUnavailable(format!("no answer within {} s", timeout.as_secs()));
    let answered = tokio::time::timeout(timeout, call.map_err(refusal)).map_err(late).await??;
    Ok(answered.into_inner())
}

/// A peer that is gone, told from one that says no.
fn refusal(status: Status) -> ItemTowerError {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            ItemTowerError::IndexUnavailable(status.message().to_owned())
        }
        _ => ItemTowerError::Index(Box::new(status)),
    }
}
