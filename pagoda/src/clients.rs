//! Clients of the running services.

use std::time::Duration;

use anyhow::Result;
use pagoda_proto::{
    index::v1::index_service_client::IndexServiceClient,
    item::v1::item_tower_service_client::ItemTowerServiceClient,
    recall::v1::recall_service_client::RecallServiceClient,
    user::v1::{
        GetUserTowerStatusRequest, GetUserTowerStatusResponse, user_tower_service_client::UserTowerServiceClient,
    },
};
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic_types::StatusExt;

use crate::{addresses::Addresses, channel::ServiceChannel, refusal::refusal};

/// How long user-tower-svc may take to serve what was brought.
pub(crate) const SERVED_TIMEOUT: Duration = Duration::from_secs(60);
const SERVED_POLL: Duration = Duration::from_millis(50);

/// A client for each of our gRPC services.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) recall: RecallServiceClient<ServiceChannel>,
    pub(crate) users: UserTowerServiceClient<ServiceChannel>,
    pub(crate) items: ItemTowerServiceClient<ServiceChannel>,
    pub(crate) index: IndexServiceClient<ServiceChannel>,
}

impl Clients {
    /// Connects to all three services; each call has `deadline` to be answered.
    pub(crate) async fn connect(addresses: &Addresses, deadline: Duration) -> Result<Self> {
        let user_tower = ServiceChannel::connect("user-tower-svc", addresses.user_tower, deadline).await?;
        let item_tower = ServiceChannel::connect("item-tower-svc", addresses.item_tower, deadline).await?;
        let index = ServiceChannel::connect("index-svc", addresses.index, deadline).await?;
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
pub(crate) async fn index_client(
    addresses: &Addresses,
    deadline: Duration,
) -> Result<IndexServiceClient<ServiceChannel>> {
    Ok(IndexServiceClient::new(ServiceChannel::connect("index-svc", addresses.index, deadline).await?))
}

/// Connects to user-tower-svc alone, which answers Recall.
pub(crate) async fn recall_client(
    addresses: &Addresses,
    deadline: Duration,
) -> Result<RecallServiceClient<ServiceChannel>> {
    Ok(RecallServiceClient::new(ServiceChannel::connect("user-tower-svc", addresses.user_tower, deadline).await?))
}

/// When a service that is away asks to be called again.
pub(crate) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}
