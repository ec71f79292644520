//! Mining from end to end on a data directory, with a ranker that ranks by a rule and with a model.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use pagoda_dataset::{Dataset, HardNegativesWriter, KnownItems, LeftOut, Limits, read_hard_negatives};
use pagoda_model::{FeatureValue, Side};
use tempfile::TempDir;

use super::*;
use crate::{Silent, SplitConfig, TrainConfig, TrainError, train};

const SCHEMA: &str = r#"
[user]
id = "user_id"
feature = [{ name = "history", kind = "sequence", max_length = 20 }]
[item]
id = "item_id"
feature = [{ name = "item_id", kind = "id" }]
"#;
const DAY: i64 = 86_400;
const SPLIT: SplitConfig = SplitConfig { test_share: 0.2, validation_share: 0.0 };

/// Items i0 to i9; u0 and u1 have training positives, u0 and u2 test ones, u3 an impression alone.
const LOG: [(&str, &str, i64, &str); 11] = [
    ("u0", "i3", 1, "click"),
    ("u1", "i0", 2, "click"),
    ("u0", "i4", 3, "click"),
    ("u3", "i4", 3, "impression"),
    ("u0", "i5", 5, "click"),
    ("u1", "i9", 6, "click"),
    ("u1", "i8", 7, "click"),
    ("u1", "i7", 8, "click"),
    ("u0", "i6", 9, "click"),
    ("u0", "i2", 20, "click"),
    ("u2", "i1", 21, "click"),
];

fn directory() -> TempDir {
    let rows = LOG.map(|(user, item, day, event)| format!("{user},{item},{},{event}\n", day * DAY));
    let items: String = (0..10).map(|i| format!("i{i}\n")).collect();
    directory_of(&format!("user_id,item_id,timestamp,event\n{}", rows.concat()), &format!("item_id\n{items}"))
}

fn directory_of(log: &str, items: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("schema.toml", SCHEMA), ("items.csv", items), ("interactions.csv", log)] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn log(dir: &TempDir) -> MiningLog {
    MiningLog::read(&Dataset::open(dir.path()).unwrap(), &SPLIT, 1).unwrap()
}

/// Ranks every item in the order of the catalog, and remembers what it was asked.
#[derive(Default)]
struct ByPlace {
    asked: Vec<AskedUser>,
    fails_at: Option<usize>,
}

impl Ranker for ByPlace {
    fn source(&self) -> &str {
        "scores"
    }

    fn block_users(&self) -> usize {
        1
    }

    fn rank(&mut self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, RankerError> {
        self.asked.extend_from_slice(users);
        if self.fails_at.is_some_and(|at| self.asked.len() > at) {
            return Err("it went away".into());
        }
        let items = (1..).zip(0..10).take(top).map(|(rank, item)| Ranked { rank, item, score: -(item as f32) });
        Ok(vec![Ranking { version: Arc::from("v1"), items: items.collect() }; users.len()])
    }
}

fn window(from: usize, to: usize) -> MiningConfig {
    MiningConfig { window: Window { top: to, from, to }, ..MiningConfig::default() }
}

fn mine(dir: &TempDir, config: MiningConfig, ranker: &mut dyn Ranker) -> Result<MiningSummary, TrainError> {
    let log = log(dir);
    let out = HardNegativesWriter::create(&dir.path().join("hard.parquet"))?;
    Mining::new(&log, config)?.run(ranker, out, &mut |_, _| ())
}

/// "user item rank" of every row.
fn mined(dir: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    read_hard_negatives(&dir.join("hard.parquet"), &Limits::default(), KnownItems::ALL, &mut |row| {
        assert_eq!((row.source, row.version), ("scores", "v1"));
        rows.push(format!("{} {} {}", row.user, row.item, row.rank));
        Ok(())
    })
    .unwrap();
    rows
}

#[test]
fn the_window_is_taken_but_for_training_positives_and_the_test_part_is_not_looked_at() {
    let dir = directory();
    let summary = mine(&dir, window(2, 7), &mut ByPlace::default()).unwrap();
    // i2 is a positive of u0 in the test part, and nothing that mining knows.
    let expected = ["u0 i1 2", "u0 i2 3", "u1 i1 2", "u1 i2 3", "u1 i3 4", "u1 i4 5", "u1 i5 6", "u1 i6 7"];
    assert_eq!(mined(dir.path()), expected);
    assert_eq!((summary.users, summary.rows, summary.items, summary.positives_left_out), (2, 8, 6, 4));
    assert_eq!(summary.versions.into_iter().collect::<Vec<_>>(), [("v1".to_owned(), 8)]);
}

#[test]
fn users_are_asked_about_as_of_the_end_of_the_training_part() {
    let (dir, mut ranker) = (directory(), ByPlace::default());
    mine(&dir, window(1, 10), &mut ranker).unwrap();
    let history = |ids: &[&str]| FeatureValue::Texts(ids.iter().map(|id| (*id).to_owned()).collect());
    let asked = ranker.asked.iter().map(|user| (user.entity.id.as_str(), user.time, &user.entity.features["history"]));
    let expected = [
        ("u0", 9 * DAY + 1, &history(&["i3", "i4", "i5", "i6"])),
        ("u1", 9 * DAY + 1, &history(&["i0", "i9", "i8", "i7"])),
    ];
    assert_eq!(asked.collect::<Vec<_>>(), expected, "u2 and u3 have no training positives");
}

#[test]
fn of_an_earlier_time_later_positives_are_left_out_within_the_days_asked_for() {
    let (dir, mut ranker) = (directory(), ByPlace::default());
    let config = MiningConfig { as_of: Some(3 * DAY), ..window(4, 7) };
    mine(&dir, config, &mut ranker).unwrap();
    assert_eq!(ranker.asked[0].entity.features["history"], FeatureValue::Texts(vec!["i3".into()]));
    let of_u0 = |dir: &TempDir| mined(dir.path()).into_iter().filter(|row| row.starts_with("u0")).collect::<Vec<_>>();
    assert_eq!(of_u0(&dir), [""; 0], "all that turn positive in the training part");

    mine(&dir, MiningConfig { positive_within_days: Some(3), ..config }, &mut ByPlace::default()).unwrap();
    assert_eq!(of_u0(&dir), ["u0 i6 7"], "days 3 to 5, i4 and i5, but not day 9");
    mine(&dir, MiningConfig { positive_within_days: Some(0), ..config }, &mut ByPlace::default()).unwrap();
    assert_eq!(of_u0(&dir), ["u0 i4 5", "u0 i5 6", "u0 i6 7"], "what was positive before is never taken");
}

#[test]
fn users_are_drawn_by_the_seed() {
    let (dir, mut drawn) = (directory(), BTreeSet::new());
    for seed in 0..20 {
        let config = MiningConfig { users_max: Some(1), seed, ..window(2, 7) };
        let users = || Mining::new(&log(&dir), config).unwrap().users().to_vec();
        assert_eq!((users().len(), users()), (1, users()));
        drawn.extend(users());
    }
    assert_eq!(drawn.len(), 2);
}

#[test]
fn nothing_is_left_of_a_ranker_that_fails_or_of_nothing() {
    let dir = directory();
    let mut ranker = ByPlace { fails_at: Some(1), ..ByPlace::default() };
    assert_eq!(mine(&dir, window(2, 7), &mut ranker).unwrap_err().to_string(), "it went away");
    let mut message = mine(&dir, window(11, 12), &mut ByPlace::default()).unwrap_err().to_string();
    assert!(message.contains("10 items"), "{message}");
    message = mine(&dir, window(8, 8), &mut Silence).unwrap_err().to_string();
    assert!(message.contains("ranks 8 to 8"), "{message}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "but for the data");
}

/// Has nothing to say.
struct Silence;

impl Ranker for Silence {
    fn source(&self) -> &str {
        "scores"
    }

    fn block_users(&self) -> usize {
        9
    }

    fn rank(&mut self, users: &[AskedUser], _: usize) -> Result<Vec<Ranking>, RankerError> {
        Ok(vec![Ranking { version: Arc::from("v1"), items: Vec::new() }; users.len()])
    }
}

#[test]
fn a_file_of_scores_ranks_the_users_and_items_it_knows() {
    let dir = directory();
    let path = dir.path().join("scores.csv");
    let scores = "user,item,score\nu1,i1,5\nu1,i2,7\nu1,i0,6\nu1,i2,9\nu1,i3,5\nstranger,i1,1\nu1,no such item,1\n";
    fs::write(&path, scores).unwrap();
    let log = log(&dir);
    let mining = Mining::new(&log, window(2, 4)).unwrap();
    let mut ranker = ScoresRanker::read(&path, "v1", &log, &mining, &Limits::default()).unwrap();
    let left_out = &ranker.left_out;
    assert_eq!((ranker.rows_of_others, ranker.repeated), (1, 1));
    assert_eq!((left_out.bad_rows.count, left_out.unknown_items.rows), (0, 1));
    assert!(left_out.unknown_items.first[0].contains("no such item"), "{left_out:?}");
    let out = HardNegativesWriter::create(&dir.path().join("hard.parquet")).unwrap();
    let summary = mining.run(&mut ranker, out, &mut |_, _| ()).unwrap();
    assert_eq!(mined(dir.path()), ["u1 i1 3", "u1 i3 4"], "i2 is first, i0 a positive, ties go to the smaller id");
    assert_eq!((summary.users_without, summary.positives_left_out), (1, 1));
}

#[test]
fn pools_are_what_was_mined() {
    let dir = directory();
    mine(&dir, window(2, 7), &mut ByPlace::default()).unwrap();
    let log = log(&dir);
    let pools = HardPools::read(&dir.path().join("hard.parquet"), log.users(), log.catalog(), 0.5).unwrap();
    let pool = |id: &str| {
        let user = log.users().iter().position(|user| user.id == id).unwrap();
        pools.pool(user as u32).iter().map(|&item| log.catalog()[item as usize].id.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((pool("u0"), pool("u1")), (vec!["i1", "i2"], vec!["i1", "i2", "i3", "i4", "i5", "i6"]));
    assert_eq!((pool("u2"), pools.len(), pools.left_out()), (vec![], 8, &LeftOut::default()));
    let from = MinedFrom { source: "scores".into(), version: "v1".into(), rows: 8 };
    assert_eq!(pools.mined_from(), [from]);
}

#[test]
fn pools_of_other_data_are_refused_and_a_pair_is_there_once() {
    let dir = directory();
    let (path, log) = (dir.path().join("hard.csv"), log(&dir));
    let read = |rows: &str| {
        fs::write(&path, format!("user_id,item_id,rank,score,source,version\n{rows}")).unwrap();
        HardPools::read(&path, log.users(), log.catalog(), 0.5)
    };
    let pools = read("u1,i2,3,1,model,b\nu1,i1,2,2,model,a\nu1,i2,9,0,truth,7\nu9,i1,1,1,model,a\n").unwrap();
    assert_eq!((pools.len(), pools.left_out().bad_rows.count), (2, 1));
    let from: Vec<_> =
        pools.mined_from().iter().map(|from| (from.source.as_str(), from.version.as_str(), from.rows)).collect();
    assert_eq!(from, [("model", "a", 1), ("model", "b", 1), ("truth", "7", 1)]);
    let error = read(&"u9,i1,1,1,model,a\n".repeat(20)).unwrap_err().to_string();
    assert!(error.contains("hard.csv") && error.contains("user of the log") && error.contains("`u9`"), "{error}");
    assert!(read("").unwrap_err().to_string().contains("found none"));

    // Half of the items may have left the catalog since they were mined: far more rows than may be bad.
    let (known, gone) = ("u1,i1,1,1,model,a\n".repeat(20), "u1,gone,1,1,model,a\n");
    let pools = read(&(known.clone() + &gone.repeat(20))).unwrap();
    assert_eq!((pools.left_out().bad_rows.count, pools.left_out().unknown_items.rows), (0, 20));
    let error = read(&(known + &gone.repeat(21))).unwrap_err().to_string();
    assert!(error.contains("21 rows are of 1 item") && error.contains("unknown_items_share_max = 0.5"), "{error}");
}

#[test]
fn a_model_ranks_by_the_inner_product_over_the_whole_catalog() {
    let dir = directory_of_items("i", "");
    let config = TrainConfig::from_toml(
        "[training]\nepochs = 2\nbatch_size = 64\n[model]\nembedding_dim = 8\nhidden = [8]\n[model.dims]\nid = 8",
    );
    let bundle = train(&Dataset::open(dir.path()).unwrap(), &config.unwrap(), None, &mut Silent).unwrap().bundle;

    let log = log(&dir);
    let mut told = Told { ranker: ModelRanker::new(&bundle, &log).unwrap(), rankings: Vec::new() };
    let out = HardNegativesWriter::create(&dir.path().join("hard.parquet")).unwrap();
    let mining =
        Mining::new(&log, MiningConfig { window: Window { top: 20, from: 1, to: 20 }, ..MiningConfig::default() });
    let summary = mining.unwrap().run(&mut told, out, &mut |_, _| ()).unwrap();
    assert_eq!((summary.rows + summary.positives_left_out, told.rankings.len()), (40 * 20, 40));
    let catalog = bundle.embed(Side::Item, log.catalog()).unwrap();
    for (user, ranking) in told.rankings {
        let embedding = bundle.embed(Side::User, std::slice::from_ref(&user.entity)).unwrap().remove(0);
        let mut scores: Vec<f32> = catalog.iter().map(|item| item.dot(&embedding)).collect();
        for item in &ranking.items {
            assert!((scores[item.item as usize] - item.score).abs() < 1e-5, "{item:?}");
        }
        let found: Vec<f32> = ranking.items.iter().map(|item| item.score).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        assert!(found.iter().zip(&scores).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {scores:?}");
        assert_eq!((found.len(), ranking.version.to_string()), (20, bundle.version().to_string()));
    }
}

/// 40 users who had 12 of 60 items each, and more rows.
fn directory_of_items(prefix: &str, more: &str) -> TempDir {
    let users = 40;
    let rows: String = (0..users * 12)
        .map(|n| format!("u{},{prefix}{},{}\n", n % users, (n % users * 7 + n / users * n / 3) % 60, 1000 + n))
        .collect();
    let items: String = (0..60).map(|i| format!("{prefix}{i}\n")).collect();
    directory_of(&format!("user_id,item_id,timestamp\n{rows}{more}"), &format!("item_id\n{items}"))
}

#[test]
fn a_model_of_other_items_and_rows_left_out_are_told_of() {
    let config = TrainConfig::from_toml(
        "[training]\nepochs = 1\nbatch_size = 64\n[model]\nembedding_dim = 8\nhidden = []\n[model.dims]\nid = 8",
    )
    .unwrap();
    let own = directory_of_items("i", "");
    let bundle = train(&Dataset::open(own.path()).unwrap(), &config, None, &mut Silent).unwrap().bundle;
    let warnings = |dir: &TempDir| {
        let data = Dataset::open(dir.path()).unwrap();
        crate::evaluate(&data, &bundle, &config.evaluate(), &mut Silent).unwrap().warnings
    };
    assert_eq!(warnings(&own), [""; 0]);
    let told = warnings(&directory_of_items("x", "u1,x1,yesterday\n"));
    assert!(
        told[0].starts_with("1 bad row was left out:\n") && told[0].contains("interactions.csv row 481"),
        "{told:?}"
    );
    assert!(told[1].contains("knew none of the 60 items"), "{told:?}");
}

#[test]
fn a_log_of_impressions_says_which_events_are_positives() {
    let dir = directory_of("user_id,item_id,timestamp,event\nu0,i1,1,impression\n", "item_id\ni1\n");
    let error = MiningLog::read(&Dataset::open(dir.path()).unwrap(), &SPLIT, 1).unwrap_err().to_string();
    assert!(error.contains("impressions only") && error.contains("(click), impressions"), "{error}");
}

/// Remembers what a model's ranker was asked and said.
struct Told<'a> {
    ranker: ModelRanker<'a>,
    rankings: Vec<(AskedUser, Ranking)>,
}

impl Ranker for Told<'_> {
    fn source(&self) -> &str {
        self.ranker.source()
    }

    fn block_users(&self) -> usize {
        self.ranker.block_users()
    }

    fn rank(&mut self, users: &[AskedUser], top: usize) -> Result<Vec<Ranking>, RankerError> {
        let rankings = self.ranker.rank(users, top)?;
        self.rankings.extend(users.iter().cloned().zip(rankings.iter().cloned()));
        Ok(rankings)
    }
}
