//! The main job: a click log becomes a Recall answer.

use pagoda_proto::{
    feature::v1::{Entity, FeatureValue, TextList, feature_value::Value},
    item::v1::UpsertItemsRequest,
    recall::v1::{RecallRequest, RecallResponse},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Place, Up};

#[tokio::test(flavor = "multi_thread")]
async fn a_click_log_becomes_a_recall_answer() {
    let place = Place::with_model();
    let up = Up::start(&place);
    let refresh = place.json(&["refresh", "--full", "--data", "data", "--json"]);
    assert_eq!(refresh["state"], "succeeded");
    assert_eq!(refresh["items_embedded"], 500);

    let mut recall = up.recall().await;
    let reply = recall.recall(known_user(50)).await.unwrap().into_inner();
    assert!(reply.user_known && reply.history_length > 0);
    assert_eq!(reply.candidates.len(), 50);
    assert!(reply.candidates.is_sorted_by(|a, b| (-a.score, &a.item_id) < (-b.score, &b.item_id)));
    assert_eq!(reply.index_version.as_ref().unwrap().generation_id, refresh["generation_id"].as_str().unwrap());
    assert_same_by_command(&place, &reply);
    assert_filters_divide_the_catalog(&place);

    let again = place.json(&["refresh", "--data", "data", "--json"]);
    assert_eq!((&again["mode"], &again["items_embedded"]), (&"incremental".into(), &0.into()), "nothing changed");
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["health"]["user-tower-svc"], "serving");
    assert_eq!(status["index"]["spaces"][0]["base_count"], 500);
    up.stop();
}

fn assert_same_by_command(place: &Place, reply: &RecallResponse) {
    let by_command = place.json(&["recall", "--user", &known_id(), "--k", "50", "--json", "--data", "data"]);
    let ids = |c: &serde_json::Value| c["item_id"].as_str().unwrap().to_owned();
    let printed: Vec<_> = by_command["candidates"].as_array().unwrap().iter().map(ids).collect();
    let replied: Vec<_> = reply.candidates.iter().map(|c| c.item_id.clone()).collect();
    assert_eq!(printed, replied);
    assert!(by_command["candidates"][0]["title"].is_string());
}

fn assert_filters_divide_the_catalog(place: &Place) {
    let found = |conditions: &[&str]| -> Vec<String> {
        let user = known_id();
        let mut args = vec!["recall", "--user", &user, "--k", "500", "--include-history", "--json"];
        conditions.iter().for_each(|condition| args.extend(["--filter", condition]));
        let reply = place.json(&args);
        assert_eq!(reply["exhausted"], true, "all that there are");
        let ids = reply["candidates"].as_array().unwrap().iter().map(|c| c["item_id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    let (cheap, dear, neither) = (found(&["price<20"]), found(&["price>=20"]), found(&["price<20", "price>20"]));
    assert!(cheap.iter().all(|id| !dear.contains(id)) && neither.is_empty());
    assert_eq!(cheap.len() + dear.len(), 500, "every item has a price");
    for (given, expected) in [
        (
            ["--filter", "category=sport,5"],
            "--filter 'category=sport,5', value `5` (as a text: \"5\"): expected a text",
        ),
        (["--filter", "category>5"], "--filter 'category>5': expected values instead of a range"),
        (["--filter", "colour=red"], "--filter 'colour=red': "),
        (["--k", "0"], "--k: expected 1 to 1000, found 0"),
    ] {
        let message = place.refused(&[["recall", "--user", "u1"].as_slice(), &given].concat());
        assert!(message.contains(expected) && !message.contains("filter.all"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_excluded_items_are_left_out() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let mut recall = up.recall().await;

    let everything = RecallRequest { include_history: true, ..known_user(500) };
    let all = recall.recall(everything).await.unwrap().into_inner();
    assert_eq!(all.candidates.len(), 500);
    let without_history = recall.recall(known_user(500)).await.unwrap().into_inner();
    assert!(without_history.exhausted && without_history.candidates.len() < 500);

    let first = without_history.candidates[0].item_id.clone();
    let excluding = RecallRequest { exclude_item_ids: vec![first.clone()], ..known_user(10) };
    let reply = recall.recall(excluding).await.unwrap().into_inner();
    assert!(reply.candidates.iter().all(|c| c.item_id != first));
    assert_eq!(reply.candidates[0].item_id, without_history.candidates[1].item_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_is_an_ordinary_user_without_history() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let mut recall = up.recall().await;

    let unknown = recall.recall(request(entity("nobody has this id", &[]), 10)).await.unwrap().into_inner();
    assert_eq!((unknown.user_known, unknown.history_length, unknown.candidates.len()), (false, 0, 10));
    let nameless = recall.recall(request(entity("", &[]), 10)).await.unwrap().into_inner();
    assert_eq!(nameless.candidates, unknown.candidates);

    let seen = unknown.candidates[0].item_id.clone();
    let history = Value::Texts(TextList { values: vec![seen.clone(), "no such item".into()] });
    let told = request(entity("nobody has this id", &[("history", history)]), 10);
    let told = recall.recall(told).await.unwrap().into_inner();
    assert_eq!(told.history_length, 2);
    assert!(told.candidates.iter().all(|c| c.item_id != seen), "an item of the history came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_at_fault_is_named() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let mut recall = up.recall().await;

    let features =
        [("region", Value::Number(f64::NAN)), ("history", Value::Text("1".into())), ("shoe_size", Value::Number(43.0))];
    let bad = RecallRequest {
        user: Some(entity("a\u{0}b", &features)),
        k: 0,
        exclude_item_ids: vec![String::new()],
        include_history: false,
        objective_weights: [("profit".to_owned(), 1.0)].into(),
        ..Default::default()
    };
    let status = recall.recall(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let named: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    for field in ["k", "user.id", "region", "history", "shoe_size", "exclude_item_ids[0]", "objective_weights"] {
        assert!(named.iter().any(|n| n.contains(field)), "{field} is not among {named:?}");
    }
    let too_many = recall.recall(known_user(1_000_000)).await.unwrap_err();
    assert_eq!(too_many.code(), Code::InvalidArgument);
    assert!(recall.recall(known_user(5)).await.is_ok(), "it goes on serving");
    up.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_item_is_recalled_after_an_upsert() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let item = entity("brand-new", &[("category", Value::Text("a category nobody saw".into()))]);
    let upserted = up.items().await.upsert_items(UpsertItemsRequest { items: vec![item] }).await.unwrap().into_inner();

    let reply = up.recall().await.recall(known_user(501)).await.unwrap().into_inner();
    assert!(reply.index_version.unwrap().lsn >= upserted.lsn);
    assert!(reply.candidates.iter().any(|c| c.item_id == "brand-new"));
    up.stop();
}

/// A user of the generated data who has clicked.
fn known_id() -> String {
    "u1".into()
}

fn known_user(k: u32) -> RecallRequest {
    request(entity(&known_id(), &[]), k)
}

fn request(user: Entity, k: u32) -> RecallRequest {
    RecallRequest { user: Some(user), k, ..Default::default() }
}

fn entity(id: &str, features: &[(&str, Value)]) -> Entity {
    let features = features.iter().map(|(n, v)| (n.to_string(), FeatureValue { value: Some(v.clone()) })).collect();
    Entity { id: id.into(), features }
}
