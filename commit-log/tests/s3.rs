//! The store and the log over S3, as moto's server speaks it. Without `$PAGODA_TEST_PYTHON` these tests skip and say so.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use bytes::Bytes;
use futures::future::join_all;
use pagoda_commit_log::{
    CleanUp, Log, LogError, Lsn, Store, StoreError,
    moto::{BUCKET, Moto},
};

fn text(payload: &str) -> Bytes {
    Bytes::copy_from_slice(payload.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_create_an_object_one_wins() {
    let Some(moto) = Moto::start() else { return };
    for race in 0..20 {
        let path = format!("races/{race}");
        let racers = (0..8).map(|racer| {
            let (store, path) = (moto.store("a/prefix"), path.clone());
            tokio::spawn(async move { store.put_create(&path, text(&format!("{racer}"))).await })
        });
        let mut winners = Vec::new();
        for (racer, created) in join_all(racers).await.into_iter().enumerate() {
            match created.unwrap() {
                Ok(()) => winners.push(racer),
                Err(error) => assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error:?}"),
            }
        }
        let [winner] = winners[..] else { panic!("race {race} was won by {winners:?}") };
        assert_eq!(moto.store("a/prefix").get(&path).await.unwrap(), text(&winner.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_appends_reads_checkpoints_and_cleans_up() {
    let Some(moto) = Moto::start() else { return };
    let store = moto.store("data");
    store.probe_create_only().await.unwrap();
    assert_eq!(store.local_path("x"), None);
    let writers = (0..3).map(|writer| {
        let store = moto.store("data");
        tokio::spawn(async move {
            let log = Log::open(store, "index/main/log").await.unwrap();
            for n in 0..10 {
                log.append(text(&format!("{writer}.{n}"))).await.unwrap();
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    let log = Log::open(store.clone(), "index/main/log").await.unwrap();
    let commits = log.read_after(Lsn(0)).await.unwrap();
    assert_eq!((log.head(), commits.len()), (Lsn(30), 30));
    for lsn in [10, 15, 20] {
        log.checkpoint(Lsn(lsn), text(&format!("state {lsn}"))).await.unwrap();
        log.checkpoint(Lsn(lsn), text(&format!("state {lsn}"))).await.unwrap();
    }
    assert_eq!(log.clean_up(Lsn(15)).await.unwrap(), CleanUp { stubs: 15, checkpoints_deleted: 1 });
    assert!(matches!(log.read_after(Lsn(3)).await, Err(LogError::Cleaned { lsn: Lsn(4), .. })));
    let reopened = Log::open(moto.store("data"), "index/main/log").await.unwrap();
    assert_eq!(reopened.newest_checkpoint().await.unwrap(), Some((Lsn(20), text("state 20"))));
    assert_eq!(reopened.read_after(Lsn(20)).await.unwrap(), commits[20..]);
    assert_eq!(reopened.append(text("more")).await.unwrap(), Lsn(31));
}

/// The process of the test below: its environment says where the S3 is.
#[tokio::test]
async fn opened_by_its_address_in_the_environment_of_the_process() {
    if std::env::var_os("AWS_ENDPOINT").is_none() {
        let Some(moto) = Moto::start() else { return };
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "opened_by_its_address_in_the_environment_of_the_process"])
            .envs(moto.environment())
            .status();
        assert!(again.unwrap().success());
        return;
    }
    let store = Store::open(&format!("s3://{BUCKET}/by/address")).unwrap();
    store.probe_create_only().await.unwrap();
    store.put("a", text("one")).await.unwrap();
    store.put("b", Bytes::new()).await.unwrap();
    assert_eq!(store.get_range("a", 1..10).await.unwrap(), "ne");
    let after = store.list_after("", "a").await.unwrap();
    assert_eq!(after.iter().map(|object| object.path.as_str()).collect::<Vec<_>>(), ["b"]);
    store.delete("b").await.unwrap();
    store.delete("b").await.unwrap();
    assert!(!store.exists("b").await.unwrap());
    let elsewhere = Store::open("s3://no-such-bucket/x").unwrap().get("a").await.unwrap_err();
    assert!(matches!(elsewhere, StoreError::NotFound { .. } | StoreError::Unavailable { .. }), "{elsewhere:?}");
}
