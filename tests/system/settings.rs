//! Settings that are wrong, or meant for one service of several; and start-ups that cannot be.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Command, Output},
};

use crate::harness::{Place, Up, poll, program_path};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_fault_names_what_was_expected_and_where_it_stands() {
    let place = Place::new();
    fs::write(place.path("index.toml"), "[memory]\nbytes_max = 1\nlimit = 2\n[drain]\ngrace_ms = \"5s\"\n").unwrap();
    let output = place
        .command("index-svc")
        .args(["--config", "index.toml", "--set", "index.shards=[7]"])
        .env("PAGODA_BUILD__NICE", "300")
        .output()
        .unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for expected in [
        "memory.limit: unknown key, [memory] has bytes_max, map_files, share (index.toml, line 3)",
        "drain.grace_ms: expected a whole number of milliseconds such as 10000, found `\"5s\"` (index.toml, line 5)",
        "build.nice: expected a whole number up to 255, found `300` (environment variable PAGODA_BUILD__NICE)",
        "index.shards: expected numbers below build.shard_count, 1, found 7",
    ] {
        assert!(said.contains(expected), "{expected}\nis missing in\n{said}");
    }
    assert!(!place.path(".pagoda").exists());
}

#[test]
fn bad_settings_of_one_service_start_none() {
    let place = Place::new();
    fs::create_dir(place.path("settings")).unwrap();
    fs::write(place.path("settings/item-tower-svc.toml"), "[refresh]\nbatch_size = 0\n").unwrap();
    let up = ["up", "--store", "store", "--config", "settings"];
    let message = place.refused(&[up.as_slice(), &["--set", "index-svc.memory.share=2"]].concat());
    for expected in [
        "index-svc: bad settings",
        "memory.share: expected 0 to 1, found 2 (--set memory.share)",
        "item-tower-svc: bad settings",
        "refresh.batch_size: expected 1 to 1024, found 0 (settings/item-tower-svc.toml, line 2)",
    ] {
        let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(expected), "{expected}\nis missing in\n{message}");
    }
    let message = place.refused(&["up", "--store", "store", "--set", "memory.bytes=1"]);
    assert!(message.contains("memory.bytes") && message.contains("index-svc"), "{message}");
    assert!(!place.path("store").exists());
}

#[test]
fn settings_reach_the_services_that_know_them_and_lines_say_whose_they_are() {
    let place = Place::new();
    let mut up = Up::start_with(&place, |command| {
        command.args(["--set", "search.k_limit=7", "--set", "log.filter=info,h2=warn"]);
        command.env("PAGODA_RECALL__K_LIMIT", "9").env("PAGODA_LISTEN_ADDRESS", "127.0.0.1:1");
    });
    let settings = poll("the settings", || {
        let log = up.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("settings other")).map(str::to_owned).collect();
        (lines.len() == 3).then_some(lines)
    });
    for (service, has) in [("index-svc", "search.k_limit = 7"), ("user-tower-svc", "recall.k_limit = 9")] {
        let own = |line: &&String| line.starts_with(&format!("[{service}] "));
        let line = settings.iter().find(own).unwrap_or_else(|| panic!("{service}: {settings:#?}"));
        assert!(line.contains(has) && line.contains("log.filter = \"info,h2=warn\""), "{service}: {line}");
        assert_eq!(settings.iter().filter(|line| line.contains(has)).count(), 1, "{settings:#?}");
    }
    let log = up.log();
    assert!(log.contains("did you mean PAGODA_LISTEN__ADDRESS?"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('[')), "{log}");
    // Killed without a goodbye, it takes all of them with it.
    up.kill();
    for address in [up.user_tower, up.item_tower, up.index] {
        poll("the end of the services", || TcpStream::connect(address).is_err().then_some(()));
    }
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let place = Place::new();
    let taker = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taker.local_addr().unwrap();
    for (key, other) in [("listen.address", "listen.metrics_address="), ("listen.metrics_address", "store.url=store")] {
        let mut command = place.command("user-tower-svc");
        command.args(["--set", &format!("{key}={taken}"), "--set", other]);
        let output = command.output().unwrap();
        let said = said(&output);
        assert!(!output.status.success() && said.contains(&format!("{key} {taken}: ")), "{said}");
    }
}

#[test]
fn a_store_that_cannot_be_written_is_named_with_the_way_out() {
    let place = Place::new();
    fs::create_dir(place.path("store")).unwrap();
    let script = "mount -t tmpfs -o ro tmpfs store && exec \"$0\" --set store.url=store --set listen.address=127.0.0.1:0 \
                  --set listen.metrics_address=";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(program_path("index-svc"));
    let output = command.current_dir(place.path(".")).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    for expected in ["/store` gives no permission to write", "nothing is served", "index.roles"] {
        assert!(said.contains(expected), "{expected}\nis missing in\n{said}");
    }
}
