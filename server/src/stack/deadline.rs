//! One deadline for all of a call, which handlers can read and pass on.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tower::{BoxError, Service};

use super::{Request, Response};
use crate::config::Limits;

/// When the call must have been answered; found in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The deadline of a request that came through the stack; one that did not has none, and gets `otherwise` from now.
    pub fn of<T>(request: &tonic::Request<T>, otherwise: Duration) -> Self {
        request.extensions().get().copied().unwrap_or_else(|| Self(Instant::now() + otherwise))
    }

    /// The time left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The deadline passed before there was an answer.
#[derive(Debug, thiserror::Error)]
#[error("deadline passed")]
pub(super) struct DeadlinePassed;

/// The server's limits on deadlines.
pub(super) struct Deadlines {
    default: Duration,
    max: Duration,
    long: Duration,
    long_methods: Vec<&'static str>,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits, long_methods: &[&'static str]) -> Self {
        Self {
            default: Duration::from_millis(limits.deadline_ms_default),
            max: Duration::from_millis(limits.deadline_ms_max),
            long: Duration::from_millis(limits.deadline_ms_long),
            long_methods: long_methods.to_vec(),
        }
    }

    /// The time that a call gets: the caller's wish within the server's limits; the default without a wish or with one that makes no sense.
    fn for_request(&self, request: &Request) -> Duration {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let (default, max) =
            if self.long_methods.contains(&method) { (self.long, self.long) } else { (self.default, self.max) };
        let wish =
            request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_grpc_timeout);
        wish.map_or(default, |wish| early(wish).min(max))
    }
}

#[derive(Clone)]
pub(super) struct WithDeadline<S> {
    inner: S,
    deadlines: Arc<Deadlines>,
}

impl<S> WithDeadline<S> {
    pub(super) fn new(inner: S, deadlines: Arc<Deadlines>) -> Self {
        Self { inner, deadlines }
    }
}

impl<S> Service<Request> for WithDeadline<S>
where
    S: Service<Request, Response = Response, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let deadline = Instant::now() + self.deadlines.for_request(&request);
        request.extensions_mut().insert(Deadline(deadline));
        let reply = tokio::time::timeout_at(deadline.into(), self.inner.call(request));
        Box::pin(async move { reply.await.map_err(|_| DeadlinePassed)? })
    }
}

/// tonic's own timers, on this side started before ours and on the caller's, answer CANCELLED. We are early by a tenth or
/// 10 ms, so that the caller reads DEADLINE_EXCEEDED.
fn early(wish: Duration) -> Duration {
    wish - (wish / 10).min(Duration::from_millis(10))
}

/// Reads `grpc-timeout`: 1 to 8 digits and a unit, see "gRPC over HTTP2", Requests.
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_for(path: &str, timeout: Option<&str>) -> Duration {
        let limits = Limits {
            concurrency: 1,
            message_bytes_max: 1024,
            deadline_ms_default: 100,
            deadline_ms_max: 1000,
            deadline_ms_long: 60_000,
        };
        let mut request = http::Request::builder().uri(path);
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        Deadlines::new(&limits, &["Watch"]).for_request(&request.body(tonic::body::Body::empty()).unwrap())
    }

    #[test]
    fn deadlines_stay_within_the_limits() {
        let ms = Duration::from_millis;
        assert_eq!(time_for("/a.B/C", None), ms(100));
        assert_eq!(time_for("/a.B/C", Some("50m")), ms(45));
        assert_eq!(time_for("/a.B/C", Some("99999999H")), ms(1000));
        assert_eq!(time_for("/a.B/C", Some("0n")), ms(0));
        assert_eq!(time_for("/a.B/Watch", None), ms(60_000));
        assert_eq!(time_for("/a.B/Watch", Some("99999999H")), ms(60_000));
        for absurd in ["", "m", "-1m", "123456789m", "1x", "1.5S", "9é"] {
            assert_eq!(time_for("/a.B/C", Some(absurd)), ms(100), "{absurd}");
        }
    }
}
