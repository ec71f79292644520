//! The gRPC server: our services behind the stack, health, reflection, and an orderly end.

use std::{convert::Infallible, future::Future, time::Duration};

use tokio::{net::TcpListener, sync::oneshot};
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::server::HealthReporter;
use tower::Service;

use crate::{
    config::{Limits, Sections},
    connections::{self, Patience},
    readiness::{self, Readiness},
    stack::{self, Request, Response},
};

/// HTTP/2 streams of one connection: beyond it a client waits.
const STREAMS_PER_CONNECTION: u32 = 1024;
/// The headers of one call, in bytes.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// How often a silent peer is asked whether it is there, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Connections at once, and how long one may take to say that it speaks HTTP/2.
const PATIENCE: Patience = Patience { connections_max: 16_384, preface: Duration::from_secs(10) };
/// Connections that were reset before they were accepted, against a reset flood.
const PENDING_RESETS_MAX: usize = 64;

/// Why the server did not run, or did not run on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Reflection cannot read the descriptor set.
    #[error("descriptor set: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("grpc transport: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A server under construction.
pub struct GrpcServer {
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    limits: Limits,
    grace: Duration,
    readiness: Readiness,
}

impl GrpcServer {
    /// A server without services, and not ready.
    pub fn new(sections: Sections<'_>) -> Self {
        Self {
            routes: Routes::builder(),
            services: Vec::new(),
            limits: sections.limits.clone(),
            grace: Duration::from_millis(sections.drain.grace_ms),
            readiness: Readiness::new(),
        }
    }

    /// The handle with which the service says whether it can answer.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Adds a service behind the stack. `long_methods` are its rpcs that are long by nature, e.g. `WatchRefresh`.
    /// The service itself limits its messages: `XServer::new(..).max_decoding_message_size(limits.message_bytes_max)`.
    pub fn add<S>(&mut self, service: S, long_methods: &[&'static str])
    where
        S: Service<Request, Response = Response, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.services.push(S::NAME);
        self.routes.add_service(stack::guard(service, &self.limits, long_methods));
    }

    /// Serves until `shutdown` resolves, then drains: health says NOT_SERVING, no new connections, calls may end within the grace.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let reporter = self.add_health_and_reflection()?;
        readiness::report(&reporter, &self.services, self.readiness.is_ready()).await;
        let follower = tokio::spawn(self.readiness.clone().follow(reporter.clone(), self.services.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = Box::pin(
            transport()
                .add_routes(self.routes.routes())
                .serve_with_incoming_shutdown(connections::accepted(listener, PATIENCE), async { drop(stopped.await) }),
        );
        let ended = tokio::select! {
            ended = &mut server => Some(ended),
            () = shutdown => None,
        };
        follower.abort();
        if let Some(ended) = ended {
            return Ok(ended?);
        }
        tracing::info!(grace_ms = self.grace.as_millis() as u64, "draining");
        readiness::report(&reporter, &self.services, false).await;
        drop(stop);
        drain(server, self.grace).await
    }

    fn add_health_and_reflection(&mut self) -> Result<HealthReporter, ServeError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        self.routes
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        Ok(reporter)
    }
}

/// tonic's graceful shutdown can hang on a connection that never ends (hyper#4170): the grace is a hard limit.
async fn drain(
    server: impl Future<Output = Result<(), tonic::transport::Error>>,
    grace: Duration,
) -> Result<(), ServeError> {
    match tokio::time::timeout(grace, server).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            tracing::info!("connections were still open when the grace had passed, closing them");
            Ok(())
        }
    }
}

fn transport() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pagoda_proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests;
