//! The gRPC face: each rpc reads top to bottom as wire, work, wire.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use pagoda_proto::index::v1::{
    self as proto, build_generation_request::Message, index_service_server::IndexService as Rpcs,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    build::Incoming,
    committer::Committer,
    config::Config,
    error::IndexError,
    generation::{Generations, blocking},
    replica::Current,
    search::Searcher,
    wire,
};

/// Builds that run at once: each holds a whole catalog in memory.
const BUILDS_AT_ONCE: usize = 1;

/// Serves `pagoda.index.v1.IndexService`.
#[derive(Clone, Debug)]
pub struct IndexService {
    config: Arc<Config>,
    current: Current,
    searcher: Searcher,
    committer: Committer,
    generations: Generations,
    builds: Arc<Semaphore>,
}

impl IndexService {
    /// Puts the service together; see [`crate::app`].
    pub fn new(config: Arc<Config>, current: Current, committer: Committer, generations: Generations) -> Self {
        let searcher = Searcher::new(current.clone(), crate::config::or_cores(config.search.threads));
        Self { config, current, searcher, committer, generations, builds: Arc::new(Semaphore::new(BUILDS_AT_ONCE)) }
    }

    /// BuildGeneration, for any stream of messages.
    pub async fn build(
        &self,
        messages: impl Stream<Item = Result<proto::BuildGenerationRequest, Status>> + Send,
    ) -> Result<proto::BuildGenerationResponse, Status> {
        let permit = self.builds.clone().try_acquire_owned();
        let _permit = permit.map_err(|_| IndexError::Overloaded("another generation is being built"))?;
        let incoming = self.receive(messages).await?;
        let settings = self.config.build.clone();
        let generation = blocking(move || incoming.finish(&settings)).await?;
        let (id, manifest) = self.generations.save(generation).await?;
        tracing::info!(generation = %id, report = ?manifest.report, "built");
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
                Incoming::new(wire::header(header, lsn, self.config.build.values_max)?)
            }
            Some(Message::Batch(_)) => return Err(wire::out_of_order("the header first", "a batch").into()),
            None => return Err(wire::out_of_order("the header first", "nothing").into()),
        };
        while let Some(message) = messages.next().await {
            match message?.message {
                Some(Message::Batch(batch)) => incoming.push(wire::batch(batch, incoming.header().embedding_dim)?)?,
                Some(Message::Header(_)) => return Err(wire::out_of_order("a batch", "a second header").into()),
                None => return Err(wire::out_of_order("a batch", "nothing").into()),
            }
        }
        Ok(incoming)
    }
}

#[tonic::async_trait]
impl Rpcs for IndexService {
    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        let query = wire::search_request(request.into_inner(), self.config.search.k_limit)?;
        let space = query.space;
        let answer = self.searcher.search(query).await?;
        let held = answer.snapshot.space(space)?;
        Ok(Response::new(wire::search_response(&answer, held)))
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
        let id = wire::publish_request(request.get_ref())?;
        let loaded = self.generations.load(&id).await?;
        let lsn = self.committer.publish(loaded).await?.0;
        Ok(Response::new(proto::PublishGenerationResponse { lsn }))
    }

    async fn upsert(&self, request: Request<proto::UpsertRequest>) -> Result<Response<proto::UpsertResponse>, Status> {
        let write = wire::upsert_request(request.into_inner(), &self.current.load())?;
        let lsn = self.committer.write(write).await?.0;
        Ok(Response::new(proto::UpsertResponse { lsn }))
    }

    async fn delete(&self, request: Request<proto::DeleteRequest>) -> Result<Response<proto::DeleteResponse>, Status> {
        let write = wire::delete_request(request.into_inner())?;
        let lsn = self.committer.write(write).await?.0;
        Ok(Response::new(proto::DeleteResponse { lsn }))
    }

    async fn get_index_status(
        &self,
        _: Request<proto::GetIndexStatusRequest>,
    ) -> Result<Response<proto::GetIndexStatusResponse>, Status> {
        Ok(Response::new(wire::status_response(&self.config.index.name, &self.current.load())))
    }
}
