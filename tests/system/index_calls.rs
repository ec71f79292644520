//! What tests ask of index-svc by itself, and the embeddings that they write.

use std::time::{Duration, Instant};

use futures::stream;
use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    index::v1::{
        BuildGenerationRequest, GenerationHeader, GetIndexStatusRequest, GetIndexStatusResponse, IndexKind, IndexSpec,
        ItemBatch, ItemEmbedding, PublishGenerationRequest, RollbackGenerationRequest,
        build_generation_request::Message, index_service_client::IndexServiceClient,
    },
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::harness::{DEADLINE, Service};

/// The one space.
pub(crate) const SPACE: &str = "00000000000000aa";
/// Values of an embedding.
pub(crate) const DIM: usize = 32;
/// Items of one message.
const BATCH_ITEMS: usize = 1000;
/// Cells of a generation, so that approximate search is something else than exact search.
const NLIST: u32 = 16;
/// Users that a generation is tuned with: a few, since tuning is most of a small build.
const USERS: usize = 20;

pub(crate) type Index = IndexServiceClient<Channel>;

/// A client that connects when it is first used.
pub(crate) fn client(service: &Service) -> Index {
    let channel = Channel::from_shared(format!("http://{}", service.address)).unwrap().tcp_nodelay(true);
    IndexServiceClient::new(channel.connect_lazy())
}

pub(crate) fn version() -> Option<ModelVersion> {
    Some(ModelVersion { space_id: SPACE.into(), revision: 0 })
}

/// A unit vector that is this name's own, far from those of other names.
pub(crate) fn embedding(name: &str) -> Embedding {
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..DIM).map(|_| next()).collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    Embedding { values: values.into_iter().map(|value| value / norm).collect() }
}

pub(crate) async fn status(index: &mut Index) -> Result<GetIndexStatusResponse, Status> {
    Ok(index.get_index_status(GetIndexStatusRequest {}).await?.into_inner())
}

/// Builds a generation of these items, which contain every write up to a position.
pub(crate) async fn build(index: &mut Index, covers_lsn: u64, mut items: Vec<ItemEmbedding>) -> Result<String, Status> {
    let header = GenerationHeader {
        model_version: version(),
        embedding_dim: DIM as u32,
        item_count: items.len() as u64,
        covers_lsn,
        sample_queries: (0..USERS).map(|n| embedding(&format!("user {n}"))).collect(),
        spec: Some(IndexSpec { kind: IndexKind::IvfFlat.into(), nlist: NLIST, hnsw_m: 0 }),
        ..Default::default()
    };
    let mut messages = vec![Message::Header(header)];
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(BATCH_ITEMS));
        messages.push(Message::Batch(ItemBatch { items }));
        items = rest;
    }
    let messages = messages.into_iter().map(|message| BuildGenerationRequest { message: Some(message) });
    Ok(index.build_generation(stream::iter(messages)).await?.into_inner().generation_id)
}

/// Makes a generation that was built current; its position.
pub(crate) async fn publish(index: &mut Index, generation_id: &str) -> Result<u64, Status> {
    let request = PublishGenerationRequest { generation_id: generation_id.to_owned(), ..Default::default() };
    Ok(index.publish_generation(request).await?.into_inner().lsn)
}

/// Makes the generation before the current one current again; its position and which it is.
pub(crate) async fn roll_back(index: &mut Index) -> Result<(u64, String), Status> {
    let request = RollbackGenerationRequest { space_id: SPACE.into(), ..Default::default() };
    let reply = index.rollback_generation(request).await?.into_inner();
    Ok((reply.lsn, reply.generation_id))
}

/// Whether a call failed because nobody, or nobody any more, was there to do it, or because it came too late: not because it was wrong.
pub(crate) fn may_be_tried_again(status: &Status) -> bool {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted => true,
        Code::Aborted => reason == "SUPERSEDED",
        Code::FailedPrecondition => reason == "NOT_PUBLISHABLE",
        // A connection that broke.
        Code::Internal => reason.is_empty(),
        _ => false,
    }
}

/// What a write is answered while its store is away: that, or, where trying again took as long, that its deadline has passed; a
/// client that looks at its own clock first says `Cancelled`.
pub(crate) fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

/// Asks until there is an answer: a process that has just started reads the log first. Fails past [`DEADLINE`].
pub(crate) async fn until_answered<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(status) => assert!(may_be_tried_again(&status) && Instant::now() < deadline, "{status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
