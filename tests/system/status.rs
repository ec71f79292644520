//! What `pagoda status` tells while something does not work.

use std::fs;

use serde_json::Value;

use crate::harness::{Place, Up, poll};

#[test]
fn a_lost_store_is_shown_while_search_goes_on_and_no_longer_once_it_is_back() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    assert_eq!(troubles(&place), Vec::<String>::new());

    let (store, away) = (place.path("store"), place.path("store-away"));
    fs::rename(&store, &away).unwrap();
    let services = poll("the troubles", || Some(troubles(&place)).filter(|services| services.len() == 2));
    assert_eq!(services, ["index-svc", "user-tower-svc"]);
    // As it stands before it is folded.
    let shown = place.ok(&["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let folder = store.display().to_string();
    assert!(shown.contains("writes are refused, search goes on, for ") && shown.contains(&folder), "{shown}");
    assert_eq!(shown.matches("not serving").count(), 0, "what is held goes on being searched: {shown}");
    assert!(place.ok(&["recall", "--user", "u1"]).contains("generation"));

    fs::rename(&away, &store).unwrap();
    poll("the end of the troubles", || troubles(&place).is_empty().then_some(()));
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

fn troubles(place: &Place) -> Vec<String> {
    let status: Value = place.json(&["status", "--json"]);
    let troubles = status["troubles"].as_array().unwrap();
    troubles.iter().map(|trouble| trouble["service"].as_str().unwrap().to_owned()).collect()
}
