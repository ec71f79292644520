//! What is in the data directory: the same for the same seed, true to the preference model, and nothing before its birth.

#![allow(clippy::unwrap_used)] // Tests alone live here.

use std::{collections::HashMap, fs, path::Path};

use pagoda_dataset::{Dataset, Interactions, Limits};
use pagoda_model::FeatureValue;
use pagoda_simulator::{Config, SLATE_SIZE, World, Written};

const CONFIG: Config = Config { users: 500, items: 1000, impressions: 100_000, seed: 7 };

fn written(config: Config, out: &Path) -> (World, Written) {
    let world = World::new(config).unwrap();
    let written = world.write(out, &mut |_, _| ()).unwrap();
    (world, written)
}

fn read_log(dir: &Path) -> Interactions {
    let log = Dataset::open(dir).unwrap().read_interactions(&Limits::default()).unwrap();
    assert_eq!((log.bad_rows.count, log.duplicates), (0, 0), "{:?}", log.bad_rows);
    log
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let home = tempfile::tempdir().unwrap();
    let small = Config { users: 100, items: 100, impressions: 1000, seed: 1 };
    for (name, seed) in [("a", 1), ("b", 1), ("c", 2)] {
        written(Config { seed, ..small }, &home.path().join(name));
    }
    for file in ["schema.toml", "world.toml", "users.parquet", "items.parquet", "interactions.parquet"] {
        let bytes = |name: &str| fs::read(home.path().join(name).join(file)).unwrap();
        assert_eq!(bytes("a"), bytes("b"), "{file}");
        assert!(file == "schema.toml" || bytes("a") != bytes("c"), "{file}");
    }
}

#[test]
fn what_is_written_is_read_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let (_, written) = written(CONFIG, home.path());
    let data = Dataset::open(home.path()).unwrap();
    let log = read_log(home.path());
    assert_eq!((written.users, written.items, written.impressions), (500, 1000, 100_000));
    assert_eq!(log.rows.len(), 100_000);
    assert_eq!(log.rows.iter().filter(|row| row.weight > 0.0).count() as u64, written.clicks);
    assert!((0.08..0.25).contains(&(written.clicks as f64 / 1e5)), "{written:?}");
    assert_eq!(data.read_users(&Limits::default()).unwrap().entities.len(), 500);
    let items = data.read_items(&Limits::default()).unwrap();
    assert_eq!((items.entities.len(), items.bad_rows.count), (1000, 0));
    assert!(items.entities.iter().all(|item| item.features.len() == 5));
}

#[test]
fn progress_grows_to_all_impressions() {
    let home = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    World::new(CONFIG).unwrap().write(home.path(), &mut |done, total| told.push((done, total))).unwrap();
    assert!(told.is_sorted() && told.len() > 3, "{told:?}");
    assert_eq!(told.last(), Some(&(100_000, 100_000)));
}

#[test]
fn the_first_user_has_clicked_often_and_the_median_user_enough() {
    let home = tempfile::tempdir().unwrap();
    written(CONFIG, home.path());
    let log = read_log(home.path());
    let mut clicks: HashMap<&str, usize> = log.users.iter().map(|user| (user.as_str(), 0)).collect();
    for row in log.rows.iter().filter(|row| row.weight > 0.0) {
        *clicks.get_mut(log.users[row.user as usize].as_str()).unwrap() += 1;
    }
    let mut counts: Vec<usize> = clicks.values().copied().collect();
    counts.sort_unstable();
    assert!(clicks["u1"] >= 50 && counts[counts.len() / 2] >= 8, "{counts:?}");
}

#[test]
fn true_preference_tells_clicks_from_what_was_passed_over() {
    let home = tempfile::tempdir().unwrap();
    let (world, _) = written(CONFIG, home.path());
    let log = read_log(home.path());
    let mean = |clicked: bool| {
        let rows = log.rows.iter().filter(|row| (row.weight > 0.0) == clicked);
        let truths: Vec<f64> = rows.map(|row| truth(&world, &log, row.user, row.item)).collect();
        truths.iter().sum::<f64>() / truths.len() as f64
    };
    assert!(mean(true) > 1.5 * mean(false), "{} of clicks, {} of the rest", mean(true), mean(false));
}

fn truth(world: &World, log: &Interactions, user: u32, item: u32) -> f64 {
    world.true_preference(log.users[user as usize].as_str(), log.items[item as usize].as_str()).unwrap()
}

/// Clicks per unit of true preference fall as `1 / sqrt(position + 1)`: to 0.32 at the tenth.
#[test]
fn the_best_position_is_clicked_more_than_its_items_deserve() {
    let home = tempfile::tempdir().unwrap();
    let (world, _) = written(CONFIG, home.path());
    let log = read_log(home.path());
    let slates = log.rows.chunk_by(|a, b| (a.user, a.timestamp) == (b.user, b.timestamp));
    let (mut clicks, mut truths) = ([0.0; SLATE_SIZE], [0.0; SLATE_SIZE]);
    for slate in slates.filter(|slate| slate.len() == SLATE_SIZE) {
        for (position, row) in slate.iter().enumerate() {
            clicks[position] += f64::from(row.weight);
            truths[position] += truth(&world, &log, row.user, row.item);
        }
    }
    let examined = |position: usize| clicks[position] / truths[position] / (clicks[0] / truths[0]);
    assert!((0.4..0.6).contains(&examined(3)) && (0.25..0.4).contains(&examined(9)), "{} {}", examined(3), examined(9));
}

#[test]
fn titles_are_not_repeated() {
    let home = tempfile::tempdir().unwrap();
    let (world, _) = written(CONFIG, home.path());
    let items = Dataset::open(home.path()).unwrap().read_items(&Limits::default()).unwrap();
    let mut titles: Vec<String> = items.titles.into_iter().map(Option::unwrap).collect();
    titles.extend(world.born_later(50).into_iter().map(|item| item.title));
    titles.sort_unstable();
    titles.dedup();
    assert_eq!(titles.len(), 1050);
}

#[test]
fn items_born_later_have_features_and_fans() {
    let world = World::new(CONFIG).unwrap();
    let born = world.born_later(3);
    assert_eq!(world.born_later(5)[..3], born[..]);
    let ids: Vec<&str> = born.iter().map(|item| item.entity.id.as_str()).collect();
    assert_eq!(ids, ["i1001", "i1002", "i1003"]);
    assert_eq!(born[0].entity.features["title"], FeatureValue::Text(born[0].title.clone()));
    for id in ids.into_iter().chain(["i1", "i1000"]) {
        let fans = world.fans_of(id, 500).unwrap();
        let truths: Vec<f64> = fans.iter().map(|user| world.true_preference(user, id).unwrap()).collect();
        assert!(truths.len() == 500 && truths.is_sorted_by(|a, b| a >= b), "{id}: {truths:?}");
        assert!(truths[0] > 0.3 && truths[250] < 0.2, "{id}: {} {}", truths[0], truths[250]);
    }
}

#[test]
fn what_is_not_of_this_world_has_no_preference() {
    let world = World::new(CONFIG).unwrap();
    assert!(world.true_preference("u500", "i1000").is_some());
    for (user, item) in [("u501", "i1"), ("u0", "i1"), ("u1", "i0"), ("u1", "u1"), ("", ""), ("u1", "i99999999999")] {
        assert_eq!(world.true_preference(user, item), None, "{user} {item}");
    }
    assert_eq!(world.fans_of("i0", 1), None);
}

#[test]
fn a_place_that_holds_something_else_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("diary.txt"), "dear").unwrap();
    let small = Config { users: 100, items: 100, impressions: 1000, seed: 1 };
    let error = World::new(small).unwrap().write(home.path(), &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("found a directory of something else"), "{error}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_written_world_is_known_again_and_told_from_others() {
    let home = tempfile::tempdir().unwrap();
    let small = Config { users: 100, items: 300, impressions: 1000, seed: 5 };
    let (world, _) = written(small, home.path());
    assert_eq!(Config::of_directory(home.path()).unwrap(), small);
    let items = Dataset::open(home.path()).unwrap().read_items(&Limits::default()).unwrap().entities;
    assert!(items.iter().all(|item| world.tells(item)));
    let other = World::new(Config { seed: 6, ..small }).unwrap();
    assert!(!items.iter().all(|item| other.tells(item)));
    fs::write(home.path().join("world.toml"), "users = 100").unwrap();
    assert!(Config::of_directory(home.path()).unwrap_err().to_string().contains("world.toml"));
    fs::remove_file(home.path().join("world.toml")).unwrap();
    assert!(Config::of_directory(home.path()).unwrap_err().to_string().contains("pagoda generate"));
}

#[test]
fn preferences_of_a_time_end_as_those_of_the_logs_end() {
    let world = World::new(Config { users: 100, items: 300, impressions: 1000, seed: 5 }).unwrap();
    let all = world.true_preferences_at("u3", i64::MAX).unwrap();
    assert_eq!(all.len(), 300);
    assert_eq!(all[world.place_of_item("i7").unwrap()], world.true_preference("u3", "i7").unwrap());
    assert_ne!(world.true_preferences_at("u3", 0).unwrap(), all, "interests drift");
    assert_eq!((world.true_preferences_at("u101", 0), world.place_of_item("i301")), (None, None));
}
