//! What this service asks of index-svc.

use std::time::{Duration, Instant};

use pagoda_model::{Embedding, ItemId, ModelVersion, SpaceId};
use pagoda_proto::{
    feature::v1 as feature,
    index::v1::{GetIndexStatusRequest, SearchRequest, SearchResponse, index_service_client::IndexServiceClient},
};
use pagoda_server::status::{Violation, reason_of, violations_of};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    error::Error,
    recall::{Candidate, Found},
    wire::{self, Limits},
};

/// How often a silent index is asked whether it is there, so that a half-open connection is found.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// A reply holds at most some thousand ids.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// The fields that pass through us as they came, under the same paths.
const LIMITS: [&str; 2] = ["filter", "group_by"];
/// How long a poll may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// A search.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) model: ModelVersion,
    pub(crate) embedding: Embedding,
    pub(crate) k: u32,
    pub(crate) exclude: Vec<ItemId>,
    pub(crate) limits: Limits,
    pub(crate) remaining: Duration,
}

/// A client of index-svc; connects when it is first needed, and anew when the connection broke.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    client: IndexServiceClient<Channel>,
}

impl Index {
    /// A client of the index at `address`, which was validated.
    pub(crate) fn connect_lazily(address: &str, connect_timeout: Duration) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(address.to_owned())?
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let client = IndexServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(REPLY_BYTES_MAX);
        Ok(Self { client })
    }

    /// Searches; the remaining deadline travels along.
    pub(crate) async fn search(&self, search: Search) -> Result<Found, Error> {
        let mut request = Request::new(SearchRequest {
            space_id: search.model.space.to_string(),
            embedding: Some(wire::embedding(&search.embedding)),
            k: search.k,
            exclude_item_ids: search.exclude.into_iter().map(String::from).collect(),
            filter: search.limits.filter,
            group_by: search.limits.group_by,
            ..Default::default()
        });
        request.set_timeout(search.remaining);
        let due = Instant::now() + search.remaining;
        let reply = self.client.clone().search(request).await.map_err(|status| error_of(status, due))?;
        found(reply.into_inner(), search.model)
    }

    /// The spaces that the index holds, the most recently published first.
    pub(crate) async fn spaces(&self) -> Result<Vec<SpaceId>, Error> {
        let mut request = Request::new(GetIndexStatusRequest {});
        request.set_timeout(POLL_TIMEOUT);
        let due = Instant::now() + POLL_TIMEOUT;
        let asked = tokio::time::timeout(POLL_TIMEOUT, async { self.client.clone().get_index_status(request).await });
        let status = asked.await.map_err(|_| Error::IndexUnavailable("no answer in time".into()))?;
        let status = status.map_err(|status| error_of(status, due))?;
        let versions = status.into_inner().spaces.into_iter().filter_map(|space| space.model_version);
        versions.map(|version| space(&version)).collect()
    }
}

fn found(reply: SearchResponse, asked: ModelVersion) -> Result<Found, Error> {
    let answered = reply.model_version.as_ref().map(space).transpose()?;
    // The index promises this; a candidate of another space would be noise, so we look.
    if answered != Some(asked.space) {
        return Err(Error::Internal(format!("asked the index for space {}, it answered with another", asked.space)));
    }
    let candidate = |item: pagoda_proto::index::v1::ScoredItem| Candidate {
        item_id: item.item_id,
        score: item.score,
        from_delta: item.from_delta,
    };
    Ok(Found {
        candidates: reply.items.into_iter().map(candidate).collect(),
        exhausted: reply.exhausted,
        generation_id: reply.generation_id,
        lsn: reply.lsn,
    })
}

fn space(version: &feature::ModelVersion) -> Result<SpaceId, Error> {
    version.space_id.parse().map_err(|error| Error::Internal(format!("the index answered: {error}")))
}

/// What the index's refusal means for our caller. What it finds wrong with the filter is the caller's fault; with the rest of our search, ours.
/// Of a connection that broke amid a call, tonic says that it is unknown or cancelled; cancelled is also a call that was not answered when it was due.
fn error_of(status: Status, due: Instant) -> Error {
    if let Some((reason, metadata)) = reason_of(&status)
        && reason == "SPACE_NOT_HELD"
    {
        let held = metadata.get("spaces_held").map(String::as_str).unwrap_or_default();
        return Error::SpaceNotHeld { held: held.split(',').filter_map(|space| space.parse().ok()).collect() };
    }
    let violations = violations_of(&status);
    // The last of very many has no path: it says how many more there are.
    let is_callers = |violation: &Violation| {
        violation.path.is_empty() || LIMITS.iter().any(|field| violation.path.starts_with(field))
    };
    if !violations.is_empty() && violations.iter().all(is_callers) {
        return Error::Invalid(violations);
    }
    match status.code() {
        Code::DeadlineExceeded => Error::DeadlineExceeded,
        Code::Cancelled if Instant::now() >= due => Error::DeadlineExceeded,
        Code::Unavailable | Code::Unknown | Code::Cancelled => Error::IndexUnavailable(status.message().to_owned()),
        Code::ResourceExhausted => Error::Overloaded(format!("the index: {}", status.message())),
        code => Error::Internal(format!("the index answered {code:?}: {}", status.message())),
    }
}
