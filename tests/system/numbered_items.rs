//! Items that are called by number, and what tests ask of index-svc about them.

use std::time::{Duration, Instant};

use pagoda_proto::{
    feature::v1::Embedding,
    index::v1::{
        BuildGenerationRequest, GenerationHeader, GetIndexStatusResponse, ItemBatch, ItemEmbedding, SearchRequest,
        UpsertRequest, build_generation_request::Message,
    },
};
use tonic::Status;

use crate::{
    harness::DEADLINE,
    index_calls::{self, Index, SPACE},
};

/// Values of an embedding: so many that a few hundred items are more than a small disk holds.
pub(crate) const DIM: usize = 256;

fn item(n: usize) -> ItemEmbedding {
    // Different directions for different numbers.
    let values: Vec<f32> = (0..DIM).map(|d| (((n * 31 + 7) * (d + 3)) as f32).sin()).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    let values = values.into_iter().map(|v| v / norm).collect();
    ItemEmbedding { item_id: format!("i{n}"), embedding: Some(Embedding { values }), ..Default::default() }
}

/// Builds a generation of the first items, exactly searched, that contains every write so far.
pub(crate) async fn build(index: &mut Index, count: usize) -> Result<String, Status> {
    let header = GenerationHeader {
        model_version: index_calls::version(),
        embedding_dim: DIM as u32,
        item_count: count as u64,
        covers_lsn: status(index).await.lsn,
        ..Default::default()
    };
    let batch = ItemBatch { items: (0..count).map(item).collect() };
    let messages = [Message::Header(header), Message::Batch(batch)];
    let messages: Vec<_> = messages.map(|m| BuildGenerationRequest { message: Some(m) }).into();
    index.build_generation(futures::stream::iter(messages)).await.map(|built| built.into_inner().generation_id)
}

pub(crate) async fn refresh(index: &mut Index, count: usize) {
    let id = build(index, count).await.unwrap();
    index_calls::publish(index, &id).await.unwrap();
}

pub(crate) async fn status(index: &mut Index) -> GetIndexStatusResponse {
    index_calls::status(index).await.unwrap()
}

pub(crate) async fn upsert(index: &mut Index, n: usize) -> Result<u64, Status> {
    let request = UpsertRequest {
        model_version: index_calls::version(),
        items: vec![item(n)],
        request_id: format!("upsert of {n}"),
        ..Default::default()
    };
    index.upsert(request).await.map(|reply| reply.into_inner().lsn)
}

pub(crate) async fn holds(index: &mut Index, n: usize) -> bool {
    let embedding = item(n).embedding;
    let request = SearchRequest { space_id: SPACE.into(), embedding, k: 1, ..Default::default() };
    let found = index.search(request).await.unwrap().into_inner().items;
    found.first().is_some_and(|nearest| nearest.item_id == format!("i{n}"))
}

pub(crate) async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !ask().await {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
