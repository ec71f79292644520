//! A ranking service (`pagoda.ranking.v1`) that knows the truth of a generated world: what a team that has a ranker would write, with the
//! whims that such services have.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use pagoda_proto::ranking::v1::{
    RankRequest, RankResponse, RankedItem, UserRanking,
    rank_request::Candidates,
    ranking_service_server::{RankingService, RankingServiceServer},
};
use pagoda_simulator::World;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt};

/// What goes wrong; by default nothing does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whims {
    /// So many calls find it away.
    pub(crate) away_first: u32,
    pub(crate) worst_first: bool,
    pub(crate) forgets_a_user: bool,
    pub(crate) other_catalog: bool,
    pub(crate) never_answers: bool,
    pub(crate) top_max: u32,
}

impl Default for Whims {
    fn default() -> Self {
        let (worst_first, forgets_a_user, other_catalog, never_answers) = (false, false, false, false);
        Self { away_first: 0, worst_first, forgets_a_user, other_catalog, never_answers, top_max: 100_000 }
    }
}

/// The server, which stops when it is dropped.
pub(crate) struct RankingServer {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<RankRequest>>>,
    task: JoinHandle<()>,
}

impl RankingServer {
    pub(crate) async fn start(world: World, whims: Whims) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<RankRequest>>> = Arc::default();
        let ranker = GodRanker { world, whims, calls: AtomicU32::new(0), requests: requests.clone() };
        let server = Server::builder().add_service(RankingServiceServer::new(ranker));
        let serve = async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() };
        Self { url, requests, task: tokio::spawn(serve) }
    }

    /// Those that were answered.
    pub(crate) fn requests(&self) -> Vec<RankRequest> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for RankingServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct GodRanker {
    world: World,
    whims: Whims,
    calls: AtomicU32,
    requests: Arc<Mutex<Vec<RankRequest>>>,
}

impl GodRanker {
    fn rank_user(&self, user: &str, request: &RankRequest) -> Option<UserRanking> {
        let liked = self.world.true_preferences_at(user, request.as_of)?;
        let mut scored: Vec<(f32, String)> = match request.candidates.as_ref()? {
            Candidates::WholeCatalog(_) => {
                liked.iter().enumerate().map(|(place, &score)| (score as f32, format!("i{}", place + 1))).collect()
            }
            Candidates::Items(items) => {
                let known = items.item_ids.iter().filter_map(|id| Some((self.world.place_of_item(id)?, id)));
                known.map(|(place, id)| (liked[place] as f32, id.clone())).collect()
            }
        };
        scored.sort_by(|(a, i), (b, j)| b.total_cmp(a).then_with(|| i.cmp(j)));
        scored.truncate(request.top as usize);
        if self.whims.worst_first {
            scored.reverse();
        }
        let prefix = if self.whims.other_catalog { "other " } else { "" };
        let items = scored.into_iter().map(|(score, id)| RankedItem { item_id: format!("{prefix}{id}"), score });
        Some(UserRanking { items: items.collect() })
    }
}

#[tonic::async_trait]
impl RankingService for GodRanker {
    async fn rank(&self, request: Request<RankRequest>) -> Result<Response<RankResponse>, Status> {
        let request = request.into_inner();
        if self.whims.never_answers {
            pin!(std::future::pending::<()>()).await;
        }
        if self.calls.fetch_add(1, Ordering::Relaxed) < self.whims.away_first {
            return Err(Status::unavailable("the ranker is starting"));
        }
        if request.top > self.whims.top_max {
            let fault = format!("expected at most {}, found {}", self.whims.top_max, request.top);
            let details = ErrorDetails::with_bad_request_violation("top", fault);
            return Err(Status::with_error_details(tonic::Code::InvalidArgument, "invalid", details));
        }
        let rankings = request.users.iter().skip(usize::from(self.whims.forgets_a_user));
        let rankings = rankings.map(|user| self.rank_user(&user.id, &request).unwrap_or_default()).collect();
        self.requests.lock().unwrap().push(request);
        Ok(Response::new(RankResponse { rankings, ranker_version: "god 1".into() }))
    }
}
