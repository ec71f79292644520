//! Hard negatives from each source: what lies in the window of a ranking, but for what the user is known to like.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
};

use pagoda_dataset::{Dataset, Interaction, KnownItems, LeftOut, Limits, read_hard_negatives};
use pagoda_simulator::{Config, World};
use serde_json::Value;

use crate::{
    harness::Place,
    ranking_server::{RankingServer, Whims},
};

const WINDOW: [&str; 6] = ["--top", "200", "--from-rank", "20", "--to-rank", "80"];

/// User, item and rank of every row.
type Mined = BTreeSet<(String, String, u32)>;

fn mine(place: &Place, args: &[&str]) -> (Value, Mined) {
    let said = place.json(&[&["mine", "--data", "data", "--out", "hard.parquet", "--json"], args].concat());
    let mut mined = Mined::new();
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let left_out = read_hard_negatives(&place.path("hard.parquet"), &Limits::default(), KnownItems::ALL, &mut |row| {
        assert_eq!(row.source, said["source"].as_str().unwrap());
        *versions.entry(row.version.to_owned()).or_default() += 1;
        assert!(row.score.is_finite() && mined.insert((row.user.to_owned(), row.item.to_owned(), row.rank)));
        Ok(())
    });
    assert_eq!(left_out.unwrap(), LeftOut::default());
    assert_eq!((said["rows"].as_u64().unwrap(), &said["versions"]), (mined.len() as u64, &serde_json::json!(versions)));
    (said, mined)
}

fn mined_with(place: &Place, args: &[&str]) -> (Value, Mined) {
    mine(place, &[&WINDOW, args].concat())
}

fn version(said: &Value) -> &str {
    said["versions"].as_object().unwrap().keys().next().unwrap()
}

/// Positives of the training part and of the test part, under the default temporal split: the newest tenth of all positives is test.
fn positives(data: &Path) -> [HashSet<(String, String)>; 2] {
    let log = Dataset::open(data).unwrap().read_interactions(&Limits::default()).unwrap();
    let rows: Vec<&Interaction> = log.rows.iter().filter(|row| row.weight > 0.0).collect();
    let cut = rows[(rows.len() as f64 * 0.9).floor() as usize].timestamp;
    let pair =
        |row: &&Interaction| (log.users[row.user as usize].to_string(), log.items[row.item as usize].to_string());
    let (train, test): (Vec<&Interaction>, Vec<&Interaction>) = rows.into_iter().partition(|row| row.timestamp < cut);
    [train.iter().map(pair).collect(), test.iter().map(pair).collect()]
}

/// Each user's ranks are the window's, but for the training positives; what the user likes in the test part is there like any other.
fn check_window(place: &Place, said: &Value, mined: &Mined) {
    let [train, test] = positives(&place.path("data"));
    let users: HashSet<&String> = train.iter().map(|(user, _)| user).collect();
    assert_eq!(said["users"].as_u64().unwrap(), users.len() as u64);
    let rows = users.len() as u64 * 61;
    assert_eq!(said["rows"].as_u64().unwrap() + said["positives_left_out"].as_u64().unwrap(), rows, "{said}");
    assert!(mined.iter().all(|(_, _, rank)| (20..=80).contains(rank)));
    let is_in = |positives: &HashSet<(String, String)>, (user, item, _): &(String, String, u32)| {
        positives.contains(&(user.clone(), item.clone()))
    };
    assert!(mined.iter().all(|row| !is_in(&train, row)), "a training positive was mined");
    assert!(said["positives_left_out"].as_u64().unwrap() > 0);
    assert!(mined.iter().any(|row| is_in(&test, row)), "the test part was looked at");
}

fn world(place: &Place) -> World {
    World::new(Config::of_directory(&place.path("data")).unwrap()).unwrap()
}

fn nothing_is_left(place: &Place) {
    let entries = fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = entries.filter(|name| name.contains("hard")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_model_is_the_source_of_hard_negatives() {
    let place = Place::with_model();
    let (said, mined) = mined_with(&place, &["--store", "store"]);
    check_window(&place, &said, &mined);
    let held = place.refused(&["evaluate", "--data", "data", "--store", "store", "--model", "none"]);
    assert!(held.contains(version(&said)) && said["source"] == "model", "{said} {held}");
    let named = mined_with(&place, &["--store", "store", "--model", version(&said)]).1;
    assert_eq!(named, mined, "the newest is the one there is, and the same again");

    let few = mined_with(&place, &["--store", "store", "--users-max", "50"]);
    assert_eq!(few.0["users"], 50);
    assert!(few.1.is_subset(&mined));
    let others = mined_with(&place, &["--store", "store", "--users-max", "50", "--seed", "2"]);
    assert_ne!(few.1, others.1);
}

#[test]
fn the_truths_hard_negatives_are_liked_more_than_random_items_and_less_than_its_first() {
    let place = Place::with_model();
    let (said, mined) = mined_with(&place, &["--source", "truth"]);
    check_window(&place, &said, &mined);
    assert_eq!(version(&said), "7");

    let (world, time) = (world(&place), said["as_of"].as_i64().unwrap());
    let mut by_user: HashMap<&str, Vec<(&str, u32)>> = HashMap::new();
    mined.iter().for_each(|(user, item, rank)| by_user.entry(user).or_default().push((item, *rank)));
    let (mut hard, mut random) = (0.0, 0.0);
    for (user, items) in &by_user {
        let liked = world.true_preferences_at(user, time).unwrap();
        let of = |item: &str| liked[world.place_of_item(item).unwrap()];
        hard += items.iter().map(|(item, _)| of(item)).sum::<f64>() / items.len() as f64;
        random += liked.iter().sum::<f64>() / liked.len() as f64;
        for (item, rank) in items {
            let better = liked.iter().filter(|&&other| other as f32 > of(item) as f32).count();
            assert!(better < *rank as usize, "{user} {item}: {better} are liked more, the rank is {rank}");
        }
    }
    assert!(hard > 1.5 * random, "{hard} {random}");
}

#[test]
fn a_world_is_known_by_its_note_or_its_seed_and_another_is_refused() {
    let place = Place::with_model();
    let truth = ["--source", "truth", "--users-max", "20"];
    let (_, mined) = mined_with(&place, &truth);
    fs::remove_file(place.path("hard.parquet")).unwrap();
    let refused = |args: &[&str]| {
        let all = [&["mine", "--data", "data", "--out", "hard.parquet"], &WINDOW[..], &truth, args].concat();
        let message = place.refused(&all);
        nothing_is_left(&place);
        message
    };
    let message = refused(&["--world-seed", "8"]);
    assert!(message.contains("seed 8") && message.contains("items.parquet"), "{message}");
    fs::remove_file(place.path("data/world.toml")).unwrap();
    let message = refused(&[]);
    assert!(message.contains("world.toml") && message.contains("pagoda generate"), "{message}");
    assert_eq!(mined_with(&place, &[&truth[..], &["--world-seed", "7"]].concat()).1, mined);
}

#[test]
fn a_file_of_the_truths_scores_is_as_good_as_the_truth() {
    let place = Place::with_model();
    let (said, truth) = mined_with(&place, &["--source", "truth"]);
    let (world, time) = (world(&place), said["as_of"].as_i64().unwrap());
    let mut csv = "user,item,score\n".to_owned();
    let users: BTreeSet<&String> = truth.iter().map(|(user, _, _)| user).take(61 * 40).collect();
    for user in &users {
        let liked = world.true_preferences_at(user, time).unwrap();
        let rows = liked.iter().enumerate().map(|(place, score)| format!("{user},i{},{score}\n", place + 1));
        csv.extend(rows);
    }
    fs::write(place.path("scores.csv"), csv + "stranger,i1,1\nu1,no such item,1\n").unwrap();
    let (said, mined) = mined_with(&place, &["--source", "scores", "--scores", "scores.csv"]);
    let expected: Mined = truth.iter().filter(|(user, _, _)| users.contains(user)).cloned().collect();
    assert_eq!(mined, expected);
    assert!(version(&said).starts_with("sha256:"), "{said}");
    let left_out = ["bad_rows", "unknown_items", "rows_of_others"].map(|what| said[what].as_u64().unwrap());
    assert_eq!(left_out, [0, 1, 1], "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranking_service_is_asked_until_it_answers_and_taken_at_its_word() {
    let place = Place::with_model();
    let (said, truth) = mined_with(&place, &["--source", "truth"]);
    let server = RankingServer::start(world(&place), Whims { away_first: 2, ..Whims::default() }).await;
    let service = ["--source", "service", "--ranker", &server.url];
    let (by_service, mined) = mined_with(&place, &service);
    assert_eq!((version(&by_service), &mined), ("god 1", &truth));
    check_window(&place, &by_service, &mined);
    let sent = mined_with(&place, &[&service[..], &["--send-items", "--batch-users", "100"]].concat());
    assert_eq!(sent.1, truth, "the catalog that is sent is the ranker's own");

    let requests = server.requests();
    assert!(requests.iter().all(|request| request.top == 200 && request.as_of == said["as_of"].as_i64().unwrap()));
    assert!(requests.iter().flat_map(|request| &request.users).all(|user| user.features.contains_key("history")));
    assert!(requests.iter().any(|request| request.users.len() == 32) && requests.iter().any(|r| r.users.len() == 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranking_service_that_is_away_or_breaks_its_promise_is_named() {
    let place = Place::with_model();
    let refused = |url: &str, args: &[&str]| {
        let all = [
            &["mine", "--data", "data", "--out", "hard.parquet", "--source", "service", "--ranker", url],
            &WINDOW[..],
            args,
        ];
        let message = place.refused(&all.concat());
        nothing_is_left(&place);
        assert!(message.contains(url), "{message}");
        message
    };
    assert!(refused("http://127.0.0.1:1", &[]).contains("not available"));
    assert!(refused("https://ranker", &[]).contains("http://HOST:PORT"));
    let cases = [
        (Whims { worst_first: true, ..Whims::default() }, "best first"),
        (Whims { forgets_a_user: true, ..Whims::default() }, "expected one for each"),
        (Whims { other_catalog: true, ..Whims::default() }, "not in the catalog"),
        (Whims { never_answers: true, ..Whims::default() }, "did not answer within 300 ms"),
        (Whims { top_max: 100, ..Whims::default() }, "top: expected at most 100"),
    ];
    for (whims, fault) in cases {
        let server = RankingServer::start(world(&place), whims).await;
        let message = refused(&server.url, &["--deadline-ms", if fault.contains("300") { "300" } else { "30000" }]);
        assert!(message.contains(fault), "{message}");
    }
}

#[test]
fn a_slip_of_the_pen_is_named_and_nothing_is_written() {
    let place = Place::with_model();
    let cases: [(&[&str], &str); 8] = [
        (&["--source", "model"], "--store"),
        (&["--source", "scores"], "--scores"),
        (&["--source", "service"], "--ranker"),
        (&["--source", "truth", "--scores", "scores.csv"], "--source scores"),
        (&["--source", "truth", "--from-rank", "9", "--to-rank", "8"], "9 to 8"),
        (&["--source", "truth", "--from-rank", "501", "--to-rank", "502"], "500 items"),
        (&["--source", "scores", "--scores", "none.csv"], "none.csv"),
        (&["--store", "store", "--model", "0123456789abcdef/9"], "0123456789abcdef/9"),
    ];
    for (args, named) in cases {
        let message = place.refused(&[&["mine", "--data", "data", "--out", "hard.parquet"], args].concat());
        assert!(message.contains(named), "{args:?}: {message}");
        nothing_is_left(&place);
    }
    let message = place.refused(&["mine", "--data", "data", "--source", "truth", "--out", "hard.csv"]);
    assert!(message.contains("hard.csv") && message.contains(".parquet"), "{message}");
}
