//! An index and short ways to speak to it.

use std::time::Duration;

use futures::stream;
use index_svc::{app, config::Config, grpc::IndexService};
use pagoda_commit_log::Store;
use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    index::v1::{self as proto, build_generation_request::Message, index_service_server::IndexService as _},
};
use pagoda_server::{config as settings, status};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Request, Status};

pub(crate) const SPACE: &str = "00000000000000aa";
pub(crate) const DIM: usize = 4;

/// An index and its calls.
#[derive(Clone)]
pub(crate) struct Index {
    pub(crate) service: IndexService,
}

/// The defaults with a quick look at the log and these settings.
pub(crate) fn config(set: &[&str]) -> Config {
    let set = ["index.poll_ms=10"].iter().chain(set).map(|setting| (*setting).to_owned()).collect();
    settings::load(&pagoda_server::ServerArgs { set, ..Default::default() }).unwrap()
}

pub(crate) fn memory() -> Store {
    Store::open("memory://").unwrap()
}

/// A unit vector that is this seed's own.
pub(crate) fn vector(seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

pub(crate) fn item(id: &str, values: Vec<f32>) -> proto::ItemEmbedding {
    proto::ItemEmbedding { item_id: id.into(), embedding: Some(Embedding { values }), ..Default::default() }
}

/// Items of these numbers: `i7` has the seventh vector.
pub(crate) fn items(numbers: impl IntoIterator<Item = u64>) -> Vec<proto::ItemEmbedding> {
    numbers.into_iter().map(|n| item(&format!("i{n}"), vector(n))).collect()
}

pub(crate) fn names(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut names: Vec<_> = numbers.into_iter().map(|n| format!("i{n}")).collect();
    names.sort();
    names
}

pub(crate) fn reason(refused: &Status) -> String {
    status::reason_of(refused).map(|(reason, _)| reason).unwrap_or_default()
}

/// Asks until it holds; fails after a while.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("{what} did not come about"))
}

impl Index {
    pub(crate) async fn open(store: &Store, set: &[&str]) -> Self {
        Self::try_open(store, set).await.unwrap()
    }

    pub(crate) async fn try_open(store: &Store, set: &[&str]) -> Result<Self, index_svc::error::IndexError> {
        app::build_on(store.clone(), config(set)).await.map(|service| Self { service })
    }

    /// An index that holds items of these numbers.
    pub(crate) async fn holding(store: &Store, set: &[&str], numbers: impl IntoIterator<Item = u64>) -> Self {
        let index = Self::open(store, set).await;
        index.refresh(numbers).await.unwrap();
        index
    }

    pub(crate) fn header(&self, item_count: usize) -> proto::GenerationHeader {
        proto::GenerationHeader {
            model_version: Some(ModelVersion { space_id: SPACE.into(), revision: 0 }),
            embedding_dim: DIM as u32,
            item_count: item_count as u64,
            covers_lsn: self.lsn(),
            ..Default::default()
        }
    }

    pub(crate) fn lsn(&self) -> u64 {
        self.service.current().load().lsn.0
    }

    pub(crate) async fn build(
        &self,
        header: proto::GenerationHeader,
        items: Vec<proto::ItemEmbedding>,
    ) -> Result<proto::BuildGenerationResponse, Status> {
        let batches = items.chunks(1000).map(|items| Message::Batch(proto::ItemBatch { items: items.to_vec() }));
        let messages: Vec<_> = [Message::Header(header)].into_iter().chain(batches).collect();
        let messages = messages.into_iter().map(|message| Ok(proto::BuildGenerationRequest { message: Some(message) }));
        self.service.build(stream::iter(messages)).await
    }

    /// Builds a generation of items of these numbers; returns its id.
    pub(crate) async fn built(&self, numbers: impl IntoIterator<Item = u64>) -> String {
        let items = items(numbers);
        self.build(self.header(items.len()), items).await.unwrap().generation_id
    }

    /// Builds and publishes; returns the generation's id.
    pub(crate) async fn refresh(&self, numbers: impl IntoIterator<Item = u64>) -> Result<String, Status> {
        let id = self.built(numbers).await;
        self.publish(&id).await.map(|_| id)
    }

    pub(crate) async fn publish(&self, id: &str) -> Result<u64, Status> {
        self.publish_as(proto::PublishGenerationRequest { generation_id: id.into(), ..Default::default() }).await
    }

    pub(crate) async fn publish_as(&self, request: proto::PublishGenerationRequest) -> Result<u64, Status> {
        self.service.publish_generation(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
    }

    pub(crate) async fn roll_back(&self, to: &str, expected: Option<&str>) -> Result<String, Status> {
        let request = proto::RollbackGenerationRequest {
            space_id: SPACE.into(),
            generation_id: to.into(),
            expected_generation_id: expected.map(Into::into),
        };
        self.service.rollback_generation(Request::new(request)).await.map(|reply| reply.into_inner().generation_id)
    }

    pub(crate) async fn generations(&self) -> Vec<proto::GenerationStatus> {
        let request = Request::new(proto::ListGenerationsRequest::default());
        self.service.list_generations(request).await.unwrap().into_inner().generations
    }

    pub(crate) async fn upsert(&self, numbers: impl IntoIterator<Item = u64>) -> Result<u64, Status> {
        self.upsert_as("", numbers).await
    }

    pub(crate) async fn upsert_as(
        &self,
        request_id: &str,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<u64, Status> {
        let request = proto::UpsertRequest {
            model_version: Some(ModelVersion { space_id: SPACE.into(), revision: 0 }),
            items: items(numbers),
            request_id: request_id.into(),
            ..Default::default()
        };
        self.service.upsert(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
    }

    pub(crate) async fn delete(&self, numbers: impl IntoIterator<Item = u64>) -> Result<u64, Status> {
        let request = proto::DeleteRequest { item_ids: names(numbers), request_id: String::new() };
        self.service.delete(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
    }

    pub(crate) async fn search(&self, min_lsn: u64) -> Result<proto::SearchResponse, Status> {
        let request = proto::SearchRequest {
            space_id: SPACE.into(),
            embedding: Some(Embedding { values: vector(0) }),
            k: 1000,
            min_lsn,
            ..Default::default()
        };
        self.service.search(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    /// The ids of all items, sorted.
    pub(crate) async fn ids(&self) -> Vec<String> {
        let found = self.search(0).await.unwrap();
        assert!(found.exhausted);
        let mut ids: Vec<_> = found.items.into_iter().map(|item| item.item_id).collect();
        ids.sort();
        ids
    }

    pub(crate) async fn status(&self) -> proto::GetIndexStatusResponse {
        let request = Request::new(proto::GetIndexStatusRequest {});
        self.service.get_index_status(request).await.unwrap().into_inner()
    }
}
