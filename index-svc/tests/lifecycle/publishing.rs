//! Which generation is current: publishing, rolling back, who wins.

use pagoda_proto::index::v1 as proto;
use pagoda_server::status;
use tonic::Code;

use crate::harness::{Index, memory, names, reason, until};

fn expecting(id: &str, expected: &str) -> proto::PublishGenerationRequest {
    let expected_generation_id = Some(expected.into());
    proto::PublishGenerationRequest { generation_id: id.into(), expected_generation_id, ..Default::default() }
}

#[tokio::test]
async fn of_two_refreshes_that_publish_at_once_one_wins_and_the_other_learns_which() {
    let store = memory();
    let (one, two) = (Index::holding(&store, &[], 0..4).await, Index::open(&store, &[]).await);
    let current = one.generations().await[0].generation_id.clone();
    let (a, b) = (one.built(0..5).await, two.built(0..6).await);
    let outcomes = tokio::join!(one.publish_as(expecting(&a, &current)), two.publish_as(expecting(&b, &current)));
    let (winner, lsn, loser) = match outcomes {
        (Ok(lsn), Err(loser)) => (a, lsn, loser),
        (Err(loser), Ok(lsn)) => (b, lsn, loser),
        both => panic!("{both:?}"),
    };
    let (reason, by) = status::reason_of(&loser).unwrap();
    assert_eq!((loser.code(), reason.as_str()), (Code::Aborted, "SUPERSEDED"), "{loser}");
    assert_eq!((&by["generation_id"], &by["lsn"]), (&winner, &lsn.to_string()));
    for index in [&one, &two] {
        until("the winner everywhere", async || (index.generations().await[0].generation_id == winner).then_some(()))
            .await;
    }
    // A retry of the winner, whose reply was lost, succeeds and changes nothing.
    assert_eq!(one.publish_as(expecting(&winner, &current)).await.unwrap(), lsn);
}

#[tokio::test]
async fn a_space_that_is_held_already_is_not_published_as_if_it_were_new() {
    let index = Index::holding(&memory(), &[], 0..4).await;
    let id = index.built(0..5).await;
    assert_eq!(index.publish_as(expecting(&id, "")).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(index.ids().await, names(0..4));
}

#[tokio::test]
async fn a_rollback_brings_the_previous_generation_back_with_all_writes_since_and_outlives_a_restart() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..4).await;
    let first = index.generations().await[0].generation_id.clone();
    index.upsert([10]).await.unwrap();
    let second = index.refresh(0..6).await.unwrap();
    index.upsert([11]).await.unwrap();
    index.delete([1]).await.unwrap();
    assert_eq!(index.ids().await, names([0, 2, 3, 4, 5, 11]));

    assert_eq!(index.roll_back("", Some(&second)).await.unwrap(), first);
    let after = names([0, 2, 3, 10, 11]);
    assert_eq!(index.ids().await, after);
    assert_eq!(Index::open(&store, &[]).await.ids().await, after);
    // A retry goes back once only.
    assert_eq!(index.roll_back("", Some(&second)).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(index.roll_back(&first, Some(&second)).await.unwrap(), first);
    assert_eq!(index.roll_back(&second, None).await.unwrap(), second);
    assert_eq!(index.ids().await, names([0, 2, 3, 4, 5, 11]));
}

#[tokio::test]
async fn as_many_generations_as_configured_can_be_gone_back_to() {
    let index = Index::open(&memory(), &["generations.retained_max=1"]).await;
    let mut ids = Vec::new();
    for n in 3..6 {
        ids.push(index.refresh(0..n).await.unwrap());
    }
    let listed = index.generations().await;
    let listed: Vec<_> = listed.iter().map(|g| (g.generation_id.clone(), g.is_current, g.is_served)).collect();
    assert_eq!(listed, [(ids[2].clone(), true, true), (ids[1].clone(), false, false)]);
    let before = index.lsn();
    let gone = index.roll_back(&ids[0], None).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::FailedPrecondition, "NOT_PUBLISHABLE"));
    assert!(gone.message().contains(&ids[1]), "names those that are retained: {gone}");
    assert_eq!(index.lsn(), before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_under_load_fails_no_search() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..200).await;
    index.refresh(0..250).await.unwrap();
    let searching = index.clone();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        let mut answers = 0;
        while !*stopped.borrow_and_update() {
            let found = searching.search(0).await.unwrap();
            // From one snapshot: either all of one generation or all of the other.
            assert!([200, 250].contains(&found.items.len()), "{}", found.items.len());
            answers += 1;
        }
        answers
    });
    for _ in 0..5 {
        let began = std::time::Instant::now();
        let back = index.roll_back("", None).await.unwrap();
        assert!(began.elapsed().as_secs() < 5);
        assert_eq!(index.ids().await.len(), 200);
        let forward = index.generations().await.into_iter().find(|g| g.generation_id != back).unwrap();
        index.roll_back(&forward.generation_id, None).await.unwrap();
    }
    stop.send(true).unwrap();
    assert!(load.await.unwrap() > 0);
}

#[tokio::test]
async fn another_process_serves_what_this_one_rolls_back_to() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..4).await;
    let other = Index::open(&store, &[]).await;
    index.refresh(0..6).await.unwrap();
    until("the newer generation", async || (other.ids().await == names(0..6)).then_some(())).await;
    index.roll_back("", None).await.unwrap();
    until("the older generation", async || (other.ids().await == names(0..4)).then_some(())).await;
}

#[tokio::test]
async fn what_was_replaced_for_good_is_collected_at_once_however_quiet_the_log_is() {
    let store = memory();
    let index = Index::holding(&store, &["generations.retained_max=1"], 0..4).await;
    let refused = index.built(0..1).await;
    for n in 5..12 {
        index.refresh(0..n).await.unwrap();
        let listed = index.generations().await;
        let kept: Vec<&str> = listed.iter().map(|generation| generation.generation_id.as_str()).collect();
        until("the collection", async || {
            let stored = store.list("index/main/generations").await.unwrap();
            let ids = stored.iter().map(|object| object.path.split('/').nth(3).unwrap());
            let left: std::collections::BTreeSet<&str> = ids.filter(|id| !kept.contains(id)).collect();
            // The first two cover as much as what is retained.
            (left.is_empty() || n < 7 && left.len() == 1).then_some(())
        })
        .await;
    }
    assert_eq!(index.publish(&refused).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn orphans_are_collected_once_nobody_can_publish_them() {
    let store = memory();
    let set = ["generations.orphan_age_commits=8", "generations.retained_max=0"];
    let index = Index::holding(&store, &set, 0..4).await;
    let replaced = index.generations().await[0].generation_id.clone();
    let orphan = index.built(0..5).await;
    // A build that was killed: no manifest.
    let unfinished = index.built(0..5).await;
    store.delete(&format!("index/main/generations/{unfinished}/manifest.json")).await.unwrap();
    // One that was collected while it was stored still.
    let late_stored = index.built(0..5).await;
    for name in ["lifetime.json", "shard-0/ids.bin"] {
        store.delete(&format!("index/main/generations/{late_stored}/{name}")).await.unwrap();
    }
    let current = index.refresh(0..6).await.unwrap();
    for n in 0..5 {
        index.upsert([n]).await.unwrap();
    }
    let late = index.publish(&orphan).await.unwrap_err();
    assert_eq!(reason(&late), "NOT_PUBLISHABLE", "{late}");
    for n in 0..10 {
        index.upsert([n]).await.unwrap();
    }
    until("the collection", async || {
        let stored = store.list("index/main/generations").await.unwrap();
        let left = |id: &str| stored.iter().any(|object| object.path.contains(id));
        assert!(left(&current));
        let orphans = [&orphan, &unfinished, &late_stored, &replaced];
        (!orphans.into_iter().any(|id| left(id))).then_some(())
    })
    .await;
    assert_eq!(Index::open(&store, &set).await.ids().await, index.ids().await);
}
