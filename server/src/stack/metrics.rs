//! Counts and times of calls, by rpc and code.
//!
//! The code is that of the reply's head: a stream that fails later was counted as begun well.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Instant,
};

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use futures::future::BoxFuture;
use tonic::{Code, Status};
use tower::Service;

use super::{Request, Response};
use crate::descriptors::service_and_method;

const IN_FLIGHT: &str = "grpc_server_in_flight";
const HANDLED: &str = "grpc_server_handled_total";
const HANDLING: &str = "grpc_server_handling_seconds";

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

/// Says what each of these is.
pub(crate) fn describe() {
    describe_gauge!(IN_FLIGHT, Unit::Count, "Calls that are being worked on.");
    describe_counter!(HANDLED, Unit::Count, "Calls that ended, by what they were answered.");
    describe_histogram!(HANDLING, Unit::Seconds, "What calls took, up to the head of the reply.");
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
        gauge!(IN_FLIGHT, "service" => service.to_owned()).increment(1.0);
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
        gauge!(IN_FLIGHT, "service" => labels[0].1.clone()).decrement(1.0);
        counter!(HANDLED, &labels).increment(1);
        histogram!(HANDLING, &labels).record(self.started.elapsed());
    }
}
