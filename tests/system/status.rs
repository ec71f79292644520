//! What `pagoda status` tells while something does not work.

use std::fs;

use serde_json::Value;

use crate::{
    harness::{Place, Up, poll, train},
    metrics::value,
};

#[test]
fn a_lost_store_is_shown_while_search_goes_on_and_no_longer_once_it_is_back() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    assert_eq!(troubles(&place), Vec::<String>::new());
    let metrics = up.metrics.iter().find(|(service, _)| *service == "index").unwrap().1;
    let metric = |name: &str| value(metrics, name, &[]).unwrap();
    assert_eq!((metric("index_log_unreachable_seconds"), metric("grpc_server_ready")), (0.0, 1.0));

    let (store, away) = (place.path("store"), place.path("store-away"));
    fs::rename(&store, &away).unwrap();
    let services = poll("the troubles", || Some(troubles(&place)).filter(|services| services.len() == 2));
    assert_eq!(services, ["index-svc", "user-tower-svc"]);
    poll("the metric", || (metric("index_log_unreachable_seconds") > 0.0).then_some(()));
    assert_eq!((metric("index_load_failing_seconds"), metric("grpc_server_ready")), (0.0, 1.0), "it goes on searching");
    // As it stands before it is folded.
    let shown = place.ok(&["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let folder = store.display().to_string();
    assert!(shown.contains("writes are refused, search goes on, for ") && shown.contains(&folder), "{shown}");
    assert_eq!(shown.matches("not serving").count(), 0, "what is held goes on being searched: {shown}");
    assert!(place.ok(&["recall", "--user", "u1"]).contains("generation"));

    fs::rename(&away, &store).unwrap();
    poll("the end of the troubles", || troubles(&place).is_empty().then_some(()));
    poll("the metric", || (metric("index_log_unreachable_seconds") == 0.0).then_some(()));
    let log = up.log();
    assert_eq!(log.matches("cannot follow the log").count(), 1, "it is said once: {log}");
}

#[test]
fn a_refresh_that_failed_is_shown_with_its_reason() {
    let place = Place::with_model();
    let up = Up::start_with(&place, |command| {
        command.args(["--set", "index-svc.memory.bytes_max=1000"]);
    });
    place.refused(&["refresh", "--full", "--data", "data"]);
    let shown = place.ok(&["status"]);
    assert!(shown.contains("(failed)") && shown.contains("memory.bytes_max"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    drop(up);
}

#[test]
fn a_model_that_waits_for_a_refresh_is_told_and_listed_and_so_is_the_last_refresh() {
    let place = Place::with_model();
    let registered = place.json(&["models", "--store", "store", "--json"]);
    let first = &registered.as_array().unwrap()[0];
    assert_eq!((&first["is_newest"], &first["is_served"]), (&true.into(), &Value::Null), "no service was asked");
    assert!(first["trained_ms"].as_u64().unwrap() > 1_700_000_000_000, "{first}");

    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let old = place.json(&["status", "--json"])["active_model"].as_str().unwrap().to_owned();
    assert!(!place.ok(&["status"]).contains("waits for"));
    train(&place, "8");
    let waiting =
        poll("the newer model", || place.json(&["status", "--json"])["waiting_model"].as_str().map(str::to_owned));
    let shown = place.ok(&["status"]);
    assert!(shown.contains(&format!("newest model   {waiting} waits for `pagoda refresh --full")), "{shown}");
    assert!(shown.contains("(succeeded), full\n") && shown.contains("ended 2"), "{shown}");
    let listed = place.ok(&["models"]);
    let line = |model: &str| listed.lines().find(|line| line.contains(model)).unwrap();
    assert!(line(&waiting).contains(" newest ") && line(&waiting).contains(" none "), "{listed}");
    assert!(line(&old).contains(" served "), "{listed}");
    assert!(listed.lines().all(|line| line.chars().count() <= 80), "{listed}");

    place.ok(&["refresh", "--data", "data"]);
    let models = place.json(&["models", "--json"]);
    assert_eq!((&models[0]["model"], &models[0]["is_served"]), (&waiting.into(), &true.into()), "{models}");
    assert_eq!(models[1]["is_served"], false);
    assert!(models.as_array().unwrap().iter().all(|model| model["generation_id"].is_string()), "{models}");
    let last = place.json(&["status", "--json"])["last_refresh"].clone();
    up.stop();

    // Another process knows how it ended.
    fs::remove_file(place.path("addresses.json")).unwrap();
    let up = Up::start(&place);
    let again = place.json(&["status", "--json"])["last_refresh"].clone();
    for key in ["refresh_id", "state", "mode", "model_version", "generation_id"] {
        assert_eq!(again[key], last[key], "{key}");
    }
    assert_eq!(again["state"], "succeeded");
    assert!(again["ended_ms"].as_i64().unwrap() >= again["started_ms"].as_i64().unwrap(), "{again}");
    up.stop();
}

fn troubles(place: &Place) -> Vec<String> {
    let status: Value = place.json(&["status", "--json"]);
    let troubles = status["troubles"].as_array().unwrap();
    troubles.iter().map(|trouble| trouble["service"].as_str().unwrap().to_owned()).collect()
}
