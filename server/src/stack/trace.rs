//! A span a call, with what became of it.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use tonic::{Code, Status};
use tower::Service;
use tracing::Instrument;

use super::{Request, Response};

#[derive(Clone)]
pub(super) struct Trace<S> {
    inner: S,
}

impl<S> Trace<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request> for Trace<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let span = tracing::info_span!("rpc", path = request.uri().path());
        let started = Instant::now();
        let reply = self.inner.call(request);
        let logged = async move {
            let reply = reply.await;
            if let Ok(response) = &reply {
                log_end(response, started);
            }
            reply
        };
        Box::pin(logged.instrument(span))
    }
}

/// Only what a human must look at is an ERROR; everything else is for whoever turns on `debug`.
fn log_end(response: &Response, started: Instant) {
    let elapsed_us = started.elapsed().as_micros() as u64;
    let status = Status::from_header_map(response.headers());
    match status {
        Some(status) if matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss) => {
            tracing::error!(code = ?status.code(), message = status.message(), elapsed_us, "call failed");
        }
        Some(status) => tracing::debug!(code = ?status.code(), message = status.message(), elapsed_us, "call answered"),
        None => tracing::debug!(code = "Ok", elapsed_us, "call answered"),
    }
}
