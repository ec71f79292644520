//! Errors and panics of the layers below become gRPC statuses.

use std::{
    any::Any,
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tonic::{Code, Status};
use tower::{BoxError, Service, load_shed::error::Overloaded};

use super::{Request, Response, deadline::DeadlinePassed};
use crate::status::retryable;

/// How long a caller that was shed is asked to wait.
const SHED_RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Statuses<S> {
    inner: S,
}

impl<S> Statuses<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request> for Statuses<S>
where
    S: Service<Request, Response = Response, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The shed below is always ready; it refuses in `call`.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let reply = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let status = match reply.await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => status_of(error),
                Err(panic) => panicked(panic.as_ref()),
            };
            Ok(status.into_http())
        })
    }
}

fn status_of(error: BoxError) -> Status {
    if error.is::<DeadlinePassed>() {
        Status::deadline_exceeded("the call's deadline, or the server's limit, passed")
    } else if error.is::<Overloaded>() {
        retryable(Code::ResourceExhausted, "too many calls at once", "OVERLOADED", SHED_RETRY_AFTER)
    } else {
        Status::from_error(error)
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("of an unknown kind"), "a handler panicked");
    Status::internal("the server failed on this call; its log says why")
}
