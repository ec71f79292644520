//! How well the newest tenth of clicks could be recalled: by popularity, and by who knows the truth. What lies between
//! the two is what a model can learn.

#![allow(clippy::unwrap_used)] // Tests alone live here.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use pagoda_dataset::{Dataset, Interaction, Interactions, Limits};
use pagoda_simulator::{Config, World};

const K: usize = 100;
/// The truth is asked for this many users at most, the others are like them.
const USERS_ASKED: usize = 600;

struct Figures {
    popularity: f64,
    truth: f64,
    clicks: usize,
    median_clicks: usize,
}

/// A user's clicks before the newest tenth, and in it without those seen before.
#[derive(Default)]
struct Clicks {
    seen: HashSet<u32>,
    new: HashSet<u32>,
}

fn figures(config: Config) -> Figures {
    let home = tempfile::tempdir().unwrap();
    let world = World::new(config).unwrap();
    let began = Instant::now();
    let written = world.write(home.path(), &mut |_, _| ()).unwrap();
    println!("{written:?} in {:.1} s", began.elapsed().as_secs_f64());
    let log = Dataset::open(home.path()).unwrap().read_interactions(&Limits::default()).unwrap();
    let clicks: Vec<&Interaction> = log.rows.iter().filter(|row| row.weight > 0.0).collect();
    let (old, new) = clicks.split_at(clicks.len() * 9 / 10);
    let users = by_user(old, new, config.users);
    let popular = most_popular(old);
    let step = users.len().div_ceil(USERS_ASKED);
    let asked = || users.iter().enumerate().filter(|(_, user)| !user.new.is_empty()).step_by(step);
    Figures {
        popularity: mean(asked().map(|(_, user)| recall(user, popular.iter().copied()))),
        truth: mean(asked().map(|(place, user)| recall(user, best(&world, &log, place).into_iter()))),
        clicks: clicks.len(),
        median_clicks: median(users.iter().map(|user| user.seen.len())),
    }
}

fn by_user(old: &[&Interaction], new: &[&Interaction], count: usize) -> Vec<Clicks> {
    let mut users: Vec<Clicks> = (0..count).map(|_| Clicks::default()).collect();
    for row in old {
        users[row.user as usize].seen.insert(row.item);
    }
    for row in new {
        let user = &mut users[row.user as usize];
        if !user.seen.contains(&row.item) {
            user.new.insert(row.item);
        }
    }
    users
}

fn most_popular(clicks: &[&Interaction]) -> Vec<u32> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for row in clicks {
        *counts.entry(row.item).or_default() += 1;
    }
    let mut items: Vec<u32> = counts.keys().copied().collect();
    items.sort_unstable_by_key(|item| (usize::MAX - counts[item], *item));
    items
}

/// Places of all items that were ever shown, the most liked first.
fn best(world: &World, log: &Interactions, user: usize) -> Vec<u32> {
    let Some(user) = log.users.get(user) else { return Vec::new() };
    let truth = |item: &str| world.true_preference(user.as_str(), item).unwrap();
    let mut items: Vec<(f64, u32)> = log.items.iter().zip(0..).map(|(id, place)| (truth(id.as_str()), place)).collect();
    items.sort_unstable_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
    items.into_iter().map(|(_, place)| place).collect()
}

/// The share of a user's new clicks among the first `K` of a ranking without what the user has seen.
fn recall(user: &Clicks, ranking: impl Iterator<Item = u32>) -> f64 {
    let recalled = ranking.filter(|item| !user.seen.contains(item)).take(K);
    recalled.filter(|item| user.new.contains(item)).count() as f64 / user.new.len() as f64
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(values: impl Iterator<Item = usize>) -> usize {
    let mut values: Vec<usize> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

fn assert_head_room(config: Config) {
    let Figures { popularity, truth, clicks, median_clicks } = figures(config);
    println!(
        "{config:?}: recall_at_100 of popularity {popularity:.3}, of the truth {truth:.3}; {clicks} clicks, {median_clicks} of the median user"
    );
    assert!(truth > 0.35 && truth > 2.0 * popularity, "popularity {popularity:.3}, truth {truth:.3}");
    assert!(popularity > 2.0 * K as f64 / config.items as f64, "popularity {popularity:.3} is no better than chance");
    assert!(median_clicks >= 7, "{median_clicks} clicks before the newest tenth");
}

#[test]
fn the_default_leaves_a_model_much_to_learn() {
    assert_head_room(Config::default());
}

#[test]
fn a_small_catalog_leaves_a_model_much_to_learn() {
    assert_head_room(Config { users: 1000, items: 3000, impressions: 130_000, seed: 5 });
}
