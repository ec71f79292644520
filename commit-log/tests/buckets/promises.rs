//! What a store and a log promise, whatever bucket lies beneath.

use bytes::Bytes;
use futures::future::join_all;
use pagoda_commit_log::{CleanUp, Log, LogError, Lsn, Store, StoreError, StoreOptions};

fn text(payload: &str) -> Bytes {
    Bytes::copy_from_slice(payload.as_bytes())
}

pub(crate) async fn of_those_who_create_an_object_one_wins(open: impl Fn(&str) -> Store) {
    for race in 0..20 {
        let path = format!("races/{race}");
        let racers = (0..8).map(|racer| {
            let (store, path) = (open("a/prefix"), path.clone());
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
        assert_eq!(open("a/prefix").get(&path).await.unwrap(), text(&winner.to_string()));
    }
}

pub(crate) async fn a_log_appends_reads_checkpoints_and_cleans_up(open: impl Fn(&str) -> Store) {
    let store = open("data");
    store.probe_create_only().await.unwrap();
    assert_eq!(store.local_path("x"), None);
    let writers = (0..3).map(|writer| {
        let store = open("data");
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
    let reopened = Log::open(open("data"), "index/main/log").await.unwrap();
    assert_eq!(reopened.newest_checkpoint().await.unwrap(), Some((Lsn(20), text("state 20"))));
    assert_eq!(reopened.read_after(Lsn(20)).await.unwrap(), commits[20..]);
    assert_eq!(reopened.append(text("more")).await.unwrap(), Lsn(31));
}

pub(crate) async fn a_large_object_goes_up_in_parts(open: impl Fn(StoreOptions) -> Store) {
    let whole: Bytes = (0..12_u32 << 20).map(|n| (n >> 16) as u8).collect();
    let store = open(StoreOptions { part_bytes: 5 << 20, ..StoreOptions::default() });
    for path in ["large", "large", "another"] {
        store.put_vouched(path, whole.clone()).await.unwrap();
        assert!(store.get(path).await.unwrap() == whole);
    }
    let at_once = store.put_create("large", whole.clone()).await.unwrap_err();
    assert!(matches!(at_once, StoreError::AlreadyExists { .. }), "{at_once:?}");
    for _ in 0..2 {
        store.put_vouched("small", text("small")).await.unwrap();
    }
    let listed = store.list("").await.unwrap().into_iter().map(|object| (object.path, object.bytes));
    let large = |path: &str| (path.to_owned(), whole.len() as u64);
    assert_eq!(listed.collect::<Vec<_>>(), [large("another"), large("large"), ("small".into(), 5)]);
}

/// Both addresses are opened with what the environment of the process says; nothing is at the other one.
pub(crate) async fn opened_by_its_address(address: &str, elsewhere: &str) {
    let store = Store::open(address).unwrap();
    store.probe_create_only().await.unwrap();
    store.put("a", text("one")).await.unwrap();
    store.put("b", Bytes::new()).await.unwrap();
    assert_eq!(store.get_range("a", 1..10).await.unwrap(), "ne");
    let after = store.list_after("", "a").await.unwrap();
    assert_eq!(after.iter().map(|object| object.path.as_str()).collect::<Vec<_>>(), ["b"]);
    store.delete("b").await.unwrap();
    store.delete("b").await.unwrap();
    assert!(!store.exists("b").await.unwrap());
    let elsewhere = Store::open(elsewhere).unwrap();
    let missing = elsewhere.probe_create_only().await.unwrap_err();
    assert!(matches!(missing, StoreError::NoBucket { .. }), "{missing:?}");
    let elsewhere = elsewhere.get("a").await.unwrap_err();
    assert!(matches!(elsewhere, StoreError::NotFound { .. } | StoreError::Unavailable { .. }), "{elsewhere:?}");
}
