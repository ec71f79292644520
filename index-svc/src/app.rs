//! The one composition root: store, replica, committer, service, server.

use std::{future::Future, sync::Arc, time::Duration};

use pagoda_commit_log::Store;
use pagoda_proto::index::v1::index_service_server::IndexServiceServer;
use pagoda_server::{GrpcServer, config::ServiceConfig, serve::ServeError};
use tokio::net::TcpListener;

use crate::{committer::Committer, config::Config, error::IndexError, grpc::IndexService, replica::Replica};

/// The rpcs that take as long as a catalog is large.
const LONG_METHODS: [&str; 2] = ["BuildGeneration", "PublishGeneration"];

/// Why the index did not run, or did not run on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The state could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Replays the log, then serves until `shutdown` resolves, then drains.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    let mut server = GrpcServer::new(config.sections());
    let message_bytes_max = config.limits.message_bytes_max;
    let service = build(config).await?;
    server.add(IndexServiceServer::new(service).max_decoding_message_size(message_bytes_max), &LONG_METHODS);
    server.readiness().set_ready(true);
    Ok(server.serve(listener, shutdown).await?)
}

/// Opens the store, replays the log and starts the committing task.
pub async fn build(config: Config) -> Result<IndexService, IndexError> {
    let store = Store::open(&config.store.url)?;
    build_on(store, config).await
}

/// As [`build`], on a store of the caller's.
pub async fn build_on(store: Store, config: Config) -> Result<IndexService, IndexError> {
    store.probe_create_only().await?;
    let replica = Replica::open(store, &config.index.name).await?;
    let (current, generations) = (replica.current(), replica.generations());
    tracing::info!(lsn = %current.load().lsn, spaces = current.load().spaces.len(), "replayed the log");
    let committer = Committer::start(replica, config.write.clone(), Duration::from_millis(config.index.poll_ms));
    Ok(IndexService::new(Arc::new(config), current, committer, generations))
}
