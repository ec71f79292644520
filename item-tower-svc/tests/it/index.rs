//! An index that keeps the contract as far as item-tower-svc can see, and can be told to fail or to hold still.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use pagoda_proto::{
    feature::v1::ModelVersion,
    index::v1::{
        self as proto,
        build_generation_request::Message,
        index_service_server::{IndexService, IndexServiceServer},
    },
};
use tokio::{net::TcpListener, sync::Semaphore};
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

/// The fake: clones are the same.
#[derive(Clone)]
pub(crate) struct Index {
    state: Arc<Mutex<Held>>,
    /// Each batch of a build and each upsert takes a permit; a test that holds them holds the index still.
    pub(crate) pace: Arc<Semaphore>,
}

/// What it holds.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) lsn: u64,
    /// The current generation.
    pub(crate) current: Option<(ModelVersion, String)>,
    pub(crate) items: BTreeMap<String, Vec<f32>>,
    /// Ids of each upsert and delete, in order.
    pub(crate) upserts: Vec<Vec<String>>,
    pub(crate) deletes: Vec<Vec<String>>,
    pub(crate) headers: Vec<proto::GenerationHeader>,
    pub(crate) publications: u64,
    /// Ids that were deleted and not upserted since: also a new generation does not show them.
    pub(crate) tombstones: BTreeSet<String>,
    /// Builds, or upserts, are refused with this.
    pub(crate) refuse: Option<Status>,
    built: BTreeMap<String, (ModelVersion, BTreeMap<String, Vec<f32>>)>,
}

impl Index {
    /// Starts one on a free port.
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let index = Self { state: Arc::default(), pace: Arc::new(Semaphore::new(1_000_000)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = IndexServiceServer::new(index.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (index, address)
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap()
    }

    /// Holds the index still from here on.
    pub(crate) fn hold_still(&self) {
        self.pace.forget_permits(usize::MAX >> 4);
    }

    async fn step(&self) {
        self.pace.acquire().await.unwrap().forget();
    }

    fn refusal(&self) -> Result<(), Status> {
        self.held().refuse.clone().map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl IndexService for Index {
    async fn search(&self, _: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        Err(Status::unimplemented("nobody searches here"))
    }

    async fn build_generation(
        &self,
        request: Request<Streaming<proto::BuildGenerationRequest>>,
    ) -> Result<Response<proto::BuildGenerationResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(Message::Header(header)) = messages.message().await?.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the header first"));
        };
        self.held().headers.push(header.clone());
        let mut items = BTreeMap::new();
        while let Some(message) = messages.message().await? {
            let Some(Message::Batch(batch)) = message.message else { return Err(Status::invalid_argument("a batch")) };
            self.step().await;
            items.extend(batch.items.into_iter().map(|i| (i.item_id, i.embedding.unwrap_or_default().values)));
        }
        self.refusal()?;
        if items.len() as u64 != header.item_count {
            return Err(Status::invalid_argument(format!("{} items, not {}", items.len(), header.item_count)));
        }
        let mut held = self.held();
        let generation_id = format!("g{}", held.built.len() + 1);
        held.built.insert(generation_id.clone(), (header.model_version.unwrap(), items));
        Ok(Response::new(proto::BuildGenerationResponse { generation_id, report: None }))
    }

    async fn publish_generation(
        &self,
        request: Request<proto::PublishGenerationRequest>,
    ) -> Result<Response<proto::PublishGenerationResponse>, Status> {
        let id = request.into_inner().generation_id;
        let mut held = self.held();
        let (model, mut items) = held.built.get(&id).cloned().ok_or_else(|| Status::not_found(id.clone()))?;
        items.retain(|id, _| !held.tombstones.contains(id));
        (held.current, held.items, held.lsn) = (Some((model, id)), items, held.lsn + 1);
        held.publications += 1;
        Ok(Response::new(proto::PublishGenerationResponse { lsn: held.lsn }))
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

    async fn upsert(&self, request: Request<proto::UpsertRequest>) -> Result<Response<proto::UpsertResponse>, Status> {
        self.step().await;
        self.refusal()?;
        let request = request.into_inner();
        let mut held = self.held();
        if held.current.as_ref().map(|(model, _)| model) != request.model_version.as_ref() {
            return Err(Status::failed_precondition("that space is not held"));
        }
        held.tombstones.retain(|id| !request.items.iter().any(|item| item.item_id == *id));
        held.upserts.push(request.items.iter().map(|item| item.item_id.clone()).collect());
        held.items.extend(request.items.into_iter().map(|i| (i.item_id, i.embedding.unwrap_or_default().values)));
        held.lsn += 1;
        Ok(Response::new(proto::UpsertResponse { lsn: held.lsn }))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        let ids = request.into_inner().item_ids;
        let mut held = self.held();
        ids.iter().for_each(|id| drop(held.items.remove(id)));
        held.tombstones.extend(ids.iter().cloned());
        held.deletes.push(ids);
        held.lsn += 1;
        Ok(Response::new(proto::DeleteResponse { lsn: held.lsn, ..Default::default() }))
    }

    async fn get_index_status(
        &self,
        _: Request<proto::GetIndexStatusRequest>,
    ) -> Result<Response<proto::GetIndexStatusResponse>, Status> {
        let held = self.held();
        let spaces = held.current.iter().map(|(model, generation_id)| proto::SpaceStatus {
            model_version: Some(model.clone()),
            generation_id: generation_id.clone(),
            embedding_dim: 2,
            base_count: held.items.len() as u64,
            ..Default::default()
        });
        let spaces = spaces.collect();
        Ok(Response::new(proto::GetIndexStatusResponse { lsn: held.lsn, spaces, ..Default::default() }))
    }
}
