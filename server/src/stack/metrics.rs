//! Counts and times of calls, by rpc and code.
//!
//! The code is that of the reply's head: a stream that fails later was counted as begun well.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use tonic::{Code, Status};
use tower::Service;

use super::{Request, Response};
use crate::descriptors::service_and_method;

#[derive(Clone)]
pub(super) struct Metrics<S> {
    inner: S,
}

impl<S> Metrics<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request> for Metrics<S>
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
        let mut record = CallRecord::begin(request.uri().path());
        let reply = self.inner.call(request);
        Box::pin(async move {
            let reply = reply.await;
            record.answered(code_of(&reply));
            reply
        })
    }
}

fn code_of(reply: &Result<Response, Infallible>) -> Code {
    let status = reply.as_ref().ok().and_then(|response| Status::from_header_map(response.headers()));
    status.map_or(Code::Ok, |status| status.code())
}

/// Records when dropped, because tonic drops the call's future when the client goes away.
struct CallRecord {
    service: String,
    method: String,
    code: Code,
    started: Instant,
}

impl CallRecord {
    fn begin(path: &str) -> Self {
        let (service, method) = service_and_method(path);
        metrics::gauge!("grpc_server_in_flight", "service" => service.to_owned()).increment(1.0);
        Self { service: service.to_owned(), method: method.to_owned(), code: Code::Cancelled, started: Instant::now() }
    }

    fn answered(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let labels = [
            ("service", std::mem::take(&mut self.service)),
            ("method", std::mem::take(&mut self.method)),
            ("code", format!("{:?}", self.code)),
        ];
        metrics::gauge!("grpc_server_in_flight", "service" => labels[0].1.clone()).decrement(1.0);
        metrics::counter!("grpc_server_handled_total", &labels).increment(1);
        metrics::histogram!("grpc_server_handling_seconds", &labels).record(self.started.elapsed());
    }
}
