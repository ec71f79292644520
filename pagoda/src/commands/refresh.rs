//! `pagoda refresh`: a data directory's items and users are brought to the running services.
//!
//! The catalog goes to the object store first, where item-tower-svc reads it; it embeds the items and hands them to index-svc. Only then
//! do the users' features, which lie in the store by now, become the newest, so that a refresh that is refused changes nothing for anybody. At
//! last this command waits until Recall answers with all of it. Killed at any point and run again, it ends as if it had not been.

use std::{collections::BTreeMap, ffi::OsStr, fs};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use pagoda_commit_log::Store;
use pagoda_dataset::{BadRows, Dataset, SCHEMA_FILE, UserSnapshot, user_snapshot, write_entities_parquet};
use pagoda_proto::{
    index::v1::GetIndexStatusRequest,
    item::v1::{Refresh, RefreshMode, RefreshState, StartRefreshRequest, WatchRefreshRequest},
    user::v1::GetUserTowerStatusResponse,
};
use pagoda_registry::{Entry, Kind, Registry, Staged};
use serde_json::{Value, json};

use super::{publish::how_to_force, status::version};
use crate::{
    addresses::Addresses,
    cli::RefreshArgs,
    clients::{Clients, SERVED_TIMEOUT},
    output::{count, noted, say, say_json, tell},
    progress::bar,
    refusal::refusal,
    store::folder,
};

pub(crate) async fn run(args: &RefreshArgs) -> Result<()> {
    let addresses = Addresses::find(args.services.addresses.as_deref())?;
    let mut clients = Clients::connect(&addresses, args.services.deadline()).await?;
    let registry = open_registry_of_services(&addresses).await?;
    let data = Dataset::open(&args.data)?;
    let mode = mode(args.full, &registry, &mut clients).await?;
    let refreshed = tokio::select! {
        refreshed = refresh(&registry, &mut clients, &data, mode) => refreshed?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted: what item-tower-svc has begun goes on, `pagoda status` shows how it ends"),
    };
    if args.json {
        return say_json(&refreshed.as_json());
    }
    say_end(&refreshed);
    Ok(())
}

/// Refuses a directory that is not there: opening would make it, and what runs on it would take it for another store.
fn require_store(store: &str, hint: &str) -> Result<()> {
    let missing = folder(store).is_some_and(|folder| !folder.is_dir());
    ensure!(!missing, "store `{store}` is not there; {hint}");
    Ok(())
}

/// The registry in the store of services that run.
pub(crate) async fn open_registry_of_services(addresses: &Addresses) -> Result<Registry> {
    require_store(&addresses.store, "it is the services' store: is its volume mounted?")?;
    open_registry(&addresses.store).await
}

/// The registry in a store that is there, to be read.
pub(crate) async fn open_registry_to_read(store: &str) -> Result<Registry> {
    require_store(store, "`pagoda train --store URL` makes one")?;
    open_registry(store).await
}

/// The registry in a store; a directory that is missing is made.
pub(crate) async fn open_registry(store: &str) -> Result<Registry> {
    let store = Store::open(store)?;
    Ok(Registry::open(store).await?)
}

/// What a refresh did.
pub(crate) struct Refreshed {
    refresh: Refresh,
    /// Without the users themselves.
    users: UserSnapshot,
}

impl Refreshed {
    /// What a person should know: what was left out, and what cannot be filtered by.
    fn notes(&self) -> impl Iterator<Item = String> {
        let Self { refresh, users } = self;
        let refused = BadRows { count: refresh.items_refused, first: refresh.bad_rows.clone() };
        let bad_rows = [refused.note(), users.users.bad_rows.note(), users.bad_interactions.note()];
        let others = [users.unknown_items.note(), unfilterable(refresh), undeclared(refresh)];
        bad_rows.into_iter().chain(others).flatten()
    }

    fn as_json(&self) -> Value {
        let UserSnapshot { users, bad_interactions, unknown_items } = &self.users;
        let bad = |rows: &BadRows| json!({ "count": rows.count, "first": rows.first });
        let mut said = as_json(&self.refresh);
        said["bad_users"] = bad(&users.bad_rows);
        said["bad_interactions"] = bad(bad_interactions);
        said["unknown_items"] =
            json!({ "rows": unknown_items.rows, "items": unknown_items.items, "first": unknown_items.first });
        said
    }
}

/// Hands over catalog and users, refreshes, and waits until Recall serves the result.
pub(crate) async fn refresh(
    registry: &Registry,
    clients: &mut Clients,
    data: &Dataset,
    mode: RefreshMode,
) -> Result<Refreshed> {
    let (snapshot, users) = stage_users(registry, data).await?;
    let catalog = publish_catalog(registry, data).await?;
    let mut refreshed = Refreshed { refresh: Refresh::default(), users };
    let brought = async {
        follow(clients, mode, &catalog, &mut refreshed.refresh).await?;
        let users = registry.record(snapshot).await?;
        until_served(clients, &refreshed.refresh, &users).await
    };
    if let Err(why) = brought.await {
        // What was left out may well be the reason.
        refreshed.notes().for_each(|text| tell(noted(&text)));
        return Err(why);
    }
    Ok(refreshed)
}

/// An incremental refresh needs a generation of the newest model; where there is none, says so and does a full one.
async fn mode(full: bool, registry: &Registry, clients: &mut Clients) -> Result<RefreshMode> {
    if full {
        return Ok(RefreshMode::Full);
    }
    let newest =
        registry.latest(Kind::Model).await?.context("no model is registered in the store; `pagoda train` makes one")?;
    let status = clients.index.get_index_status(GetIndexStatusRequest {}).await.map_err(|s| refusal(&s))?.into_inner();
    let held = status.spaces.iter().filter_map(|s| s.model_version.as_ref()).any(|v| version(v) == newest.label);
    if held {
        return Ok(RefreshMode::Incremental);
    }
    tell(format_args!("the refresh is a full one: the index has nothing of model {} yet", newest.label));
    Ok(RefreshMode::Full)
}

async fn publish_catalog(registry: &Registry, data: &Dataset) -> Result<Entry> {
    let path = data.items_file();
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let extension = path.extension().and_then(OsStr::to_str).context("the items' table has no file extension")?;
    let files = files(data, format!("items.{extension}"), bytes);
    Ok(registry.publish(Kind::Catalog, "items", json!({}), files).await?)
}

/// Brings the users' features into the store; returns what was left out, too, and the users no more.
async fn stage_users(registry: &Registry, data: &Dataset) -> Result<(Staged, UserSnapshot)> {
    let mut snapshot = user_snapshot(data)?;
    let entities = std::mem::take(&mut snapshot.users.entities);
    let bytes = write_entities_parquet(&data.schema().user, &entities, &std::mem::take(&mut snapshot.users.titles))?;
    let files = files(data, "users.parquet".to_owned(), bytes);
    Ok((registry.stage(Kind::UserFeatures, "users", json!({}), files).await?, snapshot))
}

fn files(data: &Dataset, table: String, bytes: Vec<u8>) -> BTreeMap<String, Bytes> {
    BTreeMap::from([(SCHEMA_FILE.to_owned(), data.schema().to_toml().into()), (table, bytes.into())])
}

/// Starts the refresh and shows its progress until it ends, `refresh` being how it stands.
async fn follow(clients: &mut Clients, mode: RefreshMode, catalog: &Entry, refresh: &mut Refresh) -> Result<()> {
    let request =
        StartRefreshRequest { catalog_version: catalog.version, mode: mode.into(), catalog_digest: catalog.digest() };
    let started = clients.items.start_refresh(request).await.map_err(|s| refusal(&s))?.into_inner();
    let refresh_id = started.refresh.context("item-tower-svc started a refresh without saying which")?.refresh_id;
    let lost = || format!("lost sight of {refresh_id}, which may go on: `pagoda status` shows how it ends");
    let watch = WatchRefreshRequest { refresh_id: refresh_id.clone() };
    let mut steps = clients.items.watch_refresh(watch).await.map_err(|s| refusal(&s))?.into_inner();
    let bar = bar("refresh", "items");
    while let Some(step) = steps.message().await.map_err(|s| refusal(&s)).with_context(lost)? {
        *refresh = step.refresh.unwrap_or_default();
        show(&bar, refresh);
    }
    bar.finish_and_clear();
    match refresh.state() {
        RefreshState::Succeeded => Ok(()),
        RefreshState::Unspecified => bail!("item-tower-svc ended the refresh without a word"),
        RefreshState::Failed if !refresh.refused_generation_id.is_empty() => {
            let how = how_to_force(&refresh.refused_generation_id);
            bail!("the refresh failed:\n  {}\n{how}", refresh.error)
        }
        RefreshState::Failed => bail!("the refresh failed:\n  {}", refresh.error),
        _ => bail!("the refresh ended as {}:\n  {}", state(refresh), refresh.error),
    }
}

fn show(bar: &ProgressBar, refresh: &Refresh) {
    bar.set_length(refresh.items_total);
    bar.set_position(refresh.items_embedded);
    bar.set_message(match refresh.state() {
        RefreshState::Building => "the index builds",
        RefreshState::Publishing => "publishing",
        _ => "embedding",
    });
}

/// Waits until user-tower-svc answers with the refresh's model and the users' features that were published.
async fn until_served(clients: &mut Clients, refresh: &Refresh, users: &Entry) -> Result<()> {
    let is_served = |status: &GetUserTowerStatusResponse| {
        status.active_model == refresh.model_version && status.user_features_version >= users.version
    };
    if let Some(status) = clients.not_served(is_served).await? {
        bail!(
            "the refresh succeeded, but user-tower-svc does not serve it after {} s: active model {}, {}",
            SERVED_TIMEOUT.as_secs(),
            status.active_model.as_ref().map_or_else(|| "none".into(), version),
            status.not_ready_reason
        );
    }
    Ok(())
}

/// Says what a refresh did.
pub(crate) fn say_end(refreshed: &Refreshed) {
    let refresh = &refreshed.refresh;
    let seconds = refresh.elapsed_ms as f64 / 1000.0;
    let embedded = count(refresh.items_embedded);
    let read = count(refresh.items_read);
    if refresh.mode() == RefreshMode::Full {
        say(format_args!("{embedded} items embedded and published in {seconds:.1} s"));
        say(format_args!("generation {}", refresh.generation_id));
    } else {
        let deleted = count(refresh.items_deleted);
        say(format_args!("{embedded} of {read} items embedded, {deleted} deleted, in {seconds:.1} s"));
    }
    refreshed.notes().for_each(|text| say(noted(&text)));
}

fn unfilterable(refresh: &Refresh) -> Option<String> {
    let Refresh { unfilterable_texts: found, first_unfilterable: first, .. } = refresh;
    let texts = BadRows { count: *found, first: first.clone() }.lines().join("\n  ");
    let values = if *found == 1 { "text is" } else { "texts are" };
    (*found > 0).then(|| format!("{found} {values} too long to filter by; the items are there without:\n  {texts}"))
}

fn undeclared(refresh: &Refresh) -> Option<String> {
    let names: Vec<String> = refresh.undeclared_attributes.iter().map(|name| format!("`{name}`")).collect();
    let (they, them) = if names.len() == 1 { ("is", "it") } else { ("are", "them") };
    (!names.is_empty()).then(|| {
        format!(
            "{} {they} filterable by schema.toml, and the current generation does not declare {them}: filtering by {them} \
             needs a full refresh first, `pagoda refresh --full`",
            names.join(", ")
        )
    })
}

/// When a refresh ended, in milliseconds since 1970.
pub(super) fn ended_ms(refresh: &Refresh) -> Option<i64> {
    let is_end = matches!(refresh.state(), RefreshState::Succeeded | RefreshState::Failed | RefreshState::Cancelled);
    (is_end && refresh.started_ms > 0).then(|| refresh.started_ms.saturating_add_unsigned(refresh.elapsed_ms))
}

/// What a refresh is doing, or how it ended.
pub(super) fn state(refresh: &Refresh) -> String {
    refresh.state().as_str_name().trim_start_matches("REFRESH_STATE_").to_lowercase()
}

/// How much a refresh embeds.
pub(super) fn mode_name(refresh: &Refresh) -> String {
    refresh.mode().as_str_name().trim_start_matches("REFRESH_MODE_").to_lowercase()
}

/// A refresh for programs.
pub(crate) fn as_json(refresh: &Refresh) -> Value {
    json!({
        "refresh_id": refresh.refresh_id,
        "mode": mode_name(refresh),
        "state": state(refresh),
        "catalog_version": refresh.catalog_version,
        "model_version": refresh.model_version.as_ref().map(version),
        "items_read": refresh.items_read,
        "items_embedded": refresh.items_embedded,
        "items_deleted": refresh.items_deleted,
        "items_refused": refresh.items_refused,
        "bad_rows": refresh.bad_rows,
        "unfilterable_texts": refresh.unfilterable_texts,
        "first_unfilterable": refresh.first_unfilterable,
        "undeclared_attributes": refresh.undeclared_attributes,
        "generation_id": refresh.generation_id,
        "refused_generation_id": refresh.refused_generation_id,
        "lsn": refresh.lsn,
        "started_ms": refresh.started_ms,
        "ended_ms": ended_ms(refresh),
        "seconds": refresh.elapsed_ms as f64 / 1000.0,
        "error": refresh.error,
    })
}
