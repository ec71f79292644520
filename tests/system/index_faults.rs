//! index-svc killed where it hurts most, without room on the disk, without its store. See docs/reliability.md.

use std::{fs, io::Write as _, os::unix::process::ExitStatusExt, process::Command};

use pagoda_proto::index::v1::ListGenerationsRequest;
use tonic::Code;

use crate::{
    harness::{Place, Service, program_path},
    index_calls::{client, is_away, publish},
    numbered_items::{DIM, build, holds, refresh, status, until, upsert},
};

const SIGKILL: i32 = 9;

/// index-svc that ends as `kill -9` does at a place; `spec` is `name=return`, or `name=2*off->return` for the third time.
fn killed_at(place: &Place, spec: &str) -> Command {
    let mut command = place.command("index-svc");
    command.env("FAILPOINTS", spec);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_before_after_or_around_a_put_keeps_what_it_acknowledged_and_takes_retries_once() {
    for (spec, written) in [("before_writes=3*off->return", false), ("writes_appended=3*off->return", true)] {
        let place = Place::new();
        let service = Service::start_as(killed_at(&place, spec), &place, "index-svc", &[]);
        let mut index = client(&service);
        refresh(&mut index, 20).await;
        let mut acknowledged = Vec::new();
        for n in 100..103 {
            acknowledged.push((n, upsert(&mut index, n).await.unwrap()));
        }
        upsert(&mut index, 103).await.unwrap_err();
        assert_eq!(service.ended().signal(), Some(SIGKILL), "{spec}");

        let service = Service::start(&place, "index-svc", &[]);
        let mut index = client(&service);
        for (n, _) in &acknowledged {
            assert!(holds(&mut index, *n).await, "{spec}: {n} was acknowledged");
        }
        assert_eq!(holds(&mut index, 103).await, written, "{spec}");
        let before = status(&mut index).await.lsn;
        for (n, lsn) in acknowledged {
            assert_eq!(upsert(&mut index, n).await.unwrap(), lsn, "{spec}: a retry of {n}");
        }
        upsert(&mut index, 103).await.unwrap();
        assert_eq!(status(&mut index).await.lsn, before + u64::from(!written), "{spec}: a retry changed something");
        assert!(holds(&mut index, 103).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_killed_at_any_point_publishes_nothing_and_what_it_left_is_collected() {
    for spec in
        ["generation_built=1*off->return", "generation_object_stored=6*off->return", "generation_stored=1*off->return"]
    {
        let place = Place::new();
        let settings = ["generations.orphan_age_commits=4"];
        let service = Service::start_as(killed_at(&place, spec), &place, "index-svc", &settings);
        let mut index = client(&service);
        refresh(&mut index, 20).await;
        build(&mut index, 30).await.unwrap_err();
        assert_eq!(service.ended().signal(), Some(SIGKILL), "{spec}");

        let service = Service::start(&place, "index-svc", &settings);
        let mut index = client(&service);
        assert_eq!(status(&mut index).await.spaces[0].base_count, 20, "{spec}");
        for n in 100..108 {
            upsert(&mut index, n).await.unwrap();
        }
        let generations = place.path("store/index/main/generations");
        until("the collection", async || fs::read_dir(&generations).unwrap().filter(is_left).count() == 1).await;
        assert!(holds(&mut index, 3).await && holds(&mut index, 107).await, "{spec}");
    }
}

/// A directory store leaves empty folders behind.
fn is_left(dir: &std::io::Result<fs::DirEntry>) -> bool {
    dir.as_ref().is_ok_and(|dir| dir.path().join("manifest.json").exists() || dir.path().join("lifetime.json").exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_the_publishing_commit_and_the_swap_serves_the_newest_generation_after_its_restart() {
    let place = Place::new();
    let command = killed_at(&place, "publication_appended=1*off->return");
    let service = Service::start_as(command, &place, "index-svc", &[]);
    let mut index = client(&service);
    refresh(&mut index, 20).await;
    let newer = build(&mut index, 30).await.unwrap();
    publish(&mut index, &newer).await.unwrap_err();
    assert_eq!(service.ended().signal(), Some(SIGKILL));

    let service = Service::start(&place, "index-svc", &[]);
    let mut index = client(&service);
    assert_eq!(status(&mut index).await.spaces[0].generation_id, newer);
    assert!(holds(&mut index, 29).await);
    assert_eq!(publish(&mut index, &newer).await.unwrap(), 2, "a retry changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_downloads_leaves_nothing_that_is_used_later() {
    let place = Place::new();
    let service = Service::start(&place, "index-svc", &[]);
    refresh(&mut client(&service), 20).await;
    service.kill();

    let cached = ["cache.directory=cache"];
    for spec in ["generation_object_read=1*off->return", "cache_file_written=2*off->return"] {
        let ended = Service::run_to_its_end(killed_at(&place, spec), &place, &cached);
        assert_eq!(ended.signal(), Some(SIGKILL), "{spec}: it was not ready before it had everything");
    }
    let partial = || {
        let generations = fs::read_dir(place.path("cache/main/generations")).unwrap();
        let files = generations.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
        files.filter(|file| file.as_ref().unwrap().path().extension() == Some("partial".as_ref())).count()
    };
    assert_eq!(partial(), 1);
    let service = Service::start(&place, "index-svc", &cached);
    assert!(holds(&mut client(&service), 13).await);
    assert_eq!(partial(), 0);
}

/// index-svc in a mount namespace of its own, where a folder is a small file system; what `beside` says is started there as well.
fn on_a_small_disk(place: &Place, folder: &str, beside: &str) -> Command {
    fs::create_dir_all(place.path(folder)).unwrap();
    let script = format!("mount -t tmpfs -o size=600k tmpfs {folder} && {{ {beside} exec \"$0\" \"$@\"; }}");
    let mut command = place.command("index-svc");
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(program_path("index-svc"));
    unshare.current_dir(command.get_current_dir().unwrap()).envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command = unshare;
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_lets_reads_go_on_and_is_left_without_a_restart() {
    let place = Place::new();
    // A line written to it makes the disk larger.
    assert!(Command::new("mkfifo").arg(place.path("more")).status().unwrap().success());
    let command = on_a_small_disk(&place, "store", "(read line < more; mount -o remount,size=64m store) &");
    let service = Service::start_as(command, &place, "index-svc", &[]);
    let mut index = client(&service);
    refresh(&mut index, 20).await;
    let mut acknowledged = Vec::new();
    let refused = loop {
        let n = 100 + acknowledged.len();
        match upsert(&mut index, n).await {
            Ok(_) => acknowledged.push(n),
            Err(refused) => break refused,
        }
        assert!(acknowledged.len() < 10_000, "the disk never got full");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let trouble = status(&mut index).await.write_trouble.unwrap();
    assert!(trouble.why.contains("no space left"), "{}", trouble.why);
    for n in &acknowledged {
        assert!(holds(&mut index, *n).await, "{n} was acknowledged");
    }
    let next = 100 + acknowledged.len();
    assert!(!holds(&mut index, next).await, "what was refused is not there");
    fs::OpenOptions::new().write(true).open(place.path("more")).unwrap().write_all(b"more\n").unwrap();
    until("room", async || upsert(&mut index, next).await.is_ok()).await;
    assert_eq!(status(&mut index).await.write_trouble, None);
    assert!(holds(&mut index, next).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_on_a_full_disk_costs_neither_answers_nor_writes_nor_a_restart() {
    let place = Place::new();
    let start = || {
        let command = on_a_small_disk(&place, "cache", "");
        Service::start_as(command, &place, "index-svc", &["cache.directory=cache", "checkpoint.commits=1"])
    };
    let service = start();
    let mut index = client(&service);
    // Vectors alone are twice what the cache has room for.
    refresh(&mut index, 1200).await;
    for n in 2000..2010 {
        upsert(&mut index, n).await.unwrap();
    }
    assert!(holds(&mut index, 1199).await && holds(&mut index, 2009).await);
    assert_eq!(status(&mut index).await.load_trouble, None);
    service.kill();
    let service = start();
    let mut index = client(&service);
    assert!(holds(&mut index, 1199).await && holds(&mut index, 2009).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_does_not_fit_beside_the_old_one_is_refused_and_the_old_one_stays() {
    let place = Place::new();
    let start = |name: &str, memory: &str| {
        Service::start_as(place.command("index-svc"), &place, name, &["index.poll_ms=50", memory])
    };
    // One generation of 200 items takes some 420 kB, a build of it a megabyte.
    let (large, small) = (start("large", "memory.bytes_max=4000000"), start("small", "memory.bytes_max=700000"));
    let (mut at_large, mut at_small) = (client(&large), client(&small));
    refresh(&mut at_large, 200).await;
    let before = status(&mut at_large).await;
    until("the first generation", async || status(&mut at_small).await.spaces == before.spaces).await;

    let refused = build(&mut at_small, 220).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let second = build(&mut at_large, 220).await.unwrap();
    let refused = publish(&mut at_small, &second).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("memory.bytes_max"), "{refused}");
    assert_eq!(status(&mut at_large).await.lsn, before.lsn, "nothing was published");

    publish(&mut at_large, &second).await.unwrap();
    upsert(&mut at_large, 500).await.unwrap();
    until("the write", async || holds(&mut at_small, 500).await).await;
    let after = status(&mut at_small).await;
    assert_eq!(after.spaces[0].generation_id, before.spaces[0].generation_id, "the old one is searched");
    assert!(after.load_trouble.unwrap().why.contains("memory.bytes_max"));
    assert!(holds(&mut at_small, 3).await && holds(&mut at_large, 219).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_store_away_search_goes_on_and_a_restart_serves_from_the_local_cache() {
    let place = Place::new();
    let settings = ["cache.directory=cache", "index.poll_ms=50", "checkpoint.commits=1"];
    let service = Service::start(&place, "index-svc", &settings);
    let mut index = client(&service);
    refresh(&mut index, 20).await;
    upsert(&mut index, 100).await.unwrap();
    let kept = place.path("cache/main/state.bin");
    // The state of the upsert has its embedding in it.
    until("the state on the disk", async || fs::metadata(&kept).is_ok_and(|state| state.len() > 4 * DIM as u64)).await;

    let (store, away) = (place.path("store/index"), place.path("store-away"));
    fs::rename(&store, &away).unwrap();
    // A plain file where the folder was, so that nothing can be made there meanwhile.
    fs::write(&store, "away").unwrap();
    let refused = upsert(&mut index, 101).await.unwrap_err();
    assert!(is_away(&refused), "{refused}");
    assert!(holds(&mut index, 3).await && holds(&mut index, 100).await);
    service.kill();

    let service = Service::start(&place, "index-svc", &settings);
    let mut index = client(&service);
    assert!(holds(&mut index, 3).await && holds(&mut index, 100).await);
    assert!(is_away(&upsert(&mut index, 101).await.unwrap_err()));

    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    until("the store again", async || upsert(&mut index, 101).await.is_ok()).await;
    assert!(holds(&mut index, 101).await);
    let listed = index.list_generations(ListGenerationsRequest::default()).await.unwrap().into_inner().generations;
    assert_eq!(listed.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_folder_of_the_store_gone_writes_are_refused_and_none_is_made_in_its_place() {
    let place = Place::new();
    let service = Service::start(&place, "index-svc", &["index.poll_ms=50"]);
    let mut index = client(&service);
    refresh(&mut index, 20).await;
    upsert(&mut index, 100).await.unwrap();

    let (store, away) = (place.path("store"), place.path("store-away"));
    fs::rename(&store, &away).unwrap();
    let refused = upsert(&mut index, 101).await.unwrap_err();
    assert!(is_away(&refused), "{refused}");
    assert!(holds(&mut index, 3).await && holds(&mut index, 100).await && !holds(&mut index, 101).await);
    assert!(!store.exists());

    fs::rename(&away, &store).unwrap();
    until("the store again", async || upsert(&mut index, 101).await.is_ok()).await;
    service.kill();
    let service = Service::start(&place, "index-svc", &[]);
    let mut index = client(&service);
    assert!(holds(&mut index, 3).await && holds(&mut index, 100).await && holds(&mut index, 101).await);
}
