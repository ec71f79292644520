//! Fault 1 of the skeleton: `kill -9` of index-svc under upserts loses nothing that was acknowledged.

use std::sync::{Arc, Mutex};

use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    index::v1::{
        BuildGenerationRequest, DeleteRequest, GenerationHeader, GetIndexStatusRequest, ItemBatch, ItemEmbedding,
        PublishGenerationRequest, SearchRequest, UpsertRequest, build_generation_request::Message,
        index_service_client::IndexServiceClient,
    },
};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use crate::harness::{Place, Service, channel};

const DIM: usize = 16;
const SPACE: &str = "00000000000000aa";
const WRITERS: usize = 4;
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let place = Place::new();
    let mut service = Service::start(&place, "index-svc", &[]);
    publish(&mut client(&service).await).await;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let acks = Arc::new(Mutex::new(Vec::new()));
        let writers: Vec<_> =
            (0..WRITERS).map(|w| tokio::spawn(write(service.address, round, w, acks.clone()))).collect();
        let enough = 40 * (round + 1);
        until(|| acks.lock().unwrap().len() >= enough).await;
        service.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        acknowledged.append(&mut acks.lock().unwrap());
        service = Service::start(&place, "index-svc", &[]);
        let mut client = client(&service).await;
        for id in &acknowledged {
            assert_eq!(
                nearest(&mut client, id).await.as_deref(),
                Some(id.as_str()),
                "{id} was acknowledged in or before round {round}"
            );
        }
    }
}

/// Upserts one item after another until the service is gone; what was acknowledged goes to `acks`.
async fn write(address: std::net::SocketAddr, round: usize, writer: usize, acks: Arc<Mutex<Vec<String>>>) {
    let mut client = IndexServiceClient::new(channel(address).await);
    for n in 0.. {
        let id = format!("fresh-{round}-{writer}-{n}");
        let request =
            UpsertRequest { model_version: Some(version(SPACE)), items: vec![item(&id)], ..Default::default() };
        if client.upsert(request).await.is_err() {
            return;
        }
        acks.lock().unwrap().push(id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_hold_at_once_and_after_a_restart_and_a_rebuild() {
    let place = Place::new();
    let service = Service::start(&place, "index-svc", &[]);
    let mut index = client(&service).await;
    publish(&mut index).await;
    index.delete(DeleteRequest { item_ids: vec!["base-3".into()], ..Default::default() }).await.unwrap();
    assert_ne!(nearest(&mut index, "base-3").await.as_deref(), Some("base-3"));
    service.kill();

    let service = Service::start(&place, "index-svc", &[]);
    let mut index = client(&service).await;
    assert_ne!(nearest(&mut index, "base-3").await.as_deref(), Some("base-3"), "after a restart");
    publish(&mut index).await;
    assert_ne!(nearest(&mut index, "base-3").await.as_deref(), Some("base-3"), "after a rebuild");
    index
        .upsert(UpsertRequest {
            model_version: Some(version(SPACE)),
            items: vec![item("base-3")],
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(nearest(&mut index, "base-3").await.as_deref(), Some("base-3"), "an upsert brings it back");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_embedding_space_is_refused_with_the_spaces_held() {
    let place = Place::new();
    let service = Service::start(&place, "index-svc", &[]);
    let mut index = client(&service).await;
    publish(&mut index).await;
    let other = "00000000000000bb";
    let search = SearchRequest { space_id: other.into(), embedding: Some(embedding("x")), k: 5, ..Default::default() };
    let status = index.search(search).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["spaces_held"].as_str()), ("SPACE_NOT_HELD", SPACE));
    let upsert = UpsertRequest { model_version: Some(version(other)), items: vec![item("x")], ..Default::default() };
    assert_eq!(index.upsert(upsert).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_vectors_are_named_and_change_nothing() {
    let place = Place::new();
    let service = Service::start(&place, "index-svc", &[]);
    let mut index = client(&service).await;
    publish(&mut index).await;
    let with = |values: Vec<f32>| ItemEmbedding {
        item_id: "x".into(),
        embedding: Some(Embedding { values }),
        ..Default::default()
    };
    let mut nan = embedding("x").values;
    nan[3] = f32::NAN;
    let items = vec![item("good"), with(nan), with(vec![1.0]), with(vec![0.0; DIM]), item("good")];
    let status = index
        .upsert(UpsertRequest { model_version: Some(version(SPACE)), items, ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let named: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    for place in ["items[1]", "items[2]", "items[3]", "items[4]"] {
        assert!(named.iter().any(|n| n.starts_with(place)), "{place} is not among {named:?}");
    }
    assert_ne!(nearest(&mut index, "good").await.as_deref(), Some("good"), "the batch is whole or absent");
}

async fn client(service: &Service) -> IndexServiceClient<Channel> {
    IndexServiceClient::new(channel(service.address).await)
}

/// Builds and publishes a generation of a hundred items.
async fn publish(index: &mut IndexServiceClient<Channel>) {
    let header = GenerationHeader {
        model_version: Some(version(SPACE)),
        embedding_dim: DIM as u32,
        item_count: 100,
        covers_lsn: head(index).await,
        ..Default::default()
    };
    let items = (0..100).map(|n| item(&format!("base-{n}"))).collect();
    let messages = [Message::Header(header), Message::Batch(ItemBatch { items })];
    let stream: Vec<_> = messages.map(|m| BuildGenerationRequest { message: Some(m) }).into();
    let built = index.build_generation(futures::stream::iter(stream)).await.unwrap().into_inner();
    let publish = PublishGenerationRequest { generation_id: built.generation_id, ..Default::default() };
    index.publish_generation(publish).await.unwrap();
}

/// The log's head: what a refresh that starts now may take as contained in its catalog.
async fn head(index: &mut IndexServiceClient<Channel>) -> u64 {
    index.get_index_status(GetIndexStatusRequest {}).await.unwrap().into_inner().lsn
}

async fn nearest(index: &mut IndexServiceClient<Channel>, id: &str) -> Option<String> {
    let request = SearchRequest { space_id: SPACE.into(), embedding: Some(embedding(id)), k: 1, ..Default::default() };
    index.search(request).await.unwrap().into_inner().items.into_iter().next().map(|i| i.item_id)
}

fn version(space: &str) -> ModelVersion {
    ModelVersion { space_id: space.into(), revision: 0 }
}

fn item(id: &str) -> ItemEmbedding {
    ItemEmbedding { item_id: id.into(), embedding: Some(embedding(id)), ..Default::default() }
}

/// A unit vector that is this id's own.
fn embedding(id: &str) -> Embedding {
    let mut state = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..DIM).map(|_| next()).collect();
    let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
    Embedding { values: values.into_iter().map(|x| x / norm).collect() }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::DEADLINE, wait).await.expect("the condition holds in time");
}
