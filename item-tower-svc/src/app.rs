//! The one composition root: store, registry, tower, index client, refreshes, service, server.

use std::{
    future::Future,
    io,
    sync::OnceLock,
    time::{Duration, Instant},
};

use pagoda_commit_log::Store;
use pagoda_inference::{Tower, TowerLimits};
use pagoda_model::Side;
use pagoda_proto::item::v1::item_tower_service_server::ItemTowerServiceServer;
use pagoda_registry::Registry;
use pagoda_server::{GrpcServer, config::ServiceConfig, serve::ServeError};
use tokio::net::TcpListener;

use crate::{
    catalog::Catalogs,
    config::{self, Config},
    error::ItemTowerError,
    grpc::ItemTowerService,
    index_client::IndexClient,
    models::Models,
    refresh::{Journal, Refresher, Refreshes, Settings, figures},
};

/// The rpcs that last as long as a refresh.
const LONG_METHODS: [&str; 1] = ["WatchRefresh"];

/// Why the item tower did not run, or did not run on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The parts could not be put together.
    #[error(transparent)]
    ItemTower(#[from] ItemTowerError),
    /// A thread could not be started.
    #[error("cannot start the tower's threads: {0}")]
    Threads(#[from] io::Error),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// All parts, put together.
#[derive(Clone, Debug)]
pub struct App {
    /// The models of the registry.
    pub models: Models,
    /// The tower that serves calls.
    pub tower: Tower,
    /// The index.
    pub index: IndexClient,
    /// The refreshes of this process.
    pub refreshes: Refreshes,
}

impl App {
    /// Opens the store of the settings and builds on it.
    pub async fn build(config: &Config) -> Result<Self, AppError> {
        let store = Store::open(&config.store.url).map_err(ItemTowerError::from)?;
        Self::build_on(store, config).await
    }

    /// As [`Self::build`], on a store of the caller's. index-svc need not be there yet.
    pub async fn build_on(store: Store, config: &Config) -> Result<Self, AppError> {
        store.probe_create_only().await.map_err(ItemTowerError::from)?;
        let registry = Registry::open(store.clone()).await.map_err(ItemTowerError::from)?;
        let tower = Tower::start(Side::Item, tower_limits(&config.tower))?;
        let models = Models::new(registry.clone(), tower.clone(), config.models.loaded_max);
        let index = IndexClient::new(&config.peers.index, &config.limits)?;
        let refresher = Refresher {
            catalogs: Catalogs::new(registry),
            models: models.clone(),
            index: index.clone(),
            journal: Journal::open(store).await?,
            settings: Settings::from(&config.refresh),
        };
        Ok(Self { models, tower, index, refreshes: Refreshes::new(refresher) })
    }
}

/// Serves until `shutdown` resolves, then cancels the refresh under way and drains.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    let app = App::build(&config).await?;
    run_on(app, &config, listener, shutdown).await
}

/// As [`run`], with parts of the caller's.
pub async fn run_on(
    app: App,
    config: &Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AppError> {
    let mut server = GrpcServer::new(config.sections());
    let service = ItemTowerServiceServer::new(ItemTowerService::new(app.clone()));
    server.add(service.max_decoding_message_size(config.limits.message_bytes_max), &LONG_METHODS);
    // Ready without a model: the service is how a person learns that there is none.
    server.readiness().set_ready(true);
    let refreshes = app.refreshes.clone();
    let grace = Duration::from_millis(config.drain.grace_ms);
    let deadline = OnceLock::new();
    let stop = async {
        shutdown.await;
        deadline.get_or_init(|| Instant::now() + grace);
        refreshes.close();
    };
    figures::describe();
    let poll = Duration::from_millis(config.models.poll_ms);
    tokio::select! {
        served = server.serve(listener, stop) => served?,
        never = app.models.follow(poll) => match never {},
        never = app.refreshes.follow(poll) => match never {},
    }
    // One grace for both: who ends this process waits no longer.
    let left = deadline.get().map_or(grace, |deadline| deadline.saturating_duration_since(Instant::now()));
    if tokio::time::timeout(left, app.refreshes.idle()).await.is_err() {
        tracing::warn!("a refresh was still publishing when the grace had passed");
    }
    Ok(())
}

fn tower_limits(tower: &config::Tower) -> TowerLimits {
    TowerLimits { queue_capacity: tower.queue_capacity, batch_max: tower.batch_max, threads: tower.threads }
}
