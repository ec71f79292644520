//! The gRPC face: each rpc reads top to bottom as wire, work, wire.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use pagoda_commit_log::Lsn;
use pagoda_proto::index::v1::{
    self as proto, build_generation_request::Message, index_service_server::IndexService as Rpcs,
};
use pagoda_server::Deadline;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    app::Keepers,
    build::Incoming,
    builder::Builder,
    committer::Committer,
    config::{Config, Role},
    current::Current,
    error::IndexError,
    listing::Listing,
    publisher::Publisher,
    record::{Batch, Write},
    search::Searcher,
    troubles::Troubles,
    wire,
};

/// An answer is sent so much before the deadline of a call that waited in vain.
const REPLY_TIME: Duration = Duration::from_millis(20);

/// What the service is put together from.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Parts {
    pub config: Arc<Config>,
    pub current: Current,
    pub troubles: Troubles,
    pub committer: Committer,
    pub builder: Builder,
    pub publisher: Publisher,
    pub listing: Listing,
    pub keepers: Keepers,
}

/// Serves `pagoda.index.v1.IndexService`.
#[derive(Clone, Debug)]
pub struct IndexService {
    config: Arc<Config>,
    current: Current,
    troubles: Troubles,
    searcher: Searcher,
    committer: Committer,
    builder: Builder,
    publisher: Publisher,
    listing: Listing,
    /// Ends with the last clone of the service.
    _keepers: Arc<Keepers>,
}

impl IndexService {
    /// Puts the service together; see [`crate::app`].
    pub fn new(parts: Parts) -> Self {
        let Parts { config, current, troubles, committer, builder, publisher, listing, keepers } = parts;
        let searcher = Searcher::new(current.clone(), &config.search);
        let _keepers = Arc::new(keepers);
        Self { config, current, troubles, searcher, committer, builder, publisher, listing, _keepers }
    }

    /// Where the newest snapshot is found.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// Resolves when nothing can be written any more, nor the log be followed: a fault of ours, which a restart mends.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let committer = self.committer.clone();
        async move { committer.ended().await }
    }

    /// What this process cannot do for the moment.
    pub fn troubles(&self) -> Troubles {
        self.troubles.clone()
    }

    /// BuildGeneration, for any stream of messages.
    pub async fn build(
        &self,
        messages: impl Stream<Item = Result<proto::BuildGenerationRequest, Status>> + Send,
    ) -> Result<proto::BuildGenerationResponse, Status> {
        self.require(Role::Build)?;
        let incoming = self.receive(messages).await?;
        let (id, manifest) = self.builder.build(incoming).await?;
        Ok(wire::build_response(&id, &manifest))
    }

    async fn receive(
        &self,
        messages: impl Stream<Item = Result<proto::BuildGenerationRequest, Status>> + Send,
    ) -> Result<Incoming, Status> {
        let mut messages = std::pin::pin!(messages);
        let mut incoming = match messages.next().await.transpose()?.and_then(|m| m.message) {
            Some(Message::Header(header)) => {
                let lsn = self.current.load().lsn;
                self.builder.begin(self.builder.reserve()?, wire::header(header, lsn, self.config.build.values_max)?)?
            }
            Some(Message::Batch(_)) => return Err(wire::out_of_order("the header first", "a batch").into()),
            None => return Err(wire::out_of_order("the header first", "nothing").into()),
        };
        while let Some(message) = messages.next().await {
            match message?.message {
                Some(Message::Batch(batch)) => {
                    let push = move |incoming: &mut Incoming| incoming.push(wire::batch(batch, incoming.header())?);
                    incoming = self.builder.filled(incoming, push).await?;
                }
                Some(Message::Header(_)) => return Err(wire::out_of_order("a batch", "a second header").into()),
                None => return Err(wire::out_of_order("a batch", "nothing").into()),
            }
        }
        Ok(incoming)
    }

    fn require(&self, role: Role) -> Result<(), IndexError> {
        if self.config.index.has(role) { Ok(()) } else { Err(IndexError::Role(role)) }
    }

    fn deadline<T>(&self, request: &Request<T>) -> Deadline {
        Deadline::of(request, Duration::from_millis(self.config.limits.deadline_ms_default))
    }

    /// Waits, within the deadline, until a position is visible.
    async fn reached(&self, lsn: Lsn, deadline: Deadline) -> Result<(), IndexError> {
        if self.current.load().lsn >= lsn {
            return Ok(());
        }
        self.current.reached(lsn, deadline.remaining().saturating_sub(REPLY_TIME)).await
    }
}

#[tonic::async_trait]
impl Rpcs for IndexService {
    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        self.require(Role::Search)?;
        let (deadline, lsn) = (self.deadline(&request), Lsn(request.get_ref().min_lsn));
        let query = wire::search_request(request.into_inner(), self.config.search.k_limit)?;
        self.reached(lsn, deadline).await?;
        let answer = self.searcher.search(query, deadline).await?;
        Ok(Response::new(wire::search_response(answer)))
    }

    async fn batch_search(
        &self,
        request: Request<proto::BatchSearchRequest>,
    ) -> Result<Response<proto::BatchSearchResponse>, Status> {
        self.require(Role::Search)?;
        let (deadline, lsn) = (self.deadline(&request), Lsn(request.get_ref().min_lsn));
        let query = wire::batch_search_request(request.into_inner(), self.config.search.k_limit)?;
        self.reached(lsn, deadline).await?;
        let answer = self.searcher.search(query, deadline).await?;
        Ok(Response::new(wire::batch_search_response(answer)))
    }

    async fn build_generation(
        &self,
        request: Request<Streaming<proto::BuildGenerationRequest>>,
    ) -> Result<Response<proto::BuildGenerationResponse>, Status> {
        self.build(request.into_inner()).await.map(Response::new)
    }

    async fn publish_generation(
        &self,
        request: Request<proto::PublishGenerationRequest>,
    ) -> Result<Response<proto::PublishGenerationResponse>, Status> {
        self.require(Role::Write)?;
        let (id, expected, forced_by) = wire::publish_request(request.into_inner())?;
        let moved = self.publisher.publish(id, expected, forced_by).await?;
        Ok(Response::new(proto::PublishGenerationResponse { lsn: moved.lsn.0 }))
    }

    async fn rollback_generation(
        &self,
        request: Request<proto::RollbackGenerationRequest>,
    ) -> Result<Response<proto::RollbackGenerationResponse>, Status> {
        self.require(Role::Write)?;
        let (space, target, expected) = wire::rollback_request(request.into_inner())?;
        let moved = self.publisher.roll_back(space, target, expected).await?;
        let generation_id = moved.generation.to_string();
        Ok(Response::new(proto::RollbackGenerationResponse { lsn: moved.lsn.0, generation_id }))
    }

    async fn list_generations(
        &self,
        request: Request<proto::ListGenerationsRequest>,
    ) -> Result<Response<proto::ListGenerationsResponse>, Status> {
        let retained = self.listing.retained().await;
        let unpublished = match request.get_ref().include_unpublished {
            true => self.listing.unpublished().await?,
            false => Vec::new(),
        };
        Ok(Response::new(wire::list_response(retained, unpublished)))
    }

    async fn upsert(&self, request: Request<proto::UpsertRequest>) -> Result<Response<proto::UpsertResponse>, Status> {
        self.require(Role::Write)?;
        let request_id = wire::request_id(&request.get_ref().request_id)?;
        let deleted_until = request.get_ref().deleted_until_lsn.map(Lsn);
        let write = wire::upsert_request(request.into_inner(), &self.current.load())?;
        let batch = Batch { request_id, write };
        let lsn = match deleted_until {
            None => self.committer.write(batch).await?.0,
            Some(until) => self.committer.revive(batch, until).await?.0,
        };
        Ok(Response::new(proto::UpsertResponse { lsn }))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        self.require(Role::Write)?;
        let request_id = wire::request_id(&request.get_ref().request_id)?;
        let ids = wire::delete_request(request.into_inner())?;
        let not_held_item_ids = self.current.load().not_held(&ids).map(ToString::to_string).collect();
        let lsn = self.committer.write(Batch { request_id, write: Write::Delete(ids) }).await?.0;
        Ok(Response::new(proto::DeleteResponse { lsn, not_held_item_ids }))
    }

    async fn get_index_status(
        &self,
        _: Request<proto::GetIndexStatusRequest>,
    ) -> Result<Response<proto::GetIndexStatusResponse>, Status> {
        Ok(Response::new(wire::status_response(&self.config.index.name, &self.current.load(), &self.troubles.now())))
    }
}
