//! index-svc over an S3 that fails, and a writer that stands still while others go on. See docs/reliability.md.

use std::time::Duration;

use futures::future::{join, join_all};
use pagoda_commit_log::moto::{BUCKET, Moto};
use pagoda_proto::index::v1::{ItemEmbedding, SearchRequest, UpsertRequest};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Request, Status};

use crate::{
    failing_s3::FailingS3,
    harness::{Place, Service},
    index_calls::{
        Index, SPACE, build, client, embedding, is_away, may_be_tried_again, publish, status, until_answered, version,
    },
};

/// Less than a store that is away is tried for: then the answer is the deadline's.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

fn item(name: &str) -> ItemEmbedding {
    ItemEmbedding { item_id: name.to_owned(), embedding: Some(embedding(name)), ..Default::default() }
}

/// Writes an item whose name is the request's id as well.
async fn upsert(index: &mut Index, name: &str) -> Result<u64, Status> {
    let (items, request_id) = (vec![item(name)], name.to_owned());
    let request = UpsertRequest { model_version: version(), items, request_id, ..Default::default() };
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIMEOUT);
    Ok(index.upsert(request).await?.into_inner().lsn)
}

async fn holds(index: &mut Index, name: &str, min_lsn: u64) -> Result<bool, Status> {
    let request = SearchRequest {
        space_id: SPACE.into(),
        embedding: Some(embedding(name)),
        k: 1,
        exact: true,
        min_lsn,
        ..Default::default()
    };
    let found = index.search(request).await?.into_inner().items;
    Ok(found.first().is_some_and(|nearest| nearest.item_id == name))
}

async fn refresh(index: &mut Index, names: &[String]) -> Result<String, Status> {
    let covers = status(index).await?.lsn;
    let id = build(index, covers, names.iter().map(|name| item(name)).collect()).await?;
    publish(index, &id).await?;
    Ok(id)
}

fn names(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{what} {n}")).collect()
}

/// Row 9 and 10 of the fault matrix: 503, 429, lost replies and hanging calls, a third of all; then all of them.
#[tokio::test(flavor = "multi_thread")]
async fn over_an_s3_that_fails_a_third_of_its_calls_writes_are_late_or_refused_and_never_falsely_acknowledged() {
    let Some(moto) = Moto::start() else { return };
    let (s3, place) = (FailingS3::start(&moto, 7), Place::new());
    let settings = [
        &format!("store.url=s3://{BUCKET}/data"),
        "index.poll_ms=100",
        "checkpoint.commits=15",
        "checkpoint.commits_kept=5",
    ];
    let start = |name: &str, failing: bool| {
        let mut command = place.command("index-svc");
        match failing {
            true => command.envs(s3.environment(&moto)),
            false => command.envs(moto.environment()),
        };
        Service::start_as(command, &place, name, &settings)
    };
    let service = start("index-svc", true);
    let mut index = client(&service);
    let base = names("base", 200);
    until_answered(async || refresh(&mut index, &base).await).await;

    s3.fail(35);
    let writers = (0..4).map(async |writer| {
        let mut index = client(&service);
        let mut acknowledged = Vec::new();
        for name in names(&format!("writer {writer}"), 20) {
            let lsn = until_answered(async || upsert(&mut index, &name).await).await;
            assert!(holds(&mut index, &name, lsn).await.unwrap(), "{name} is not seen at {lsn}");
            acknowledged.push((name, lsn));
        }
        acknowledged
    });
    let publisher = until_answered(async || refresh(&mut index, &base).await);
    let (acknowledged, _) = join(join_all(writers), publisher).await;
    let mut acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    for (fault, count) in s3.met() {
        assert!(count > 5, "{fault} was met {count} times");
    }

    s3.fail(100);
    let refused = upsert(&mut index, "while it is away").await.unwrap_err();
    assert!(is_away(&refused), "{refused}");
    for (name, _) in &acknowledged {
        assert!(holds(&mut index, name, 0).await.unwrap(), "{name} is searched while the store is away");
    }
    s3.fail(0);
    let lsn = until_answered(async || upsert(&mut index, "when it is back").await).await;
    acknowledged.push(("when it is back".into(), lsn));
    service.kill();

    let service = start("another", false);
    let mut index = client(&service);
    let head = until_answered(async || status(&mut index).await).await.lsn;
    for (name, lsn) in &acknowledged {
        assert!(holds(&mut index, name, head).await.unwrap(), "{name} was acknowledged at {lsn}");
        assert_eq!(upsert(&mut index, name).await.unwrap(), *lsn, "{name} was committed once");
    }
    for name in &base {
        assert!(holds(&mut index, name, head).await.unwrap(), "{name} was in the catalog");
    }
    assert_eq!(status(&mut index).await.unwrap().lsn, head, "retries changed nothing");
}

/// Row 14: SIGSTOP at any moment of a write, for longer than checkpoints and clean-up take.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_stood_still_past_checkpoint_and_clean_up_commits_at_the_head_or_not_at_all() {
    const ROUNDS: usize = 12;
    let place = Place::new();
    let settings =
        ["index.poll_ms=50", "checkpoint.commits=4", "checkpoint.commits_kept=0", "write.group_writes_max=1"];
    let [paused, going] = ["paused", "going"].map(|name| {
        let command = place.command("index-svc");
        Service::start_as(command, &place, name, &settings)
    });
    let (mut index, mut rng) = (client(&going), ChaCha8Rng::seed_from_u64(14));
    until_answered(async || refresh(&mut index, &names("base", 40)).await).await;
    let mut follower = client(&paused);
    while until_answered(async || status(&mut follower).await).await.spaces.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut acknowledged = Vec::new();
    let mut before = status(&mut index).await.unwrap().lsn;
    for round in 0..ROUNDS {
        let name = format!("paused {round}");
        let write = {
            let (mut index, name) = (client(&paused), name.clone());
            tokio::spawn(async move { upsert(&mut index, &name).await })
        };
        // A write takes a millisecond or two, most of it waiting for the disk.
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..4000))).await;
        paused.signal("STOP");
        for name in names(&format!("going {round}"), 12) {
            acknowledged.push((upsert(&mut index, &name).await.unwrap(), name));
        }
        paused.signal("CONT");
        let lsn = match write.await.unwrap() {
            Ok(lsn) => lsn,
            Err(refused) => {
                assert!(may_be_tried_again(&refused), "{refused}");
                let mut index = client(&paused);
                until_answered(async || upsert(&mut index, &name).await).await
            }
        };
        assert!(lsn <= before + 1 || lsn > before + 12, "{name} is at {lsn}, amid what was written meanwhile");
        acknowledged.push((lsn, name));
        before = acknowledged.iter().map(|(lsn, _)| *lsn).max().unwrap();
    }
    let head = before;
    for service in [&paused, &going] {
        let mut index = client(service);
        for (lsn, name) in &acknowledged {
            assert!(holds(&mut index, name, head).await.unwrap(), "{name} was acknowledged at {lsn}");
        }
    }
    acknowledged.sort();
    acknowledged.dedup_by_key(|(lsn, _)| *lsn);
    assert_eq!(acknowledged.len(), ROUNDS * 13, "no position was acknowledged twice");
    [paused, going].into_iter().for_each(Service::kill);

    let service = Service::start(&place, "index-svc", &settings);
    let mut index = client(&service);
    for (lsn, name) in &acknowledged {
        let held = until_answered(async || holds(&mut index, name, head).await).await;
        assert!(held, "{name} was acknowledged at {lsn}");
    }
}
