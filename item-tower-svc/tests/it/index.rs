//! An index that keeps the contract as far as item-tower-svc can see, and can be told to fail or to hold still.

use std::{
    collections::BTreeMap,
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

/// What it holds: one space.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) lsn: u64,
    /// The current generation.
    pub(crate) current: Option<(ModelVersion, String)>,
    /// The generation that is searched, where that is another, since the current one cannot be loaded; empty: none is.
    pub(crate) searched: Option<String>,
    /// What is found.
    pub(crate) items: BTreeMap<String, Vec<f32>>,
    /// Upserts that came, those that are held still included.
    pub(crate) upserts_begun: u64,
    /// Ids of each upsert and delete, in order.
    pub(crate) upserts: Vec<Vec<String>>,
    pub(crate) deletes: Vec<Vec<String>>,
    pub(crate) headers: Vec<proto::GenerationHeader>,
    pub(crate) publications: u64,
    /// Ids that were deleted and not upserted since, and where: also a new generation does not show them.
    pub(crate) tombstones: BTreeMap<String, u64>,
    /// Builds, or upserts, are refused with this.
    pub(crate) refuse: Option<Status>,
    /// A publication comes about, and its caller is answered with this.
    pub(crate) answer_publications: Option<Status>,
    built: BTreeMap<String, Built>,
    /// What was upserted into the space, and where.
    fresh: BTreeMap<String, (u64, Vec<f32>)>,
}

/// A generation in the store.
#[derive(Clone)]
struct Built {
    model: ModelVersion,
    covers: u64,
    items: BTreeMap<String, Vec<f32>>,
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

impl Held {
    /// What somebody else upserts.
    pub(crate) fn upsert(&mut self, id: &str, embedding: &[f32]) {
        self.lsn += 1;
        self.tombstones.remove(id);
        self.fresh.insert(id.to_owned(), (self.lsn, embedding.to_vec()));
        self.show();
    }

    /// What somebody deletes.
    pub(crate) fn delete(&mut self, id: &str) {
        self.lsn += 1;
        self.fresh.remove(id);
        self.tombstones.insert(id.to_owned(), self.lsn);
        self.show();
    }

    /// Makes a generation current that was so before.
    pub(crate) fn roll_back(&mut self, generation_id: &str) {
        self.lsn += 1;
        self.current = Some((self.built[generation_id].model.clone(), generation_id.to_owned()));
        self.show();
    }

    fn publish(&mut self, generation_id: String, expected: Option<&str>) -> Result<(), Status> {
        let built = self.built.get(&generation_id).ok_or_else(|| Status::not_found(generation_id.clone()))?;
        let model = built.model.clone();
        let current = self.current.as_ref().filter(|(current, _)| current.space_id == model.space_id);
        let current = current.map_or("", |(_, id)| id);
        if expected.is_some_and(|expected| expected != current) {
            return Err(Status::aborted(format!("generation {current} is current, another than was expected")));
        }
        if current.is_empty() {
            self.fresh.clear();
        }
        self.lsn += 1;
        self.publications += 1;
        (self.current, self.searched) = (Some((model, generation_id)), None);
        self.show();
        Ok(())
    }

    fn show(&mut self) {
        let Some(built) = self.current.as_ref().map(|(_, id)| &self.built[id]) else { return };
        self.items = built.items.clone();
        let fresh = self.fresh.iter().filter(|(_, (lsn, _))| *lsn > built.covers);
        self.items.extend(fresh.map(|(id, (_, embedding))| (id.clone(), embedding.clone())));
        self.items.retain(|id, _| !self.tombstones.contains_key(id));
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
        let built = Built { model: header.model_version.unwrap(), covers: header.covers_lsn, items };
        held.built.insert(generation_id.clone(), built);
        Ok(Response::new(proto::BuildGenerationResponse { generation_id, report: None }))
    }

    async fn publish_generation(
        &self,
        request: Request<proto::PublishGenerationRequest>,
    ) -> Result<Response<proto::PublishGenerationResponse>, Status> {
        let request = request.into_inner();
        let mut held = self.held();
        held.publish(request.generation_id, request.expected_generation_id.as_deref())?;
        let answer = proto::PublishGenerationResponse { lsn: held.lsn };
        held.answer_publications.clone().map_or(Ok(Response::new(answer)), Err)
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
        self.held().upserts_begun += 1;
        self.step().await;
        self.refusal()?;
        let request = request.into_inner();
        let mut held = self.held();
        if held.current.as_ref().map(|(model, _)| model) != request.model_version.as_ref() {
            return Err(Status::failed_precondition("that space is not held"));
        }
        let mut items = request.items;
        if let Some(until) = request.deleted_until_lsn {
            items.retain(|item| held.tombstones.get(&item.item_id).is_some_and(|deleted| *deleted <= until));
        }
        if items.is_empty() {
            return Ok(Response::new(proto::UpsertResponse { lsn: 0 }));
        }
        held.upserts.push(items.iter().map(|item| item.item_id.clone()).collect());
        held.lsn += 1;
        let lsn = held.lsn;
        for item in items {
            held.tombstones.remove(&item.item_id);
            held.fresh.insert(item.item_id, (lsn, item.embedding.unwrap_or_default().values));
        }
        held.show();
        Ok(Response::new(proto::UpsertResponse { lsn }))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        let ids = request.into_inner().item_ids;
        let mut held = self.held();
        held.lsn += 1;
        let lsn = held.lsn;
        held.fresh.retain(|id, _| !ids.contains(id));
        held.tombstones.extend(ids.iter().map(|id| (id.clone(), lsn)));
        held.deletes.push(ids);
        held.show();
        Ok(Response::new(proto::DeleteResponse { lsn, ..Default::default() }))
    }

    async fn get_index_status(
        &self,
        _: Request<proto::GetIndexStatusRequest>,
    ) -> Result<Response<proto::GetIndexStatusResponse>, Status> {
        let held = self.held();
        let spaces = held.current.iter().map(|(model, current)| proto::SpaceStatus {
            model_version: Some(model.clone()),
            generation_id: held.searched.as_ref().unwrap_or(current).clone(),
            embedding_dim: 2,
            base_count: held.items.len() as u64,
            lineage: vec![current.clone()],
            ..Default::default()
        });
        let (spaces, unsearched_spaces) = spaces.partition(|space| !space.generation_id.is_empty());
        let tombstone_count = held.tombstones.len() as u64;
        let lsn = held.lsn;
        let status =
            proto::GetIndexStatusResponse { lsn, spaces, unsearched_spaces, tombstone_count, ..Default::default() };
        Ok(Response::new(status))
    }
}
