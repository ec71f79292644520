//! The one place where the parts are put together.

use std::{future::Future, io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use pagoda_commit_log::{Store, StoreError};
use pagoda_inference::Tower;
use pagoda_model::Side;
use pagoda_proto::{
    recall::v1::recall_service_server::RecallServiceServer, user::v1::user_tower_service_server::UserTowerServiceServer,
};
use pagoda_registry::{Registry, RegistryError};
use pagoda_server::{GrpcServer, config::ServiceConfig, serve::ServeError};
use tokio::net::TcpListener;

use crate::{
    active::HeldSpaces,
    config::Config,
    follow::{self, RegistryFollower},
    grpc::Grpc,
    index::Index,
    recall::Entrance,
    users::Users,
};

/// Why the service did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store cannot be opened.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The registry cannot be opened.
    #[error("registry: {0}")]
    Registry(#[from] RegistryError),
    /// The tower's threads cannot be started.
    #[error("tower threads: {0}")]
    Threads(#[from] io::Error),
    /// The address of the index is none.
    #[error("peers.index: {0}")]
    Index(tonic::transport::Error),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves until `shutdown` resolves and calls under way have ended.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    let registry = Registry::open(Store::open(&config.store.url)?).await?;
    let entrance = Arc::new(entrance(&config)?);
    let mut server = GrpcServer::new(config.sections());
    let ready = server.readiness();
    let models_max = config.registry.models_max;
    let follower = RegistryFollower::new(registry, entrance.clone(), models_max);
    let registry_poll = Duration::from_millis(config.registry.poll_ms);
    let index_poll = Duration::from_millis(config.index.poll_ms);
    let tasks = [
        tokio::spawn(follow::registry(follower, registry_poll)),
        tokio::spawn(follow::index(entrance.clone(), index_poll)),
        tokio::spawn(follow::readiness(entrance.clone(), ready)),
    ];
    add_services(&mut server, &config, entrance);
    let ended = server.serve(listener, shutdown).await;
    tasks.iter().for_each(|task| task.abort());
    Ok(ended?)
}

fn entrance(config: &Config) -> Result<Entrance, AppError> {
    let connect_timeout = Duration::from_millis(config.index.connect_timeout_ms);
    Ok(Entrance {
        tower: Tower::start(Side::User, (&config.tower).into())?,
        users: Users::default(),
        held: HeldSpaces::new(),
        registry_trouble: ArcSwapOption::empty(),
        index: Index::connect_lazily(&config.peers.index, connect_timeout).map_err(AppError::Index)?,
    })
}

fn add_services(server: &mut GrpcServer, config: &Config, entrance: Arc<Entrance>) {
    let deadline_default = Duration::from_millis(config.limits.deadline_ms_default);
    let grpc = Grpc { entrance, k_limit: config.recall.k_limit, deadline_default };
    let message_bytes_max = config.limits.message_bytes_max;
    server.add(RecallServiceServer::new(grpc.clone()).max_decoding_message_size(message_bytes_max), &[]);
    server.add(UserTowerServiceServer::new(grpc).max_decoding_message_size(message_bytes_max), &[]);
}
