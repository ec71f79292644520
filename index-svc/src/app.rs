//! The one composition root: store, replica, committer, service, server.

use std::{future::Future, sync::Arc};

use pagoda_commit_log::{Access, LogError, Store, StoreError};
use pagoda_proto::index::v1::index_service_server::IndexServiceServer;
use pagoda_server::{GrpcServer, Readiness, config::ServiceConfig, serve::ServeError};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    builder::Builder,
    collector,
    committer::Committer,
    compaction,
    config::{Config, Role},
    current::Current,
    error::IndexError,
    figures,
    generation::Generations,
    grpc::{IndexService, Parts},
    listing::Listing,
    publisher::Publisher,
    replica::Replica,
    search::live_recall,
    troubles::{Known, Troubles},
};

/// The rpcs that take as long as a catalog is large.
const LONG_METHODS: [&str; 3] = ["BuildGeneration", "PublishGeneration", "RollbackGeneration"];

/// Why the index did not run, or did not run on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The state could not be read.
    #[error("cannot start: {}{}", .0, way_out(.0))]
    Index(#[from] IndexError),
    /// The task that writes and follows the log panicked.
    #[error(
        "what writes to the log and follows it has ended, by a fault that the log above tells: this process is of no use any more"
    )]
    Ended,
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// How to go on where this process may not write.
fn way_out(error: &IndexError) -> &'static str {
    let IndexError::Store(source) = error else { return "" };
    match **source {
        LogError::Store(StoreError::Denied { access: Access::Write, .. }) => {
            "; nothing is served. Give this process the right to write there, or, where it is to search alone, set index.roles to [\"search\"]"
        }
        _ => "",
    }
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
    server.readiness().set_ready(is_ready(&service.troubles().now()));
    let follower = tokio::spawn(follow_readiness(service.troubles(), server.readiness()));
    let ended = service.ended();
    server.add(IndexServiceServer::new(service).max_decoding_message_size(message_bytes_max), &LONG_METHODS);
    let served = tokio::select! {
        served = server.serve(listener, shutdown) => served.map_err(AppError::from),
        () = ended => Err(AppError::Ended),
    };
    follower.abort();
    served
}

/// Ready is who answers from what was published, however old, and who waits for the first generation; not who cannot load any.
fn is_ready(known: &Known) -> bool {
    !known.serves_nothing
}

async fn follow_readiness(troubles: Troubles, readiness: Readiness) {
    let mut changes = troubles.changes();
    loop {
        readiness.set_ready(is_ready(&changes.borrow_and_update()));
        // The sender lives in `troubles`: this cannot fail.
        let _ = changes.changed().await;
    }
}

/// Opens the store, replays the log and starts the tasks that go on in the background.
pub async fn build(config: Config) -> Result<IndexService, IndexError> {
    let store = Store::open(&config.store.url)?;
    build_on(store, config).await
}

/// As [`build`], on a store of the caller's.
pub async fn build_on(store: Store, config: Config) -> Result<IndexService, IndexError> {
    figures::describe();
    live_recall::describe();
    let replica = Replica::open(store, &config).await?;
    let (current, generations, troubles) = (replica.current(), replica.generations(), replica.troubles());
    tracing::info!(lsn = %current.load().lsn, spaces = current.load().spaces.len(), "replayed the log");
    let committer = Committer::start(replica, &config);
    let config = Arc::new(config);
    let builder = Builder::new(config.clone(), current.clone(), generations.clone());
    let publisher = Publisher::new(&config, current.clone(), committer.clone(), generations.clone());
    let listing = Listing::new(config.clone(), current.clone(), generations.clone());
    let keepers = Keepers::start(&config, &current, &builder, &publisher, &generations);
    Ok(IndexService::new(Parts { config, current, troubles, committer, builder, publisher, listing, keepers }))
}

/// The tasks that keep the index small; they end with it.
#[derive(Debug)]
pub struct Keepers(Vec<JoinHandle<()>>);

impl Keepers {
    /// Starts those that the roles ask for. Compaction needs all three: it builds from what is searched, and publishes.
    fn start(
        config: &Arc<Config>,
        current: &Current,
        builder: &Builder,
        publisher: &Publisher,
        generations: &Generations,
    ) -> Self {
        let has = |role| config.index.has(role);
        let mut tasks = Vec::new();
        if has(Role::Search) && has(Role::Build) && has(Role::Write) {
            let (config, current) = (config.clone(), current.clone());
            let compaction = compaction::run(config, current, generations.clone(), builder.clone(), publisher.clone());
            tasks.push(tokio::spawn(compaction));
        } else if has(Role::Write) {
            tracing::info!(
                "this process does not compact: that takes the roles search, build and write in one process, and some process should have them"
            );
        }
        if has(Role::Write) {
            tasks.push(tokio::spawn(collector::run(config.clone(), current.clone(), generations.clone())));
        }
        Self(tasks)
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
