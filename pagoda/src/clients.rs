//! Channels to the running services, and their refusals as messages for a person.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, anyhow};
use pagoda_proto::{
    index::v1::index_service_client::IndexServiceClient,
    item::v1::item_tower_service_client::ItemTowerServiceClient,
    recall::v1::recall_service_client::RecallServiceClient,
    user::v1::{
        GetUserTowerStatusRequest, GetUserTowerStatusResponse, user_tower_service_client::UserTowerServiceClient,
    },
};
use tokio::time::{Instant, sleep};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::addresses::Addresses;

/// How long user-tower-svc may take to serve what was brought.
pub(crate) const SERVED_TIMEOUT: Duration = Duration::from_secs(60);
const SERVED_POLL: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const UNDECLARED: &str = "
an attribute can be filtered and grouped by once schema.toml says
`filterable = true` of its feature and `pagoda refresh --full` has run";

/// A client for each of our gRPC services.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) recall: RecallServiceClient<Channel>,
    pub(crate) users: UserTowerServiceClient<Channel>,
    pub(crate) items: ItemTowerServiceClient<Channel>,
    pub(crate) index: IndexServiceClient<Channel>,
}

impl Clients {
    /// Connects to all three services.
    pub(crate) async fn connect(addresses: &Addresses) -> Result<Self> {
        let user_tower = channel("user-tower-svc", addresses.user_tower).await?;
        let item_tower = channel("item-tower-svc", addresses.item_tower).await?;
        let index = channel("index-svc", addresses.index).await?;
        Ok(Self {
            recall: RecallServiceClient::new(user_tower.clone()),
            users: UserTowerServiceClient::new(user_tower),
            items: ItemTowerServiceClient::new(item_tower),
            index: IndexServiceClient::new(index),
        })
    }

    /// Waits until user-tower-svc says what is wanted; what it says instead, if it does not within [`SERVED_TIMEOUT`].
    pub(crate) async fn not_served(
        &mut self,
        is_wanted: impl Fn(&GetUserTowerStatusResponse) -> bool,
    ) -> Result<Option<GetUserTowerStatusResponse>> {
        let deadline = Instant::now() + SERVED_TIMEOUT;
        loop {
            let status = self.users.get_user_tower_status(GetUserTowerStatusRequest {}).await;
            let status = status.map_err(|s| refusal(&s))?.into_inner();
            if is_wanted(&status) {
                return Ok(None);
            }
            if Instant::now() > deadline {
                return Ok(Some(status));
            }
            sleep(SERVED_POLL).await;
        }
    }
}

/// Connects to index-svc alone, which is all that an operator's commands on it need.
pub(crate) async fn index_client(addresses: &Addresses) -> Result<IndexServiceClient<Channel>> {
    Ok(IndexServiceClient::new(channel("index-svc", addresses.index).await?))
}

/// Connects to one service.
pub(crate) async fn channel(name: &str, address: SocketAddr) -> Result<Channel> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
        .with_context(|| format!("{name} does not answer at {address}; is `pagoda up` still running?"))
}

/// A refusal in words: its code and every field at fault, else its message.
pub(crate) fn refusal(status: &Status) -> anyhow::Error {
    let faults = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    if let Some(info) = status.get_details_error_info().filter(|info| info.reason == "SPACE_NOT_HELD") {
        let held = info.metadata.get("spaces_held").filter(|held| !held.is_empty()).map_or("none", String::as_str);
        return anyhow!(
            "the index has no items of the newest model yet (embedding spaces it has: {held}); \
             run `pagoda refresh --full --data DIR` first"
        );
    }
    if faults.is_empty() {
        return anyhow!("{:?}: {}", status.code(), status.message());
    }
    let hint = if faults.iter().any(|v| is_attribute(&v.field)) { UNDECLARED } else { "" };
    let lines: Vec<String> = faults.into_iter().map(|v| format!("\n  {}: {}", v.field, v.description)).collect();
    anyhow!("{:?}:{}{hint}", status.code(), lines.concat())
}

/// Whether a field names an attribute that items are filtered or grouped by.
fn is_attribute(path: &str) -> bool {
    (path.starts_with("filter.") || path.starts_with("group_by.")) && path.ends_with(".attribute")
}

/// When a service that is away asks to be called again.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn before_the_first_refresh_it_is_said_what_to_run() {
        let details = ErrorDetails::with_error_info(
            "SPACE_NOT_HELD",
            "pagoda",
            HashMap::from([("spaces_held".to_owned(), String::new())]),
        );
        let message = refusal(&Status::with_error_details(Code::FailedPrecondition, "not held", details)).to_string();
        assert!(message.contains("it has: none") && message.contains("pagoda refresh --full"), "{message}");
    }

    #[test]
    fn of_an_attribute_that_is_not_declared_it_is_said_how_it_would_be() {
        let refused = |field: &str| {
            let details = ErrorDetails::with_bad_request_violation(field, "no");
            refusal(&Status::with_error_details(Code::InvalidArgument, "no", details)).to_string()
        };
        assert!(refused("filter.all[3].attribute").ends_with(UNDECLARED));
        assert!(refused("group_by.attribute").ends_with(UNDECLARED));
        assert!(!refused("filter.all[3].any_of.values[0]").contains("filterable"));
    }
}
