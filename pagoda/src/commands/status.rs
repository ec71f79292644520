//! `pagoda status`: what the running services hold and serve, and what troubles them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use pagoda_proto::{
    feature::v1::ModelVersion,
    index::v1::{
        GetIndexStatusRequest, GetIndexStatusResponse, SpaceStatus, Trouble, index_service_client::IndexServiceClient,
    },
    item::v1::{ListRefreshesRequest, Refresh, RefreshState, item_tower_service_client::ItemTowerServiceClient},
    user::v1::{
        GetUserTowerStatusRequest, GetUserTowerStatusResponse, user_tower_service_client::UserTowerServiceClient,
    },
};
use serde_json::{Value, json};

use super::{
    heard::{Heard, ask, none_silent},
    models::waits,
    refresh::{ended_ms, mode_name, state},
};
use crate::{
    addresses::Addresses,
    cli::StatusArgs,
    output::{count, folded, say, say_json, table, utc},
};

pub(crate) async fn run(args: &StatusArgs) -> Result<()> {
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let seen = Seen::look(&addresses, args.services.deadline()).await;
    if args.json {
        say_json(&seen.as_json(&addresses))?;
    } else {
        seen.say(&addresses);
    }
    none_silent(&seen.silent)
}

/// What the three services say of themselves at one moment. Those that do not answer are silent, and the others are shown all the same.
#[derive(Default)]
struct Seen {
    health: Vec<(&'static str, SocketAddr, &'static str)>,
    users: Option<GetUserTowerStatusResponse>,
    index: Option<GetIndexStatusResponse>,
    last_refresh: Option<Refresh>,
    silent: Vec<anyhow::Error>,
}

/// Something that does not work.
struct Shown {
    service: &'static str,
    what: &'static str,
    lasted: Option<Duration>,
    why: String,
}

impl Seen {
    async fn look(addresses: &Addresses, deadline: Duration) -> Self {
        let users = ask("user-tower-svc", addresses.user_tower, deadline, async |channel| {
            UserTowerServiceClient::new(channel).get_user_tower_status(GetUserTowerStatusRequest {}).await
        });
        let items = ask("item-tower-svc", addresses.item_tower, deadline, async |channel| {
            ItemTowerServiceClient::new(channel).list_refreshes(ListRefreshesRequest {}).await
        });
        let index = ask("index-svc", addresses.index, deadline, async |channel| {
            IndexServiceClient::new(channel).get_index_status(GetIndexStatusRequest {}).await
        });
        let (users, items, index) = tokio::join!(users, items, index);
        let mut seen = Self::default();
        seen.users = seen.take(users);
        let listed = seen.take(items);
        seen.last_refresh = listed.and_then(|listed| listed.refreshes.into_iter().next());
        seen.index = seen.take(index);
        seen
    }

    fn take<T>(&mut self, heard: Heard<T>) -> Option<T> {
        self.health.push((heard.name, heard.address, heard.health));
        heard.said.map_err(|error| self.silent.push(error)).ok()
    }

    /// The newest model, where users are not answered with it.
    fn waiting_model(&self) -> Option<&ModelVersion> {
        let users = self.users.as_ref()?;
        users.loaded_models.first().filter(|newest| users.active_model.as_ref() != Some(*newest))
    }

    fn say(&self, addresses: &Addresses) {
        let rows = self.health.iter().map(|(n, a, h)| vec![n.to_string(), a.to_string(), h.to_string()]).collect();
        say(table(&["service", "address", "health"], &[], rows));
        self.troubles().iter().for_each(Shown::say);
        say(format_args!("\nstore          {}", addresses.store));
        if let Some(users) = &self.users {
            let active = users.active_model.as_ref().map_or_else(|| users.not_ready_reason.clone(), version);
            say(format_args!("active model   {active}"));
            self.waiting_model()
                .iter()
                .for_each(|newest| say(format_args!("newest model   {}", waits(&version(newest)))));
            say(format_args!("known users    {}", count(users.known_users)));
        }
        if let Some(index) = &self.index {
            say(format_args!("index          {}, at lsn {}", index.index_name, index.lsn));
        }
        self.last_refresh.iter().for_each(say_refresh);
        self.index.iter().flat_map(|index| &index.spaces).for_each(say_space);
    }

    /// What does not work, as far as the services say.
    fn troubles(&self) -> Vec<Shown> {
        let index = self.index.as_ref();
        let of_index = |what, trouble: Option<&Trouble>| {
            trouble.map(|trouble| Shown {
                service: "index-svc",
                what,
                lasted: Some(Duration::from_millis(trouble.for_ms)),
                why: trouble.why.clone(),
            })
        };
        let log = index.and_then(|index| index.log_trouble.as_ref());
        let write = index.and_then(|index| index.write_trouble.as_ref());
        let load = index.and_then(|index| index.load_trouble.as_ref());
        let registry = self.users.as_ref().map(|users| users.registry_trouble.clone()).filter(|why| !why.is_empty());
        let of_users = registry.map(|why| Shown {
            service: "user-tower-svc",
            what: "sees no newer models and users; what is loaded answers",
            lasted: None,
            why,
        });
        let all = [
            of_index("cannot follow its log: writes are refused, search goes on", log),
            // Told already, where the log cannot even be read.
            of_index("could not write; search goes on", write.filter(|_| log.is_none())),
            of_index("cannot load a generation", load),
            of_users,
        ];
        all.into_iter().flatten().collect()
    }

    fn as_json(&self, addresses: &Addresses) -> Value {
        let users = self.users.as_ref();
        json!({
            "addresses": addresses,
            "health": self.health.iter().map(|(name, _, health)| (name.to_string(), json!(health))).collect::<serde_json::Map<_, _>>(),
            "troubles": self.troubles().iter().map(Shown::as_json).collect::<Vec<_>>(),
            "active_model": users.and_then(|users| users.active_model.as_ref()).map(version),
            "waiting_model": self.waiting_model().map(version),
            "not_ready_reason": users.map(|users| &users.not_ready_reason),
            "known_users": users.map(|users| users.known_users),
            "index": self.index.as_ref().map(index_as_json),
            "last_refresh": self.last_refresh.as_ref().map(super::refresh::as_json),
        })
    }
}

impl Shown {
    fn say(&self) {
        let lasted = self.lasted.map(|lasted| Duration::from_secs(lasted.as_secs()));
        let lasted = lasted.map_or_else(String::new, |lasted| format!(", for {}", humantime::format_duration(lasted)));
        say(folded(&format!("\ntrouble: {} {}{lasted}\n  {}", self.service, self.what, self.why)));
    }

    fn as_json(&self) -> Value {
        let for_ms = self.lasted.map(|lasted| lasted.as_millis() as u64);
        json!({ "service": self.service, "what": self.what, "for_ms": for_ms, "why": self.why })
    }
}

fn say_refresh(refresh: &Refresh) {
    say(format_args!("last refresh   {} ({}), {}", refresh.refresh_id, state(refresh), mode_name(refresh)));
    let seconds = refresh.elapsed_ms as f64 / 1000.0;
    match ended_ms(refresh) {
        Some(ended) => say(format_args!("               ended {} UTC, after {seconds:.1} s", utc(ended))),
        None if refresh.started_ms > 0 => say(format_args!("               since {} UTC", utc(refresh.started_ms))),
        None => {}
    }
    if refresh.state() == RefreshState::Unfinished {
        say("               of another process, where it goes on or which was killed");
    }
    if matches!(refresh.state(), RefreshState::Failed | RefreshState::Cancelled) && !refresh.error.is_empty() {
        say(folded(&format!("               {}", refresh.error)));
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

fn index_as_json(index: &GetIndexStatusResponse) -> Value {
    json!({
        "name": index.index_name,
        "lsn": index.lsn,
        "tombstones": index.tombstone_count,
        "spaces": index.spaces.iter().map(space_as_json).collect::<Vec<_>>(),
    })
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
