//! A ranking service as a ranker: `pagoda.ranking.v1` over gRPC, several calls in flight, each tried again while the service is away.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use futures::{StreamExt, TryStreamExt, stream};
use pagoda_model::Entity;
use pagoda_proto::ranking::v1::{
    ItemList, RankRequest, RankResponse, RankedItem, WholeCatalog, rank_request::Candidates,
    ranking_service_client::RankingServiceClient,
};
use pagoda_trainer::mining::{AskedUser, MiningLog, Ranked, Ranker, RankerError, Ranking, Top};
use tokio::{runtime::Handle, time::sleep};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{cli::ServiceArgs, clients::retry_delay, refusal::refusal, wire::to_wire};

const CALLS_IN_FLIGHT: usize = 4;
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REPLY_BYTES_MAX: usize = 64 << 20;
const VERSION_BYTES_MAX: usize = pagoda_dataset::MINED_FROM_BYTES_MAX;
/// The most ids of one request.
const ITEMS_MAX: usize = 50_000;
/// So many ranked items may be unknown in any case.
const UNKNOWN_ALLOWED: u64 = 10;

/// A service that ranks, and the catalog that its answers are looked up in.
pub(super) struct ServiceRanker<'a> {
    url: String,
    client: RankingServiceClient<Channel>,
    catalog: &'a [Entity],
    places: HashMap<&'a str, u32>,
    send_items: bool,
    batch_users: usize,
    deadline: Duration,
    ranked: u64,
    unknown: u64,
    unknown_share_max: f64,
}

/// One user's part of an answer, looked up.
struct Answer {
    items: Vec<Ranked>,
    /// How many of its items are not in the catalog, and one of them.
    unknown: u64,
    example: Option<String>,
}

impl<'a> ServiceRanker<'a> {
    /// Connects when it is first asked.
    pub(super) fn new(args: &ServiceArgs, log: &'a MiningLog) -> Result<Self> {
        let catalog = log.catalog();
        let url = args.ranker.clone().context("--source service needs --ranker URL")?;
        if !url.starts_with("http://") {
            bail!("--ranker {url}: expected http://HOST:PORT");
        }
        let endpoint =
            Endpoint::from_shared(url.clone()).with_context(|| format!("--ranker {url}: expected http://HOST:PORT"))?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy();
        Ok(Self {
            client: RankingServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX),
            url,
            catalog,
            places: catalog.iter().zip(0..).map(|(item, place)| (item.id.as_str(), place)).collect(),
            send_items: args.send_items,
            batch_users: usize::from(args.batch_users),
            deadline: Duration::from_millis(args.deadline_ms),
            ranked: 0,
            unknown: 0,
            unknown_share_max: log.schema().interactions.unknown_items_share_max,
        })
    }

    /// Ranked items that the catalog does not have.
    pub(super) fn unknown_items(&self) -> u64 {
        self.unknown
    }

    async fn rank_block(&self, users: &[AskedUser], top: usize) -> Result<Vec<(Arc<str>, Answer)>> {
        let calls = stream::iter(users.chunks(self.batch_users)).map(|batch| self.rank_batch(batch, top));
        let answers: Vec<Vec<_>> = calls.buffered(CALLS_IN_FLIGHT).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn rank_batch(&self, users: &[AskedUser], top: usize) -> Result<Vec<(Arc<str>, Answer)>> {
        if !self.send_items {
            let reply = self.call(request(users, Candidates::WholeCatalog(WholeCatalog {}), top)).await?;
            return self.read(users, reply, top);
        }
        let mut merged: Option<Vec<(Arc<str>, Answer)>> = None;
        for items in self.catalog.chunks(ITEMS_MAX) {
            let item_ids = items.iter().map(|item| item.id.clone()).collect();
            let reply = self.call(request(users, Candidates::Items(ItemList { item_ids }), top)).await?;
            let answers = self.read(users, reply, top)?;
            merged = Some(match merged {
                None => answers,
                Some(before) => {
                    before.into_iter().zip(answers).map(|(a, b)| self.merge(a, b, top)).collect::<Result<_>>()?
                }
            });
        }
        Ok(merged.unwrap_or_default())
    }

    fn merge(&self, a: (Arc<str>, Answer), b: (Arc<str>, Answer), top: usize) -> Result<(Arc<str>, Answer)> {
        let ((version, a), (other, b)) = (a, b);
        if version != other {
            bail!(
                "{}: the ranker changed from version {version} to {other} between parts of the catalog; run again",
                self.url
            );
        }
        let mut best = Top::new(top);
        a.items.iter().chain(&b.items).for_each(|item| best.push(item.item, item.score));
        let answer = Answer { items: best.finish(), unknown: a.unknown + b.unknown, example: a.example.or(b.example) };
        Ok((version, answer))
    }

    /// Calls, and calls again after a while if the service is away.
    async fn call(&self, request: RankRequest) -> Result<RankResponse> {
        let (mut attempt, mut wait) = (1, FIRST_WAIT);
        loop {
            let mut message = Request::new(request.clone());
            message.set_timeout(self.deadline);
            let late = |_| Status::deadline_exceeded("no answer");
            let call = async { self.client.clone().rank(message).await };
            let answered = tokio::time::timeout(self.deadline, call).await.map_err(late).flatten();
            let status = match answered {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => status,
            };
            if status.code() != Code::Unavailable || attempt >= ATTEMPTS {
                return Err(self.refused(attempt, &status));
            }
            sleep(retry_delay(&status).unwrap_or(wait).min(WAIT_MAX)).await;
            (attempt, wait) = (attempt + 1, wait * 2);
        }
    }

    fn refused(&self, attempt: u32, status: &Status) -> anyhow::Error {
        let url = &self.url;
        match status.code() {
            Code::Unavailable => anyhow!("{url} is not available ({}), asked {attempt} times", status.message()),
            Code::DeadlineExceeded | Code::Cancelled => anyhow!(
                "{url} did not answer within {} ms; raise --deadline-ms or lower --batch-users",
                self.deadline.as_millis()
            ),
            Code::Unimplemented => anyhow!("{url} does not serve pagoda.ranking.v1.RankingService/Rank"),
            _ => refusal(status).context(format!("{url} refused")),
        }
    }

    fn read(&self, users: &[AskedUser], reply: RankResponse, top: usize) -> Result<Vec<(Arc<str>, Answer)>> {
        let (url, found) = (&self.url, reply.rankings.len());
        if found != users.len() {
            bail!("{url} answered with {found} rankings, expected one for each of {} users", users.len());
        }
        let version = reply.ranker_version;
        if !(1..=VERSION_BYTES_MAX).contains(&version.len()) {
            bail!("{url} answered with a ranker_version of {} bytes, expected 1 to {VERSION_BYTES_MAX}", version.len());
        }
        let version: Arc<str> = version.into();
        let rankings = users.iter().zip(reply.rankings);
        rankings
            .map(|(user, ranking)| {
                check(&ranking.items, top)
                    .map_err(|fault| anyhow!("{url} answered for user `{}`: {fault}", user.entity.id))?;
                Ok((version.clone(), self.look_up(ranking.items)))
            })
            .collect()
    }

    /// The rank is the service's own, whether or not the items above are known.
    fn look_up(&self, ranked: Vec<RankedItem>) -> Answer {
        let mut answer = Answer { items: Vec::with_capacity(ranked.len()), unknown: 0, example: None };
        for (RankedItem { item_id, score }, rank) in ranked.into_iter().zip(1..) {
            match self.places.get(item_id.as_str()) {
                Some(&item) => answer.items.push(Ranked { rank, item, score }),
                None => {
                    answer.unknown += 1;
                    answer.example = Some(item_id);
                }
            }
        }
        answer
    }

    /// A ranker of another catalog is worth nothing; one that is ahead of the data, or behind, is.
    fn count(&mut self, answers: &[(Arc<str>, Answer)]) -> Result<()> {
        for (_, answer) in answers {
            self.ranked += answer.items.len() as u64 + answer.unknown;
            self.unknown += answer.unknown;
            let allowed = UNKNOWN_ALLOWED.max((self.ranked as f64 * self.unknown_share_max) as u64);
            if let Some(example) = answer.example.as_ref().filter(|_| self.unknown > allowed) {
                bail!(
                    "{} ranked {} items of which {} are not in the catalog, such as `{example}`; is it the ranker of this catalog? \
                     If so, let `unknown_items_share_max = {}` of [interactions] in schema.toml be higher",
                    self.url,
                    self.ranked,
                    self.unknown,
                    self.unknown_share_max
                );
            }
        }
        Ok(())
    }
}

impl Ranker for ServiceRanker<'_> {
    fn source(&self) -> &str {
        "service"
    }

    fn block_users(&self) -> usize {
        self.batch_users * CALLS_IN_FLIGHT
    }

    fn rank(&mut self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, RankerError> {
        let answers = Handle::current().block_on(self.rank_block(users, top))?;
        self.count(&answers)?;
        Ok(answers.into_iter().map(|(version, answer)| Ranking { version, items: answer.items }).collect())
    }
}

fn request(users: &[AskedUser], candidates: Candidates, top: usize) -> RankRequest {
    RankRequest {
        users: users.iter().map(|user| to_wire(&user.entity)).collect(),
        candidates: Some(candidates),
        top: top as u32,
        as_of: users.first().map_or(0, |user| user.time),
    }
}

/// What the contract promises of a ranking.
fn check(items: &[RankedItem], top: usize) -> Result<(), String> {
    if items.len() > top {
        return Err(format!("expected at most {top} items, found {}", items.len()));
    }
    if let Some(item) = items.iter().find(|item| !item.score.is_finite()) {
        return Err(format!("item `{}`: expected a finite score, found {}", item.item_id, item.score));
    }
    if let Some(pair) = items.windows(2).find(|pair| pair[0].score < pair[1].score) {
        let [above, below] = [&pair[0], &pair[1]].map(|item| format!("`{}` of score {}", item.item_id, item.score));
        return Err(format!("expected the best first, found {above} before {below}"));
    }
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    match items.iter().find(|item| !seen.insert(&item.item_id)) {
        Some(item) => Err(format!("expected each item once, found `{}` twice", item.item_id)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(scores: &[(&str, f32)]) -> Vec<RankedItem> {
        scores.iter().map(|&(id, score)| RankedItem { item_id: id.to_owned(), score }).collect()
    }

    #[test]
    fn what_breaks_the_contract_is_named() {
        assert_eq!(check(&items(&[("a", 2.0), ("b", 1.0), ("c", 1.0)]), 3), Ok(()));
        let faults = [
            (items(&[("a", 1.0), ("b", 0.5)]), "at most 1 items, found 2"),
            (items(&[("a", f32::NAN)]), "`a`: expected a finite score"),
        ];
        for (ranking, fault) in faults {
            let found = check(&ranking, 1).unwrap_err();
            assert!(found.contains(fault), "{found}");
        }
        assert!(
            check(&items(&[("a", 1.0), ("b", 2.0)]), 9).unwrap_err().contains("`a` of score 1 before `b` of score 2")
        );
        assert!(check(&items(&[("a", 1.0), ("a", 1.0)]), 9).unwrap_err().contains("`a` twice"));
    }
}
