//! Refreshes that do not go as planned: refused, killed in between, after a rollback, of a catalog that has lost items.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    process::Command,
};

use pagoda_dataset::{Dataset, Limits, write_entities_parquet};
use pagoda_model::{Entity, FeatureValue};
use pagoda_proto::{
    feature::v1,
    index::v1::{
        GetIndexStatusRequest, RollbackGenerationRequest, SpaceStatus, index_service_client::IndexServiceClient,
    },
    recall::v1::{RecallRequest, recall_service_client::RecallServiceClient},
    user::v1::{GetUserTowerStatusRequest, user_tower_service_client::UserTowerServiceClient},
};
use serde_json::{Value, json};

use crate::harness::{Place, SHORT_TRAINING, Service, Up, channel, copy_dir};

const ITEMS: u64 = 500;

/// Reads the items' table of a data directory and writes it with what becomes of it.
fn change_items(
    place: &Place,
    data: &str,
    change: impl FnOnce(Vec<(Entity, Option<String>)>) -> Vec<(Entity, Option<String>)>,
) {
    let dataset = Dataset::open(&place.path(data)).unwrap();
    let items = dataset.read_items(&Limits::default()).unwrap();
    let (entities, titles): (Vec<_>, Vec<_>) =
        change(items.entities.into_iter().zip(items.titles).collect()).into_iter().unzip();
    fs::write(dataset.items_file(), write_entities_parquet(&dataset.schema().item, &entities, &titles).unwrap())
        .unwrap();
}

/// The items by how many interactions they have, most first, with how many.
fn by_popularity(place: &Place) -> Vec<(String, u64)> {
    let log = Dataset::open(&place.path("data")).unwrap().read_interactions(&Limits::default()).unwrap();
    let mut counts: HashMap<u32, u64> = HashMap::new();
    log.rows.iter().for_each(|row| *counts.entry(row.item).or_default() += 1);
    let mut items: Vec<_> =
        counts.into_iter().map(|(item, n)| (log.items[item as usize].as_str().to_owned(), n)).collect();
    items.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    items
}

/// A copy of `data` with so many of the most popular items alone.
fn data_with_fewer_items(place: &Place, name: &str, kept: usize) {
    copy_dir(&place.path("data"), &place.path(name));
    let kept: HashSet<String> = by_popularity(place).into_iter().take(kept).map(|(item, _)| item).collect();
    change_items(place, name, |items| items.into_iter().filter(|(item, _)| kept.contains(&item.id)).collect());
}

/// What everybody sees.
#[derive(Debug, PartialEq)]
struct Seen {
    space: SpaceStatus,
    user_features_version: u64,
    recalled: Vec<(String, f32)>,
}

async fn seen(user_tower: SocketAddr, index: SocketAddr) -> Seen {
    let mut users = UserTowerServiceClient::new(channel(user_tower).await);
    let status = users.get_user_tower_status(GetUserTowerStatusRequest {}).await.unwrap().into_inner();
    let mut recall = RecallServiceClient::new(channel(user_tower).await);
    let user = v1::Entity { id: "u1".into(), ..Default::default() };
    let reply =
        recall.recall(RecallRequest { user: Some(user), k: 1000, ..Default::default() }).await.unwrap().into_inner();
    let space = index_status(index).await;
    let recalled = reply.candidates.into_iter().map(|c| (c.item_id, c.score)).collect();
    Seen { space, user_features_version: status.user_features_version, recalled }
}

async fn index_status(index: SocketAddr) -> SpaceStatus {
    let mut index = IndexServiceClient::new(channel(index).await);
    index.get_index_status(GetIndexStatusRequest {}).await.unwrap().into_inner().spaces.remove(0)
}

fn index_address(place: &Place) -> SocketAddr {
    let addresses: Value = serde_json::from_slice(&fs::read(place.path("addresses.json")).unwrap()).unwrap();
    addresses["index"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_catalog_lost_and_what_it_cannot_filter_by_is_told_and_stops_nothing() {
    let place = Place::with_model();
    let up = Up::start(&place);
    let (popular, long) = (by_popularity(&place), "x".repeat(300));
    let (gone, branded) = (&popular[..30], popular[30].0.as_str());
    let rows: u64 = gone.iter().map(|(_, rows)| rows).sum();
    let all: u64 = popular.iter().map(|(_, rows)| rows).sum();
    assert!(rows * 20 > all, "so many that they could not be bad rows: {rows} of {all}");
    change_items(&place, "data", |mut items| {
        items.retain(|(item, _)| !gone.iter().any(|(id, _)| *id == item.id));
        let item = items.iter_mut().find(|(item, _)| item.id == branded).unwrap();
        item.0.features.insert("brand".into(), FeatureValue::Text(long));
        items
    });

    let refresh = place.json(&["refresh", "--full", "--data", "data", "--json"]);
    assert_eq!((&refresh["items_embedded"], &refresh["items_refused"]), (&json!(ITEMS - 30), &json!(0)));
    assert_eq!((&refresh["unknown_items"]["items"], &refresh["unknown_items"]["rows"]), (&json!(30), &json!(rows)));
    assert_eq!((&refresh["unfilterable_texts"], &refresh["bad_interactions"]["count"]), (&json!(1), &json!(0)));
    let told = refresh["first_unfilterable"][0].as_str().unwrap();
    assert!(told.contains(branded) && told.contains("feature `brand`") && told.contains("found 300"), "{told}");
    let said = place.ok(&["refresh", "--full", "--data", "data"]);
    assert!(
        said.contains("of 30 items that the items' table does not have") && said.contains("too long to filter by"),
        "{said}"
    );
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");

    let args = ["recall", "--user", "u1", "--k", "500", "--include-history", "--json", "--filter", "brand!=other"];
    let found = place.json(&args);
    assert!(found["candidates"].as_array().unwrap().iter().any(|c| c["item_id"] == branded), "it has no brand");
    up.stop();

    fs::write(place.path("train.toml"), SHORT_TRAINING).unwrap();
    place.ok(&["train", "--data", "data", "--store", "store", "--config", "train.toml", "--summary", "train.json"]);
    let summary: Value = serde_json::from_slice(&fs::read(place.path("train.json")).unwrap()).unwrap();
    let counts = &summary["counts"];
    assert_eq!((&counts["unknown_item_rows"], &counts["items"]), (&json!(rows), &json!(ITEMS - 30)), "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_refresh_changes_nothing_for_anybody_and_nobody_builds_on_its_catalog() {
    let place = Place::with_model();
    let up = Up::start(&place);
    let index = index_address(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let before = seen(up.user_tower, index).await;

    data_with_fewer_items(&place, "fewer", 200);
    let refused = place.refused(&["refresh", "--full", "--data", "fewer"]);
    assert!(refused.contains("gate item_count_ratio refused the generation"), "{refused}");
    assert!(refused.contains("of 300 items that the items' table does not have"), "what it left out: {refused}");
    assert_eq!(seen(up.user_tower, index).await, before);

    // Neither does who names it build on it, nor who asks for the newest.
    let refused = place.refused(&["refresh", "--data", "fewer"]);
    assert!(refused.contains("an incremental refresh passes no gates"), "{refused}");
    let peers = format!("peers.index=http://{index}");
    let job = place
        .command("item-tower-svc")
        .args(["refresh", "--set", "store.url=store", "--set", &peers])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&job.stderr).into_owned() + &String::from_utf8_lossy(&job.stdout);
    assert!(!job.status.success() && said.contains("an incremental refresh passes no gates"), "{said}");
    assert_eq!(seen(up.user_tower, index).await, before);

    // What is built on is what was published before.
    change_items(&place, "data", |mut items| {
        items[7].0.features.insert("price".into(), FeatureValue::Number(12.5));
        items
    });
    let refresh = place.json(&["refresh", "--data", "data", "--json"]);
    assert_eq!((&refresh["items_embedded"], &refresh["items_deleted"]), (&json!(1), &json!(0)));
    let after = seen(up.user_tower, index).await;
    assert_eq!((after.space.base_count, after.space.delta_count), (ITEMS - 1, 1));
    assert_eq!(after.user_features_version, before.user_features_version, "the users are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_refresh_says_which_attributes_need_a_full_one() {
    let place = Place::with_model();
    let _up = Up::start(&place);
    let path = place.path("data/schema.toml");
    let all = fs::read_to_string(&path).unwrap();
    let (before, after) = all.split_once("name = \"brand\"").unwrap();
    let (until, rest) = after.split_once("filterable = true\n").unwrap();
    fs::write(&path, format!("{before}name = \"brand\"{until}{rest}")).unwrap();
    place.ok(&["refresh", "--full", "--data", "data"]);
    let filtered = ["recall", "--user", "u1", "--filter", "brand!=other"];
    place.refused(&filtered);

    fs::write(&path, all).unwrap();
    let refresh = place.json(&["refresh", "--data", "data", "--json"]);
    assert_eq!(refresh["undeclared_attributes"], json!(["brand"]));
    let said = place.ok(&["refresh", "--data", "data"]);
    assert!(said.contains("note: `brand` is filterable") && said.contains("`pagoda refresh --full`"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let refresh = place.json(&["refresh", "--full", "--data", "data", "--json"]);
    assert_eq!(refresh["undeclared_attributes"], json!([]));
    place.ok(&filtered);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_items_table_is_called_one() {
    let place = Place::with_model();
    let _up = Up::start(&place);
    change_items(&place, "data", |_| Vec::new());
    let refused = place.refused(&["refresh", "--full", "--data", "data"]);
    assert!(refused.contains("items.parquet: expected at least one good row, found none"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rollback_an_incremental_refresh_wants_a_full_one_first() {
    let place = Place::with_model();
    let _up = Up::start(&place);
    let index = index_address(&place);
    data_with_fewer_items(&place, "fewer", 400);
    for data in ["data", "fewer"] {
        place.ok(&["refresh", "--full", "--data", data]);
    }
    let space = index_status(index).await.model_version.unwrap().space_id;
    let mut client = IndexServiceClient::new(channel(index).await);
    let roll_back = RollbackGenerationRequest { space_id: space, ..Default::default() };
    client.rollback_generation(roll_back).await.unwrap();
    assert_eq!(index_status(index).await.base_count, ITEMS);
    let refused = place.refused(&["refresh", "--data", "fewer"]);
    assert!(
        refused.contains("a full refresh is needed") && refused.contains("not what the last refresh left"),
        "{refused}"
    );
    place.ok(&["refresh", "--full", "--data", "fewer"]);
    assert_eq!(place.json(&["refresh", "--data", "fewer", "--json"])["items_embedded"], 0);
    assert_eq!(index_status(index).await.base_count, 400);
}

/// The three services, each started by itself, and where commands find them.
struct Apart {
    index: Service,
    item_tower: Service,
    user_tower: Service,
}

impl Apart {
    /// `index` is the command of index-svc.
    fn start(place: &Place, index: Command) -> Self {
        let index = Service::start_as(index, place, "index-svc", &[]);
        let peers = format!("peers.index=http://{}", index.address);
        let tower = |name| Service::start(place, name, &[&peers]);
        let apart = Self { item_tower: tower("item-tower-svc"), user_tower: tower("user-tower-svc"), index };
        let addresses = json!({
            "store": place.path("store"),
            "user_tower": apart.user_tower.address,
            "item_tower": apart.item_tower.address,
            "index": apart.index.address,
            "metrics": { "user_tower": null, "item_tower": null, "index": null },
            "pid": std::process::id(),
        });
        fs::write(place.path("addresses.json"), addresses.to_string()).unwrap();
        apart
    }

    /// Waits for index-svc to end by itself, and starts it again where it was.
    fn restart_index(self, place: &Place) -> Self {
        let address = self.index.address;
        assert_eq!(self.index.ended().signal(), Some(9));
        let index = Service::start(place, "index-svc", &[&format!("listen.address={address}")]);
        Self { index, ..self }
    }

    async fn seen(&self) -> Seen {
        seen(self.user_tower.address, self.index.address).await
    }
}

/// What `u1` is recalled, and by which users' features, after two full refreshes; the index may be killed right after it has committed the second publication,
/// and then the refresh is done again.
async fn after_two_refreshes(is_killed: bool) -> Seen {
    let place = Place::with_model();
    data_with_fewer_items(&place, "fewer", 400);
    let mut index = place.command("index-svc");
    if is_killed {
        index.env("FAILPOINTS", "publication_appended=1*off->return");
    }
    let mut services = Apart::start(&place, index);
    let refresh = |data, full: &[&str]| {
        let args = [&["refresh", "--addresses", "addresses.json", "--data", data], full].concat();
        place.run(&args)
    };
    assert!(refresh("data", &["--full"]).status.success());
    let before = services.seen().await;
    let second = refresh("fewer", &["--full"]);
    assert_eq!(second.status.success(), !is_killed, "{}", String::from_utf8_lossy(&second.stderr));
    if is_killed {
        services = services.restart_index(&place);
        let between = until_answered(&services).await;
        assert_eq!((between.space.base_count, between.space.delta_count), (400, 0), "the publication holds");
        assert_eq!(between.user_features_version, before.user_features_version, "the users' features are not yet");
        let again = refresh("fewer", &[]);
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    }
    let after = services.seen().await;
    assert!(after.user_features_version > before.user_features_version);
    after
}

async fn until_answered(services: &Apart) -> Seen {
    let mut recall = RecallServiceClient::new(channel(services.user_tower.address).await);
    crate::numbered_items::until("an answer", async || {
        recall.recall(RecallRequest { k: 1, ..Default::default() }).await.is_ok()
    })
    .await;
    services.seen().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_index_was_killed_after_the_publication_ends_when_done_again_as_if_it_had_not_been() {
    let (straight, resumed) = (after_two_refreshes(false).await, after_two_refreshes(true).await);
    assert_eq!(resumed.space.base_count + resumed.space.delta_count, straight.space.base_count);
    assert_eq!(resumed.user_features_version, straight.user_features_version);
    assert_eq!(resumed.recalled.len(), straight.recalled.len());
    for ((item, score), (expected, of_expected)) in resumed.recalled.iter().zip(&straight.recalled) {
        assert!(
            item == expected && (score - of_expected).abs() < 1e-6,
            "{item} {score}, expected {expected} {of_expected}"
        );
    }
}
