//! What an operator does by hand: publishing what gates refused, going back, deleting.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pagoda_proto::{
    feature::v1::{Entity, FeatureValue, feature_value::Value},
    item::v1::UpsertItemsRequest,
};
use serde_json::Value as Json;

use crate::{
    harness::{Place, Up, train},
    rollout::call,
};

/// Every item that `u1` may be answered with.
fn recalled(place: &Place) -> Vec<String> {
    let reply = place.json(&["recall", "--user", "u1", "--k", "1000", "--include-history", "--json"]);
    reply["candidates"].as_array().unwrap().iter().map(|c| text(&c["item_id"])).collect()
}

fn text(value: &Json) -> String {
    value.as_str().unwrap().to_owned()
}

fn generations(place: &Place, args: &[&str]) -> Vec<Json> {
    let listed = place.json(&[&["generations", "--json"], args].concat());
    listed.as_array().unwrap().clone()
}

fn active_model(place: &Place) -> String {
    text(&place.json(&["status", "--json"])["active_model"])
}

#[test]
fn what_gates_refuse_is_found_forced_and_undone() {
    let place = Place::with_model();
    let _up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let first = text(&generations(&place, &[])[0]["generation_id"]);
    let few = ["--users", "400", "--items", "100", "--impressions", "5000", "--seed", "7"];
    place.ok(&[["generate", "--out", "few"].as_slice(), &few].concat());

    let refused = String::from_utf8(place.run(&["refresh", "--full", "--data", "few"]).stderr).unwrap();
    let command = refused.lines().last().unwrap().trim();
    let named = command.strip_prefix("pagoda publish ").and_then(|rest| rest.strip_suffix(" --force-as NAME"));
    let refused_id = named.unwrap_or_else(|| panic!("it says how to go on: {refused}"));
    assert!(refused.contains("item_count_ratio") && refused.lines().all(|line| line.len() <= 80), "{refused}");

    assert_eq!(generations(&place, &[]).len(), 1);
    let all = generations(&place, &["--all"]);
    let found = all.iter().find(|one| one["generation_id"] == refused_id).unwrap();
    assert_eq!((&found["state"], &found["report"]["item_count"]), (&"refused".into(), &100.into()));
    assert_eq!(found["report"]["failed_gates"][0]["gate"], "item_count_ratio");
    let table = place.ok(&["generations", "--all"]);
    let short = refused_id.rsplit('-').next().unwrap();
    assert!(table.contains(&format!("{short} failed item_count_ratio")), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    let without_force = place.refused(&["publish", short]);
    assert!(without_force.contains("found 100 items") && without_force.contains("--force-as NAME"), "{without_force}");
    assert!(place.refused(&["publish", "no-such"]).contains("`no-such`"));
    let forced = place.json(&["publish", short, "--force-as", "ada", "--json"]);
    assert_eq!((&forced["generation_id"], &forced["before"]), (&refused_id.into(), &first.clone().into()));
    assert_eq!(generations(&place, &[])[0]["forced_by"], "ada");
    assert_eq!(recalled(&place).len(), 100);

    let back = place.json(&["rollback", "--json"]);
    assert_eq!((&back["generation_id"], &back["before"]), (&first.clone().into(), &refused_id.into()));
    assert_eq!(recalled(&place).len(), 500);
    let again = place.json(&["rollback", "--generation", &first, "--json"]);
    assert_eq!(again["lsn"], back["lsn"], "the same again goes no further");
    assert!(place.refused(&["rollback"]).contains("was published before"), "there is nothing further back");
    assert_eq!(recalled(&place).len(), 500);

    // What is current by force is a basis, although gates would not have it.
    place.ok(&["rollback", "--generation", refused_id]);
    place.ok(&["refresh", "--data", "few"]);
    assert_eq!(recalled(&place).len(), 100);
}

#[test]
fn deleted_items_are_gone_until_they_are_upserted() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    assert_eq!(place.json(&["delete", "i1", "i2", "--json"])["items_deleted"], 2);
    // More than one request takes, most of them unknown.
    let ids: Vec<String> = (3..=5000).map(|n| format!("i{n}")).filter(|id| id != "i9").collect();
    fs::write(place.path("ids.txt"), ids.join("\n")).unwrap();
    let deleted = place.json(&["delete", "--file", "ids.txt", "--json"]);
    assert_eq!(
        (&deleted["items_deleted"], deleted["not_held"].as_array().unwrap().len()),
        (&497.into(), ids.len() - 497)
    );
    assert!(place.ok(&["delete", "no such"]).contains("0 items deleted"));
    assert_eq!(recalled(&place), ["i9"]);
    place.ok(&["refresh", "--full", "--data", "data"]);
    assert_eq!(recalled(&place), ["i9"], "also through a refresh");
    let message = place.refused(&["delete", ""]);
    assert!(message.contains("the request is wrong: id ``: "), "{message}");
    up.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_to_an_older_model_takes_every_service_along_and_fails_no_call() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let old = active_model(&place);
    train(&place, "8");
    place.ok(&["refresh", "--full", "--data", "data"]);
    let new = active_model(&place);
    assert_ne!(old, new);

    let done = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn(call(up.user_tower, done.clone()));
    let back = place.json(&["rollback", "--model", &old, "--json"]);
    assert_eq!((&back["model"], &back["before"]), (&old.clone().into(), &new.clone().into()));
    assert_eq!(active_model(&place), old);
    assert_eq!(generations(&place, &[])[0]["model"], old);
    let lsn = || place.json(&["status", "--json"])["index"]["lsn"].clone();
    let before = lsn();
    place.ok(&["rollback", "--model", &old]);
    assert_eq!(lsn(), before, "twice changes nothing more");

    // What comes now is embedded with the model that users are answered with.
    let category = FeatureValue { value: Some(Value::Text("sport".into())) };
    let item = Entity { id: "brand-new".into(), features: [("category".to_owned(), category)].into() };
    up.items().await.upsert_items(UpsertItemsRequest { items: vec![item] }).await.unwrap();
    assert!(recalled(&place).contains(&"brand-new".to_owned()));
    let refresh = place.json(&["refresh", "--full", "--data", "data", "--json"]);
    assert_eq!(refresh["model_version"], old);
    assert_eq!(active_model(&place), old, "a refresh does not lead to the newer one again");

    done.store(true, Ordering::Relaxed);
    let answered = caller.await.unwrap();
    let written = |model: &pagoda_proto::feature::v1::ModelVersion| format!("{}/{}", model.space_id, model.revision);
    assert!(answered.iter().all(|(model, generation)| generation.starts_with(&model.space_id)), "no mixture");
    assert_eq!(written(&answered[0].0), new);
    assert_eq!(written(&answered.last().unwrap().0), old);
    up.stop();
}

#[test]
fn a_model_that_the_index_has_nothing_of_any_more_answers_after_a_full_refresh() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let first = active_model(&place);
    for seed in ["8", "9"] {
        train(&place, seed);
        place.ok(&["refresh", "--full", "--data", "data"]);
    }
    let newest = active_model(&place);
    let said = place.ok(&["rollback", "--model", &first]);
    assert!(said.contains(&newest) && said.contains("pagoda refresh --full"), "{said}");
    assert_eq!(active_model(&place), newest, "until there is something of it");
    place.ok(&["refresh", "--full", "--data", "data"]);
    assert_eq!(active_model(&place), first);
    let message = place.refused(&["rollback", "--model", "0000000000000000/0"]);
    assert!(message.contains(&first) && message.contains(&newest), "it names those there are: {message}");
    up.stop();
}
