//! Two processes that could both compact.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use pagoda_proto::index::v1::{GenerationStatus, ListGenerationsRequest};

use crate::{
    harness::{Place, Service},
    index_calls::{Index, client},
    numbered_items::{holds, refresh, until, upsert},
};

const ITEMS: usize = 50;
/// Due from 20 fresh items on; who waits for another waits for 10 more.
const SETTINGS: [&str; 3] = ["index.poll_ms=20", "compaction.delta_items=20", "compaction.delta_share=0.1"];

/// index-svc with a log of its own, which does something once it has built and stored a compaction.
fn start(place: &Place, name: &str, when_built: &str) -> Service {
    let mut command: Command = place.command("index-svc");
    command.stderr(fs::File::create(log_path(place, name)).unwrap());
    if !when_built.is_empty() {
        command.env("FAILPOINTS", format!("compaction_built={when_built}"));
    }
    Service::start_as(command, place, name, &SETTINGS)
}

fn log_path(place: &Place, name: &str) -> std::path::PathBuf {
    place.path(&format!("{name}.log"))
}

fn log_lines(place: &Place, name: &str, words: &str) -> usize {
    fs::read_to_string(log_path(place, name)).unwrap().lines().filter(|line| line.contains(words)).count()
}

async fn generations(index: &mut Index) -> Vec<GenerationStatus> {
    let request = ListGenerationsRequest { include_unpublished: true };
    index.list_generations(request).await.unwrap().into_inner().generations
}

async fn until_compacted(index: &mut Index, base: &str) {
    until("a compaction", async || {
        let listed = generations(index).await;
        listed.iter().any(|one| one.is_current && one.compacted_from == base)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_compacts() {
    let place = Place::new();
    // Slow, so that the other sees that a compaction is due, and has the time to build one, before the first is published.
    let services = ["one", "other"].map(|name| start(&place, name, "sleep(3000)"));
    let mut one = client(&services[0]);
    let mut other = client(&services[1]);
    refresh(&mut one, ITEMS).await;
    let base = generations(&mut one).await[0].generation_id.clone();
    for n in 100..125 {
        upsert(&mut one, n).await.unwrap();
    }
    for index in [&mut one, &mut other] {
        until_compacted(index, &base).await;
        assert!(holds(index, 3).await && holds(index, 124).await);
    }
    let all = ["one", "other"].map(|name| {
        ["built generation=", "compacted generation=", "another process compacts"]
            .map(|words| log_lines(&place, name, words))
    });
    let sum = |which: usize| all.iter().map(|counts| counts[which]).sum::<usize>();
    assert_eq!((sum(0), sum(1), sum(2)), (2, 1, 1), "the first build is the refresh: {all:?}");
    services.into_iter().for_each(Service::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_began_to_compact_another_does() {
    let place = Place::new();
    let killed = start(&place, "killed", "return");
    let mut index = client(&killed);
    refresh(&mut index, ITEMS).await;
    let base = generations(&mut index).await[0].generation_id.clone();
    let mut written = 100;
    while upsert(&mut index, written).await.is_ok() {
        written += 1;
        assert!(written < 1000, "it did not begin to compact");
    }
    assert_eq!(killed.ended().signal(), Some(9));

    let other = start(&place, "other", "");
    let mut index = client(&other);
    until("the writes", async || upsert(&mut index, written).await.is_ok()).await;
    until("its patience", async || log_lines(&place, "other", "another process compacts") > 0).await;
    assert!(generations(&mut index).await.iter().any(|one| one.is_current && one.generation_id == base));
    for n in written..written + 15 {
        upsert(&mut index, n).await.unwrap();
    }
    until_compacted(&mut index, &base).await;
    for n in [3, 100, written - 1, written + 14] {
        assert!(holds(&mut index, n).await, "{n}");
    }
    other.stop();
}
