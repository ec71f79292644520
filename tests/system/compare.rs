//! Comparisons of recipes: trained, mined for, tabled and written, with failures as rows.

use std::fs;

use serde_json::Value;

use crate::harness::Place;

const CONFIG: &str = "[model]\nembedding_dim = 16\nhidden = []\n[training]\nepochs = 2\nbatch_size = 128\n\
    [evaluation]\nqueries_max = 500\n";

/// The second is mined for; half of its negatives are hard from the first step on.
const RECIPES: &str = r#"
[[recipe]]
name = "random"
[recipe.config.negatives]
in_batch = 1.0
uniform = 0.0

[[recipe]]
name = "half-hard"
description = "As many hard ones as others."
[recipe.config.negatives]
in_batch = 0.0
uniform = 0.5
hard = 0.5
count = 32
hard_warmup_share = 0.0
hard_ramp_share = 0.0
[recipe.mine]
source = "SOURCE"
from_rank = 20
to_rank = 80
top = 200
"#;

/// A model that comes to nothing.
const WILD: &str = r#"
[[recipe]]
name = "wild"
[recipe.config.model]
hidden = [128, 128]
[recipe.config.training]
tower_learning_rate = 10.0
"#;

fn place(source: &str) -> Place {
    let place = Place::new();
    let size = ["--users", "200", "--items", "200", "--impressions", "10000", "--seed", "7"];
    place.ok(&[["generate", "--out", "data"].as_slice(), &size].concat());
    fs::write(place.path("train.toml"), CONFIG).unwrap();
    fs::write(place.path("recipes.toml"), RECIPES.replace("SOURCE", source)).unwrap();
    place
}

fn compare(args: &[&'static str]) -> Vec<&'static str> {
    let shared = ["compare", "--recipes", "recipes.toml", "--data", "data", "--config", "train.toml"];
    [&shared[..], args].concat()
}

fn figures<'a>(report: &'a Value, recipe: usize, metric: &str) -> Vec<&'a Value> {
    report["recipes"][recipe]["figures"][metric].as_array().unwrap().iter().collect()
}

fn of_source<'a>(report: &'a Value, recipe: usize, source: &str) -> Option<&'a Value> {
    report["recipes"][recipe]["negatives"].as_array().unwrap().iter().find(|row| row["source"] == source)
}

#[test]
fn recipes_are_compared_over_seeds_on_screen_in_json_and_on_a_page() {
    let place = place("model");
    let table = place.ok(&compare(&["--seeds", "3,4", "--out", "out"]));
    let report: Value = serde_json::from_slice(&fs::read(place.path("out/comparison.json")).unwrap()).unwrap();
    let page = fs::read_to_string(place.path("out/comparison.html")).unwrap();
    assert_eq!(report["seeds"], serde_json::json!([3, 4]));
    for metric in ["recall_at_20", "recall_at_100", "ndcg_at_100"] {
        let means: Vec<f64> = (0..2).map(|recipe| mean(&figures(&report, recipe, metric))).collect();
        for (recipe, mean) in means.iter().enumerate() {
            let seeds = figures(&report, recipe, metric);
            assert_eq!(seeds.len(), 2, "{metric}");
            // So few queries can agree on a recall by chance, but not on where all items stand.
            assert!(metric != "ndcg_at_100" || seeds[0] != seeds[1], "the seed counts: {seeds:?}");
            let best = means.iter().all(|other| other <= mean);
            let shown = format!("{mean:.4}{}", if best { "*" } else { " " });
            assert!(table.contains(&shown) && page.contains(&format!("{mean:.4}")), "{metric} {shown}\n{table}");
        }
    }
    let hard = of_source(&report, 1, "hard").unwrap()["realised_share"].as_f64().unwrap();
    assert!((0.3..0.7).contains(&hard) && of_source(&report, 0, "hard").is_none(), "{report}");
    assert!(table.contains(&format!("{:.1}%", 100.0 * hard)), "{hard}\n{table}");
    let popularity = report["popularity"]["recall_at_20"].as_f64().unwrap();
    assert!(mean(&figures(&report, 0, "recall_at_20")) > popularity && table.contains(&format!("{popularity:.4}")));
    assert!(report["recipes"][1]["config_toml"].as_str().unwrap().contains("hard = 0.5"));
    assert!(table.lines().take_while(|line| !line.starts_with("mean and")).all(|line| line.chars().count() <= 80));

    let alone = place.json(&compare(&["--seeds", "4", "--only", "random", "--json"]));
    assert_eq!(
        figures(&alone, 0, "recall_at_20")[0],
        figures(&report, 0, "recall_at_20")[1],
        "a run depends on no other"
    );
}

#[test]
fn what_fails_is_a_row_and_only_nothing_at_all_is_a_failure() {
    let place = place("truth");
    let args = compare(&["--seeds", "3", "--json", "--out", "out"]);
    let report = place.json(&args);
    assert!(of_source(&report, 1, "hard").is_some() && report["recipes"][1]["failures"] == serde_json::json!([]));

    fs::remove_file(place.path("data/world.toml")).unwrap();
    fs::write(place.path("recipes.toml"), RECIPES.replace("SOURCE", "truth") + WILD).unwrap();
    let report = place.json(&args);
    let failure = report["recipes"][1]["failures"][0].as_str().unwrap();
    assert!(failure.contains("seed 3") && failure.contains("world.toml"), "{failure}");
    let failure = report["recipes"][2]["failures"][0].as_str().unwrap();
    assert!(failure.contains("seed 3") && failure.contains("collapsed"), "{failure}");
    assert_eq!(
        (figures(&report, 0, "recall_at_20").len(), &report["recipes"][0]["failures"]),
        (1, &serde_json::json!([]))
    );
    let table = place.ok(&compare(&["--seeds", "3"]));
    assert!(table.contains("no result of half-hard, seed 3") && table.contains("there is one seed, 3"), "{table}");

    assert!(table.contains("no result of wild, seed 3"), "{table}");

    let message = place.refused(&compare(&["--seeds", "3", "--only", "half-hard,wild"]));
    assert!(message.contains("no run has a result") && message.contains("world.toml"), "{message}");
}

#[test]
fn slips_are_named_before_anything_is_trained() {
    let place = place("oracle");
    let message = place.refused(&compare(&[]));
    assert!(
        message.contains("recipes.toml") && message.contains("`half-hard`") && message.contains("oracle"),
        "{message}"
    );
    let negatives = ["compare-negatives", "--data", "data"];
    let refused = |args: &[&str]| place.refused(&[&negatives[..], args].concat());
    assert!(refused(&["--only", "random,nothing"]).contains("no recipe nothing"));
    assert!(refused(&["--seeds", "1,2,1"]).contains("found 1 twice"));
    assert!(refused(&["--preset", "none"]).contains("--preset"));
    assert!(refused(&["--recipes", "none.toml"]).contains("none.toml"));
    assert!(place.ok(&["compare-negatives", "--print-recipes"]).contains("name = \"hard-truth\""));
    assert!(place.ok(&["compare", "--recipes", "towers", "--print-recipes"]).contains("name = \"transformer\""));
    assert!(place.refused(&["compare-negatives"]).contains("--data"));
}

fn mean(figures: &[&Value]) -> f64 {
    figures.iter().map(|figure| figure.as_f64().unwrap()).sum::<f64>() / figures.len() as f64
}
