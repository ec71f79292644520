//! What the README tells a person to type, on real data sets where they are at hand.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::harness::{Place, Up};

#[test]
fn ml_latest_small_is_imported_trained_and_recalled() {
    from_import_to_recall("movielens-csv", "ml-latest-small", "414");
}

#[test]
fn movietweetings_is_imported_trained_and_recalled() {
    from_import_to_recall("movielens-dat", "movietweetings-100k", "2");
}

fn from_import_to_recall(format: &str, name: &str, user: &str) {
    let Some(source) = shared_data(name) else { return };
    let place = Place::new();
    place.ok(&["import", format, source.to_str().unwrap(), "--out", "data"]);
    fs::write(place.path("train.toml"), "[training]\nepochs = 2\n").unwrap();
    place.ok(&["train", "--data", "data", "--store", "store", "--config", "train.toml", "--summary", "train.json"]);
    let summary: Value = serde_json::from_slice(&fs::read(place.path("train.json")).unwrap()).unwrap();
    for figures in ["metrics", "popularity"] {
        let recall = summary[figures]["recall_at_100"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&recall), "{figures}: {recall}");
    }
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let reply = place.json(&["recall", "--user", user, "--k", "20", "--data", "data", "--json"]);
    assert_eq!(reply["candidates"].as_array().unwrap().len(), 20);
    assert_eq!(reply["user_known"], true);
    up.stop();
}

#[test]
fn given_splits_and_sequences_are_imported_and_trained() {
    let place = Place::new();
    let line = |user: usize, from: usize| {
        let items = (0..8).map(|n| format!(" {}", (user * 7 + from + n) % 40));
        format!("{user}{}\n", items.collect::<String>())
    };
    let lines = |from: usize| (0..60).map(|user| line(user, from)).collect::<String>();
    fs::create_dir(place.path("split")).unwrap();
    fs::write(place.path("split/train.txt"), lines(0)).unwrap();
    fs::write(place.path("split/test.txt"), lines(8)).unwrap();
    fs::write(place.path("sequences.txt"), lines(0)).unwrap();
    fs::write(place.path("train.toml"), "[training]\nepochs = 1\n").unwrap();
    for (format, path) in [("split", "split"), ("sequences", "sequences.txt")] {
        let (data, store, summary) = (format!("{format}-data"), format!("{format}-store"), format!("{format}.json"));
        place.ok(&["import", format, path, "--out", &data]);
        place.ok(&["train", "--data", &data, "--store", &store, "--config", "train.toml", "--summary", &summary]);
        let summary: Value = serde_json::from_slice(&fs::read(place.path(&summary)).unwrap()).unwrap();
        assert_eq!(summary["metrics"]["recall_at_100"], 1.0, "there are only forty items: {summary}");
    }
}

#[test]
fn completions_name_the_commands() {
    let script = Place::new().ok(&["completions", "bash"]);
    assert!(script.contains("refresh") && script.contains("recall"));
}

/// A public data set beside the repository, or a word that it is absent.
fn shared_data(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.is_dir() {
        eprintln!("skipped: the data set {name} is not at {}", path.display());
        return None;
    }
    Some(path)
}
