//! Training that is killed or goes wrong: fault 39. Nothing is registered but a model that was evaluated.

use std::{fs, path::Path, process::Child};

use serde_json::Value;

use crate::harness::{Place, poll};

const GENERATE: [&str; 9] =
    ["generate", "--out", "data", "--users", "400", "--items", "1000", "--impressions", "30000"];
const LONG: &str =
    "[training]\nepochs = 60\nbatch_size = 64\n[checkpoint]\nevery_seconds = 1\n[evaluation]\nbaselines = []";
const COLLAPSING: &str = "[loss]\nkind = \"cosine_contrastive\"\nmargin = 1.0\nnegative_weight = 0.0\n[training]\ntower_learning_rate = 0.01\nepochs = 30";

fn train<'a>(store: &'a str, summary: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = ["train", "--data", "data", "--store", store, "--config", "train.toml", "--summary", summary];
    [&own, more].concat()
}

/// A killed child is waited for, also when a test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn summary(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_killed_run_registers_nothing_and_a_resumed_one_ends_as_if_it_had_not_been_killed() {
    let place = Place::new();
    place.ok(&GENERATE);
    fs::write(place.path("train.toml"), LONG).unwrap();
    let checkpoints = ["--checkpoints", "run"];
    let mut killed =
        Killed(place.command("pagoda").args(train("killed", "killed.json", &checkpoints)).spawn().unwrap());
    let checkpoint = place.path("run/fit-checkpoint.safetensors");
    poll("a checkpoint", || checkpoint.exists().then_some(()));
    killed.0.kill().unwrap();
    assert!(!killed.0.wait().unwrap().success());
    assert!(!place.path("killed.json").exists());
    let evaluate = ["evaluate", "--data", "data", "--store", "killed"];
    assert!(place.refused(&evaluate).contains("is not there"));

    place.ok(&train("killed", "killed.json", &["--checkpoints", "run", "--resume"]));
    assert!(!checkpoint.exists(), "nothing is left once a run is done");
    place.ok(&train("whole", "whole.json", &[]));
    let (killed, whole) = (summary(&place.path("killed.json")), summary(&place.path("whole.json")));
    for key in ["model_version", "metrics", "curves", "steps", "negatives"] {
        assert_eq!(killed[key], whole[key], "{key}");
    }
}

#[test]
fn a_run_whose_model_could_not_be_registered_goes_on_from_its_checkpoint() {
    let place = Place::new();
    place.ok(&GENERATE);
    fs::write(place.path("train.toml"), LONG).unwrap();
    fs::create_dir(place.path("store")).unwrap();
    // A file where the store keeps the files of models.
    fs::write(place.path("store/blobs"), "").unwrap();
    place.refused(&train("store", "s.json", &["--checkpoints", "run"]));
    let checkpoint = place.path("run/fit-checkpoint.safetensors");
    assert!(checkpoint.exists() && !place.path("s.json").exists());
    fs::remove_file(place.path("store/blobs")).unwrap();
    place.ok(&train("store", "s.json", &["--checkpoints", "run", "--resume"]));
    assert!(!checkpoint.exists() && place.path("s.json").exists());
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let place = Place::new();
    place.ok(&GENERATE);
    fs::write(place.path("train.toml"), LONG).unwrap();
    let checkpoints = ["--checkpoints", "run"];
    let killed = Killed(place.command("pagoda").args(train("store", "s.json", &checkpoints)).spawn().unwrap());
    let checkpoint = place.path("run/fit-checkpoint.safetensors");
    poll("a checkpoint", || checkpoint.exists().then_some(()));
    drop(killed);
    let resume = ["--checkpoints", "run", "--resume", "--seed", "7"];
    let message = place.refused(&train("store", "s.json", &resume));
    assert!(message.contains("fit-checkpoint.safetensors") && message.contains("another run"), "{message}");
}

#[test]
fn a_collapsed_run_says_so_and_registers_nothing() {
    let place = Place::new();
    place.ok(&GENERATE);
    fs::write(place.path("train.toml"), COLLAPSING).unwrap();
    let message = place.refused(&train("store", "s.json", &[]));
    assert!(message.contains("look alike"), "{message}");
    assert!(!place.path("s.json").exists());
    assert!(place.refused(&["evaluate", "--data", "data", "--store", "store"]).contains("is not there"));
}
