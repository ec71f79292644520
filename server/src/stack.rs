//! The layer stack around each gRPC service, in one place.
//!
//! It stands around one service at a time, so that health and reflection are never shed.

mod deadline;
mod metrics;
mod status;
mod trace;

use std::{convert::Infallible, marker::PhantomData, sync::Arc, task::Context, task::Poll};

use tonic::{body::Body, server::NamedService};
use tower::{
    BoxError, Service, ServiceBuilder, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
    util::BoxCloneSyncService,
};

pub use deadline::Deadline;
pub(crate) use metrics::describe as describe_metrics;

use crate::config::Limits;

/// A request as it passes through the layers.
pub(crate) type Request = http::Request<Body>;
/// A reply as it passes through the layers.
pub(crate) type Response = http::Response<Body>;

/// A gRPC service with the stack around it.
pub(crate) struct Guarded<S> {
    inner: BoxCloneSyncService<Request, Response, Infallible>,
    service: PhantomData<fn() -> S>,
}

/// Puts the stack around one gRPC service. `long_methods` are the rpcs that obey `limits.deadline_ms_long`.
pub(crate) fn guard<S>(service: S, limits: &Limits, long_methods: &[&'static str]) -> Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let deadlines = Arc::new(deadline::Deadlines::new(limits, long_methods));
    let inner = ServiceBuilder::new()
        // Outermost, so that everything below logs inside the call's span.
        .layer_fn(trace::Trace::new)
        // Outside of all that answers by itself, so that sheds and time-outs are counted like any other reply.
        .layer_fn(metrics::Metrics::new)
        // Turns the errors and panics of the layers below into gRPC statuses: a caller never sees a dead connection.
        .layer_fn(status::Statuses::new)
        // Outside of the queueing layers, so that time spent waiting counts.
        .layer_fn(move |inner| deadline::WithDeadline::new(inner, deadlines.clone()))
        // Outside of the limit: it sheds exactly when the limit is not ready.
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(limits.concurrency))
        .map_err(|never: Infallible| -> BoxError { match never {} })
        .service(service);
    Guarded { inner: BoxCloneSyncService::new(inner), service: PhantomData }
}

impl<S> Clone for Guarded<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), service: PhantomData }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request> for Guarded<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.inner.call(request)
    }
}
