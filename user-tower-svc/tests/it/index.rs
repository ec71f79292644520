//! An index of a few items that keeps the contract of `Search`, and can be told what it holds, to refuse and to hang.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use pagoda_model::ModelVersion;
use pagoda_proto::{
    feature::v1 as feature,
    index::v1::{
        self as proto,
        index_service_server::{IndexService, IndexServiceServer},
    },
};
use pagoda_server::status::with_reason;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, Streaming, transport::server::TcpIncoming};

/// The items of every index: ids and embeddings, of which `a` lies at (1, 0) and `d` at (0, 1).
const ITEMS: [(&str, [f32; 2]); 4] = [("a", [1.0, 0.0]), ("b", [0.8, 0.6]), ("c", [0.6, 0.8]), ("d", [0.0, 1.0])];

/// The fake: clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Index {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// The models of its generations.
    pub(crate) holds: Vec<ModelVersion>,
    /// Searches are refused with this.
    pub(crate) refuse: Option<Status>,
    /// Searches never end.
    pub(crate) hang: bool,
    /// Searches, and the `grpc-timeout` of each.
    pub(crate) searches: Vec<(proto::SearchRequest, Option<String>)>,
}

impl Index {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let index = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(IndexServiceServer::new(index.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (index, address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn hold(&self, models: &[ModelVersion]) {
        self.state().holds = models.to_vec();
    }

    fn model_of(&self, space_id: &str) -> Result<ModelVersion, Status> {
        let held = self.state().holds.clone();
        held.iter().find(|model| model.space.to_string() == space_id).copied().ok_or_else(|| {
            let spaces = held.iter().map(|model| model.space.to_string()).collect::<Vec<_>>().join(",");
            with_reason(Code::FailedPrecondition, "not held", "SPACE_NOT_HELD", [("spaces_held", spaces)])
        })
    }
}

fn version(model: ModelVersion) -> feature::ModelVersion {
    feature::ModelVersion { space_id: model.space.to_string(), revision: model.revision }
}

fn nearest(request: &proto::SearchRequest) -> Vec<proto::ScoredItem> {
    let query = &request.embedding.as_ref().unwrap().values;
    let excluded = |id: &str| request.exclude_item_ids.iter().any(|excluded| excluded == id);
    let allowed = ITEMS.iter().filter(|(id, _)| !excluded(id));
    let score = |v: &[f32; 2]| v[0] * query[0] + v[1] * query[1];
    let mut items: Vec<_> = allowed
        .map(|(id, v)| proto::ScoredItem { item_id: (*id).into(), score: score(v), from_delta: *id == "d" })
        .collect();
    items.sort_by(|a, b| b.score.total_cmp(&a.score));
    items
}

#[tonic::async_trait]
impl IndexService for Index {
    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        let request = request.into_inner();
        let (refuse, hang) = {
            let mut state = self.state();
            state.searches.push((request.clone(), timeout));
            (state.refuse.clone(), state.hang)
        };
        if let Some(status) = refuse {
            return Err(status);
        }
        if hang {
            std::future::pending::<()>().await;
        }
        let model = self.model_of(&request.space_id)?;
        let mut items = nearest(&request);
        let exhausted = items.len() <= request.k as usize;
        items.truncate(request.k as usize);
        Ok(Response::new(proto::SearchResponse {
            items,
            exhausted,
            generation_id: "g1".into(),
            lsn: 7,
            model_version: Some(version(model)),
        }))
    }

    async fn get_index_status(
        &self,
        _: Request<proto::GetIndexStatusRequest>,
    ) -> Result<Response<proto::GetIndexStatusResponse>, Status> {
        let space = |model| proto::SpaceStatus { model_version: Some(version(model)), ..Default::default() };
        let spaces = self.state().holds.iter().copied().map(space).collect();
        Ok(Response::new(proto::GetIndexStatusResponse { spaces, ..Default::default() }))
    }

    async fn build_generation(
        &self,
        _: Request<Streaming<proto::BuildGenerationRequest>>,
    ) -> Result<Response<proto::BuildGenerationResponse>, Status> {
        Err(Status::unimplemented("nobody builds here"))
    }

    async fn publish_generation(
        &self,
        _: Request<proto::PublishGenerationRequest>,
    ) -> Result<Response<proto::PublishGenerationResponse>, Status> {
        Err(Status::unimplemented("nobody publishes here"))
    }

    async fn batch_search(
        &self,
        _: Request<proto::BatchSearchRequest>,
    ) -> Result<Response<proto::BatchSearchResponse>, Status> {
        Err(Status::unimplemented("nobody searches in batches here"))
    }

    async fn rollback_generation(
        &self,
        _: Request<proto::RollbackGenerationRequest>,
    ) -> Result<Response<proto::RollbackGenerationResponse>, Status> {
        Err(Status::unimplemented("nobody rolls back here"))
    }

    async fn list_generations(
        &self,
        _: Request<proto::ListGenerationsRequest>,
    ) -> Result<Response<proto::ListGenerationsResponse>, Status> {
        Err(Status::unimplemented("nobody lists here"))
    }

    async fn upsert(&self, _: Request<proto::UpsertRequest>) -> Result<Response<proto::UpsertResponse>, Status> {
        Err(Status::unimplemented("nobody writes here"))
    }

    async fn delete(&self, _: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        Err(Status::unimplemented("nobody deletes here"))
    }
}
