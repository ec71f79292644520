//! A real server on port 0 with a tiny user tower whose behaviour follows the user's id.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pagoda_proto::{
    feature::v1::Entity,
    user::v1::{
        EmbedUsersRequest, EmbedUsersResponse, GetUserTowerStatusRequest, GetUserTowerStatusResponse,
        user_tower_service_client::UserTowerServiceClient,
        user_tower_service_server::{UserTowerService, UserTowerServiceServer},
    },
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

use super::*;
use crate::config::{Drain, Listen, Log, LogFormat};

#[derive(Default)]
struct Tiny {
    entered: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
}

struct NoteDrop(Arc<AtomicBool>);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl UserTowerService for Tiny {
    /// `sleep` waits for a second, `panic` panics, `deadline` says how long the call may take.
    async fn embed_users(&self, request: Request<EmbedUsersRequest>) -> Result<Response<EmbedUsersResponse>, Status> {
        let deadline = crate::Deadline::of(&request, Duration::ZERO);
        self.entered.store(true, Ordering::SeqCst);
        let _note = NoteDrop(self.dropped.clone());
        match request.get_ref().users.first().map(|user| user.id.as_str()) {
            Some("sleep") => tokio::time::sleep(Duration::from_secs(1)).await,
            Some("panic") => panic!("on purpose"),
            Some("deadline") => return Err(Status::aborted(deadline.remaining().as_millis().to_string())),
            _ => {}
        }
        Ok(Response::new(EmbedUsersResponse::default()))
    }

    /// Long by nature.
    async fn get_user_tower_status(
        &self,
        request: Request<GetUserTowerStatusRequest>,
    ) -> Result<Response<GetUserTowerStatusResponse>, Status> {
        let known_users = crate::Deadline::of(&request, Duration::ZERO).remaining().as_millis() as u64;
        Ok(Response::new(GetUserTowerStatusResponse { known_users, ..Default::default() }))
    }
}

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    entered: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> UserTowerServiceClient<Channel> {
        UserTowerServiceClient::new(self.channel().await)
    }

    async fn health(&self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.into() };
        HealthClient::new(self.channel().await).check(request).await.unwrap().into_inner().status()
    }
}

async fn start(concurrency: usize, grace_ms: u64) -> Running {
    let listen = Listen { address: String::new(), metrics_address: String::new() };
    let limits = Limits {
        concurrency,
        message_bytes_max: 4096,
        deadline_ms_default: 300,
        deadline_ms_max: 3000,
        deadline_ms_long: 60_000,
    };
    let log = Log { format: LogFormat::Text, filter: "info".into(), name: String::new() };
    let drain = Drain { grace_ms };
    let mut server = GrpcServer::new(Sections { listen: &listen, limits: &limits, drain: &drain, log: &log });
    let tiny = Tiny::default();
    let (entered, dropped) = (tiny.entered.clone(), tiny.dropped.clone());
    let service = UserTowerServiceServer::new(tiny).max_decoding_message_size(limits.message_bytes_max);
    server.add(service, &["GetUserTowerStatus"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = server.readiness();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.serve(listener, async { drop(stopped.await) }));
    Running { address, readiness, entered, dropped, stop, ended }
}

fn embed(id: &str, timeout: Option<Duration>) -> Request<EmbedUsersRequest> {
    let user = Entity { id: id.into(), ..Default::default() };
    let mut request = Request::new(EmbedUsersRequest { users: vec![user], ..Default::default() });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}

/// Polls until `holds`, for ten seconds at most.
async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(10), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_deadline_gets_the_default_and_a_caller_reads_deadline_exceeded() {
    let running = start(8, 100).await;
    let mut client = running.client().await;
    let status = client.embed_users(embed("sleep", None)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    // The client's own timer runs as well, and on a busy machine may be first now and then.
    eventually("the server is first", || {
        let mut client = client.clone();
        async move {
            let timeout = Some(Duration::from_millis(200));
            client.embed_users(embed("sleep", timeout)).await.unwrap_err().code() == Code::DeadlineExceeded
        }
    })
    .await;
    assert!(client.embed_users(embed("sleep", Some(Duration::from_secs(2)))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_see_a_deadline_within_the_limits() {
    let running = start(8, 100).await;
    let mut client = running.client().await;
    let absurd = Duration::from_secs(99_999_999);
    let status = client.embed_users(embed("deadline", Some(absurd))).await.unwrap_err();
    let remaining_ms: u64 = status.message().parse().unwrap();
    assert!((2000..=3000).contains(&remaining_ms), "{remaining_ms}");
    let long = client.get_user_tower_status(GetUserTowerStatusRequest {}).await.unwrap().into_inner().known_users;
    assert!((50_000..=60_000).contains(&long), "{long}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_too_many_is_shed_with_advice_but_health_is_not() {
    let running = start(1, 100).await;
    let mut slow = running.client().await;
    let first = tokio::spawn(async move {
        loop {
            // The only permit may be held by one of the calls below.
            match slow.embed_users(embed("sleep", Some(Duration::from_secs(2)))).await {
                Err(status) if status.code() == Code::ResourceExhausted => {}
                ended => return ended,
            }
        }
    });
    let client = running.client().await;
    eventually("the second call is shed", || {
        let mut client = client.clone();
        async move {
            let Err(status) = client.embed_users(embed("", None)).await else { return false };
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
            true
        }
    })
    .await;
    running.health("").await;
    assert!(first.await.unwrap().is_ok());
    assert!(running.client().await.embed_users(embed("", None)).await.is_ok(), "the permit came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_internal_error_and_the_connection_lives() {
    let running = start(1, 100).await;
    let mut client = running.client().await;
    for _ in 0..3 {
        assert_eq!(client.embed_users(embed("panic", None)).await.unwrap_err().code(), Code::Internal);
    }
    assert!(client.embed_users(embed("", None)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_caller_who_left_is_dropped() {
    let running = start(1, 100).await;
    let mut client = running.client().await;
    let call = tokio::spawn(async move {
        while client.embed_users(embed("sleep", Some(Duration::from_secs(3)))).await.is_err() {}
    });
    let other = running.client().await;
    eventually("the call holds the only permit", || {
        let mut other = other.clone();
        async move { other.embed_users(embed("", None)).await.is_err() }
    })
    .await;
    running.dropped.store(false, Ordering::SeqCst);
    call.abort();
    let dropped = running.dropped.clone();
    let started = Instant::now();
    eventually("the handler is dropped", || {
        let dropped = dropped.clone();
        async move { dropped.load(Ordering::SeqCst) }
    })
    .await;
    assert!(started.elapsed() < Duration::from_millis(800), "it went on to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_readiness_overall_and_by_service() {
    let running = start(1, 100).await;
    let service = "pagoda.user.v1.UserTowerService";
    assert_eq!(running.health("").await, ServingStatus::NotServing);
    assert_eq!(running.health(service).await, ServingStatus::NotServing);
    running.readiness.set_ready(true);
    eventually("serving", || async { running.health(service).await == ServingStatus::Serving }).await;
    eventually("serving", || async { running.health("").await == ServingStatus::Serving }).await;
    running.readiness.set_ready(false);
    eventually("not serving", || async { running.health("").await == ServingStatus::NotServing }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_lets_calls_end_and_takes_no_new_connections() {
    let running = start(4, 5000).await;
    let mut client = running.client().await;
    let call = tokio::spawn(async move { client.embed_users(embed("sleep", Some(Duration::from_secs(3)))).await });
    eventually("the handler runs", || async { running.entered.load(Ordering::SeqCst) }).await;
    running.stop.send(()).unwrap();
    assert!(call.await.unwrap().is_ok(), "the call under way ends well");
    running.ended.await.unwrap().unwrap();
    assert!(Channel::from_shared(format!("http://{}", running.address)).unwrap().connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_is_a_hard_limit() {
    let running = start(4, 100).await;
    let mut watcher = HealthClient::new(running.channel().await);
    let _endless = watcher.watch(HealthCheckRequest::default()).await.unwrap();
    let started = Instant::now();
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_is_refused() {
    let running = start(4, 100).await;
    let status = running.client().await.embed_users(embed(&"x".repeat(5000), None)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_our_services() {
    use tokio_stream::StreamExt;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let running = start(4, 100).await;
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = ServerReflectionClient::new(running.channel().await);
    let mut replies = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let reply = replies.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = reply else { panic!("{reply:?}") };
    let names: Vec<_> = services.service.iter().map(|s| s.name.as_str()).collect();
    assert!(
        names.contains(&"pagoda.user.v1.UserTowerService") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
}
