//! A channel to one service that keeps nobody waiting: a call has a deadline, a peer that fell silent is noticed, and what goes wrong on the way names
//! the service and its address.

use std::{
    net::SocketAddr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, StdError, http},
    transport::{Channel, Endpoint},
};

/// How long a call may take where nobody says otherwise: as long as a service gives itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long connecting may take, unless a call may take less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The rpcs that are waited for as long as the service is there, since they last as long as a generation takes to load.
const LONG_METHODS: [&str; 2] = ["PublishGeneration", "RollbackGeneration"];

/// A connection to a service. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct ServiceChannel {
    channel: Channel,
    peer: Peer,
    deadline: Duration,
}

/// Who is at the other end, as messages say it.
#[derive(Clone, Copy, Debug)]
struct Peer {
    name: &'static str,
    address: SocketAddr,
}

impl ServiceChannel {
    /// Connects to a service; each call on it has `deadline` to be answered. In long work a service that said nothing for so long is asked whether it is
    /// there, and has as long again to say so.
    pub(crate) async fn connect(name: &'static str, address: SocketAddr, deadline: Duration) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT.min(deadline))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(deadline)
            .keep_alive_timeout(deadline)
            .connect()
            .await
            .with_context(|| format!("{name} does not answer at {address}; is `pagoda up` still running?"))?;
        Ok(Self { channel, peer: Peer { name, address }, deadline })
    }
}

impl Service<http::Request<Body>> for ServiceChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let peer = self.peer;
        self.channel.poll_ready(context).map_err(|error| peer.broke_off(error.into()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let (peer, deadline) = (self.peer, self.deadline);
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if LONG_METHODS.contains(&method) {
            let call = self.channel.call(request);
            return Box::pin(async move { call.await.map_err(|error| peer.broke_off(error.into())) });
        }
        // The service, too, learns how long it has.
        if let Ok(limit) = format!("{}m", deadline.as_millis()).parse() {
            request.headers_mut().insert("grpc-timeout", limit);
        }
        let (call, began) = (self.channel.call(request), Instant::now());
        Box::pin(async move {
            match tokio::time::timeout(deadline, call).await {
                Ok(Ok(reply)) => Ok(reply),
                // The channel keeps to the same deadline.
                Ok(Err(error)) if began.elapsed() < deadline => Err(peer.broke_off(error.into())),
                _ => Err(peer.silent(deadline)),
            }
        })
    }
}

impl Peer {
    fn silent(self, deadline: Duration) -> Status {
        let Self { name, address } = self;
        let deadline = humantime::format_duration(deadline);
        Status::deadline_exceeded(format!(
            "{name} does not answer at {address}: nothing came within {deadline} (--deadline-ms)"
        ))
    }

    fn broke_off(self, error: StdError) -> Status {
        let Self { name, address } = self;
        let status = Status::from_error(error);
        Status::new(status.code(), format!("the connection to {name} at {address} failed: {}", status.message()))
    }
}

#[cfg(test)]
mod tests {
    use pagoda_proto::index::v1::{
        ListGenerationsRequest, PublishGenerationRequest, index_service_client::IndexServiceClient,
    };
    use tokio::net::TcpListener;
    use tonic::Code;

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn nobody_waits_for_a_service_that_accepts_and_says_nothing() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let channel = ServiceChannel::connect("index-svc", address, SHORT).await.unwrap();
        let mut index = IndexServiceClient::new(channel);
        let began = Instant::now();
        let status = index.list_generations(ListGenerationsRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let expected = format!("index-svc does not answer at {address}: nothing came within 200ms");
        assert!(status.message().contains(&expected), "{status}");
        let long = index.publish_generation(PublishGenerationRequest::default()).await.unwrap_err();
        assert!(long.message().contains(&format!("index-svc at {address} failed")), "{long}");
        assert!(began.elapsed() < 50 * SHORT, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_breaks_off_names_the_service() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let channel = ServiceChannel::connect("index-svc", address, DEADLINE).await.unwrap();
        tokio::spawn(async move { drop((listener.accept().await, listener)) });
        let mut index = IndexServiceClient::new(channel);
        let status = index.list_generations(ListGenerationsRequest::default()).await.unwrap_err();
        assert!(status.message().contains(&format!("index-svc at {address} failed")), "{status}");
    }
}
