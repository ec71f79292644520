//! `pagoda status`: what the running services hold and serve.

use anyhow::Result;
use pagoda_proto::{
    feature::v1::ModelVersion,
    index::v1::{GetIndexStatusRequest, GetIndexStatusResponse, SpaceStatus},
    item::v1::{ListRefreshesRequest, Refresh},
    user::v1::{GetUserTowerStatusRequest, GetUserTowerStatusResponse},
};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    addresses::Addresses,
    cli::StatusArgs,
    clients::{Clients, channel, refusal},
    output::{count, say, say_json, table},
};

pub(crate) async fn run(args: &StatusArgs) -> Result<()> {
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let seen = Seen::look(&addresses).await?;
    if args.json {
        return say_json(&seen.as_json(&addresses));
    }
    seen.say();
    Ok(())
}

/// What the three services say of themselves at one moment.
struct Seen {
    health: Vec<(&'static str, std::net::SocketAddr, String)>,
    users: GetUserTowerStatusResponse,
    index: GetIndexStatusResponse,
    last_refresh: Option<Refresh>,
}

impl Seen {
    async fn look(addresses: &Addresses) -> Result<Self> {
        let mut health = Vec::new();
        for (name, address) in [
            ("user-tower-svc", addresses.user_tower),
            ("item-tower-svc", addresses.item_tower),
            ("index-svc", addresses.index),
        ] {
            health.push((name, address, health_of(channel(name, address).await?).await));
        }
        let mut clients = Clients::connect(addresses).await?;
        let users = clients.users.get_user_tower_status(GetUserTowerStatusRequest {}).await.map_err(|s| refusal(&s))?;
        let index = clients.index.get_index_status(GetIndexStatusRequest {}).await.map_err(|s| refusal(&s))?;
        let refreshes = clients.items.list_refreshes(ListRefreshesRequest {}).await.map_err(|s| refusal(&s))?;
        let last_refresh = refreshes.into_inner().refreshes.into_iter().next();
        Ok(Self { health, users: users.into_inner(), index: index.into_inner(), last_refresh })
    }

    fn say(&self) {
        let rows = self.health.iter().map(|(n, a, h)| vec![n.to_string(), a.to_string(), h.clone()]).collect();
        say(table(&["service", "address", "health"], &[], rows));
        let active = self.users.active_model.as_ref().map_or_else(|| self.users.not_ready_reason.clone(), version);
        say(format_args!("\nactive model   {active}"));
        say(format_args!("known users    {}", count(self.users.known_users)));
        say(format_args!("index          {}, at lsn {}", self.index.index_name, self.index.lsn));
        if let Some(refresh) = &self.last_refresh {
            say(format_args!("last refresh   {} ({:?})", refresh.refresh_id, refresh.state()));
        }
        self.index.spaces.iter().for_each(say_space);
    }

    fn as_json(&self, addresses: &Addresses) -> Value {
        json!({
            "addresses": addresses,
            "health": self.health.iter().map(|(name, _, health)| (name.to_string(), json!(health))).collect::<serde_json::Map<_, _>>(),
            "active_model": self.users.active_model.as_ref().map(version),
            "not_ready_reason": self.users.not_ready_reason,
            "known_users": self.users.known_users,
            "index": { "name": self.index.index_name, "lsn": self.index.lsn, "tombstones": self.index.tombstone_count,
                       "spaces": self.index.spaces.iter().map(space_as_json).collect::<Vec<_>>() },
            "last_refresh": self.last_refresh.as_ref().map(super::refresh::as_json),
        })
    }
}

async fn health_of(channel: Channel) -> String {
    match HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await {
        Ok(reply) if reply.get_ref().status() == ServingStatus::Serving => "serving".into(),
        Ok(_) => "not serving".into(),
        Err(status) => format!("{:?}", status.code()),
    }
}

/// A block of lines rather than a row of a table, which would be wider than a terminal.
fn say_space(space: &SpaceStatus) {
    let report = space.report.clone().unwrap_or_default();
    let (base, delta) = (count(space.base_count), count(space.delta_count));
    say(format_args!("\nspace          {}", space.model_version.as_ref().map_or_else(String::new, version)));
    say(format_args!("generation     {}", space.generation_id));
    say(format_args!("items          {base} in the base, {delta} in the delta"));
    say(format_args!("index kind     {}", kind_name(&report)));
    say(format_args!("ann recall     {:.3} at 100", report.ann_recall_at_100));
}

fn space_as_json(space: &SpaceStatus) -> Value {
    let report = space.report.clone().unwrap_or_default();
    json!({
        "model": space.model_version.as_ref().map(version),
        "generation_id": space.generation_id,
        "published_lsn": space.published_lsn,
        "base_count": space.base_count,
        "delta_count": space.delta_count,
        "kind": kind_name(&report),
        "ann_recall_at_100": report.ann_recall_at_100,
        "measured_with_users": report.measured_with_users,
    })
}

/// The kind of an index as Faiss's words have it.
pub(crate) fn kind_name(report: &pagoda_proto::index::v1::GenerationReport) -> &'static str {
    report.kind().as_str_name().trim_start_matches("INDEX_KIND_")
}

/// A model version as it is written: `space/revision`.
pub(crate) fn version(version: &ModelVersion) -> String {
    format!("{}/{}", version.space_id, version.revision)
}
