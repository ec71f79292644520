//! `pagoda demo`, small: every stage runs, the numbers are written, nothing is left running.

use std::fs;

use serde_json::Value;

use crate::harness::Place;

#[test]
fn the_demo_runs_from_start_to_end_and_writes_its_numbers() {
    let place = Place::new();
    let size = ["--users", "600", "--items", "800", "--impressions", "60000"];
    let mut args = vec!["demo", "--summary", "demo.json", "--dir", "work"];
    args.extend(size);
    let said = place.ok(&args);
    assert!(said.contains("popularity") && said.contains("p99"), "{said}");

    let summary: Value = serde_json::from_slice(&fs::read(place.path("demo.json")).unwrap()).unwrap();
    let figure = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name} is missing: {summary}"));
    assert!(figure("recall_at_100") > figure("popularity_recall_at_100"), "{summary}");
    assert!(figure("ann_recall_at_100") >= 0.9, "{summary}");
    assert!(figure("recall_p50_ms") > 0.0 && figure("recall_p50_ms") <= figure("recall_p99_ms"), "{summary}");
    for stage in ["generate", "train", "start", "refresh", "total"] {
        assert!(summary["seconds"][stage].as_f64().is_some_and(|s| s > 0.0), "{stage}: {summary}");
    }
    let complaints: Vec<String> = ["user-tower-svc", "item-tower-svc", "index-svc"]
        .iter()
        .flat_map(|name| {
            fs::read_to_string(place.path(&format!("work/logs/{name}.log")))
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}
