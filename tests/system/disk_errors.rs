//! index-svc on a disk that fails to flush and to rename: `fiu-run` makes these calls of the real process fail, and `fiu-ctrl` begins and ends it while
//! the process runs. What a write calls is write, fsync, link and fsync of the folder; checkpoints and what is cleaned up are renamed into their places.
//!
//! The process is started under `timeout`, and ends with it, so that nothing is left whatever becomes of a test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tonic::Code;

use crate::{
    harness::{Place, Service, program_path},
    index_calls::{Index, client},
    numbered_items::{DIM, holds, refresh, status, until, upsert},
};

const EIO: u32 = 5;
const ENOSPC: u32 = 28;
const SYNC: &str = "name=posix/io/sync/*";
const RENAME: &str = "name=posix/io/dir/rename";
const UNLINK: &str = "name=posix/io/dir/unlink";
const ITEMS: usize = 20;
/// A checkpoint every few writes, and all of the log that it covers cleaned up but for one of them.
const SETTINGS: [&str; 4] =
    ["checkpoint.commits=4", "checkpoint.commits_kept=1", "cache.directory=cache", "index.poll_ms=50"];

/// index-svc whose disk can be made to fail.
struct OnAFailingDisk {
    service: Service,
    /// Where `fiu-ctrl` reaches it.
    control: PathBuf,
}

impl OnAFailingDisk {
    /// None where `fiu-run` is not installed: then the test says so and has nothing to show.
    fn start(place: &Place) -> Option<Self> {
        if Command::new("fiu-run").arg("-h").output().is_err() {
            println!("skipped: there is no fiu-run; `scripts/install-deps test` installs it with apt-get");
            return None;
        }
        let mut command = place.command_of(Path::new("timeout"));
        // With its parent it is killed as well.
        command.args(["--signal=KILL", "120", "setpriv", "--pdeathsig=KILL", "fiu-run", "-x", "-f"]);
        command.arg(place.path("fiu")).arg(program_path("index-svc"));
        let service = Service::start_as(command, place, "index-svc", &SETTINGS);
        let files = fs::read_dir(place.path("")).unwrap().map(|file| file.unwrap().path());
        let control = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "in"));
        Some(Self { service, control: control.unwrap().with_extension("") })
    }

    fn tell(&self, command: &str) {
        let mut control = Command::new("timeout");
        control.args(["10", "fiu-ctrl", "-c", command]).arg(&self.control);
        let told = control.output().unwrap();
        let said = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success() && said.is_empty(), "{command}: {said}");
    }

    fn fail(&self, what: &str, errno: u32) {
        self.tell(&format!("enable {what},failinfo={errno}"));
    }

    fn fail_at_random(&self, what: &str, probability: f32) {
        self.tell(&format!("enable_random {what},probability={probability},failinfo={EIO}"));
    }

    fn mend(&self, what: &str) {
        self.tell(&format!("disable {what}"));
    }
}

/// Upserts that many items one by one; returns those acknowledged and those refused.
async fn upsert_all(index: &mut Index, numbers: std::ops::Range<usize>) -> (Vec<usize>, Vec<usize>) {
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for n in numbers {
        let outcome = upsert(index, n).await;
        if let Err(status) = &outcome {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
        if outcome.is_ok() { &mut acknowledged } else { &mut refused }.push(n);
    }
    (acknowledged, refused)
}

async fn assert_holds(index: &mut Index, numbers: &[usize], expected: bool, why: &str) {
    for &n in numbers {
        assert_eq!(holds(index, n).await, expected, "{n} {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_not_flushed_is_refused_and_writing_goes_on_without_a_restart_once_it_is() {
    let place = Place::new();
    let Some(disk) = OnAFailingDisk::start(&place) else { return };
    let mut index = client(&disk.service);
    refresh(&mut index, ITEMS).await;
    let (mut acknowledged, _) = upsert_all(&mut index, 100..110).await;
    let (mut refused, mut next) = (Vec::new(), 200);
    for (errno, code) in [(EIO, Code::Unavailable), (ENOSPC, Code::ResourceExhausted)] {
        disk.fail(SYNC, errno);
        let before = status(&mut index).await.lsn;
        for n in next..next + 5 {
            let status = upsert(&mut index, n).await.unwrap_err();
            assert_eq!(status.code(), code, "{status}");
            refused.push(n);
        }
        assert_holds(&mut index, &acknowledged, true, "was acknowledged, and reads go on").await;
        assert_holds(&mut index, &refused, false, "was refused").await;
        assert_eq!(status(&mut index).await.lsn, before);
        disk.mend(SYNC);
        let (written, none) = upsert_all(&mut index, next + 50..next + 60).await;
        assert!(none.is_empty(), "it does not go on: {none:?}");
        acknowledged.extend(written);
        next += 100;
    }
    disk.service.kill();

    let service = Service::start(&place, "index-svc", &SETTINGS);
    let mut index = client(&service);
    assert_holds(&mut index, &acknowledged, true, "was acknowledged").await;
    assert_holds(&mut index, &refused, false, "was refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_errors_at_random_what_was_acknowledged_is_there_and_a_retry_is_acknowledged_once_it_is_flushed() {
    let place = Place::new();
    let Some(disk) = OnAFailingDisk::start(&place) else { return };
    let mut index = client(&disk.service);
    refresh(&mut index, ITEMS).await;
    disk.fail_at_random(SYNC, 0.3);
    disk.fail_at_random(RENAME, 0.3);
    disk.fail_at_random(UNLINK, 0.3);
    let (acknowledged, refused) = upsert_all(&mut index, 100..250).await;
    assert!(acknowledged.len() > 20 && refused.len() > 20, "{acknowledged:?}");
    until("the last commit", async || status(&mut index).await.lsn == newest_slot(&place)).await;
    assert_holds(&mut index, &acknowledged, true, "was acknowledged").await;

    // A write that was refused may be seen all the same, where the folder alone was not flushed. Its retry is no reason to promise it.
    for fault in [RENAME, UNLINK] {
        disk.mend(fault);
    }
    disk.fail(SYNC, EIO);
    let mut seen = Vec::new();
    for &n in &refused {
        if holds(&mut index, n).await {
            seen.push(n);
        }
        assert_eq!(upsert(&mut index, n).await.unwrap_err().code(), Code::Unavailable, "{n} is not flushed yet");
    }
    assert!(!seen.is_empty() && seen.len() < refused.len(), "{} of {} are seen", seen.len(), refused.len());
    disk.mend(SYNC);
    let before = status(&mut index).await.lsn;
    for &n in &seen {
        assert!(upsert(&mut index, n).await.unwrap() <= before, "{n} was written twice");
    }
    assert_eq!(status(&mut index).await.lsn, before, "a retry changed something");
    disk.service.kill();

    let service = Service::start(&place, "index-svc", &SETTINGS);
    let mut index = client(&service);
    assert_holds(&mut index, &acknowledged, true, "was acknowledged").await;
    for &n in &refused {
        assert_eq!(holds(&mut index, n).await, seen.contains(&n), "{n}");
        upsert(&mut index, n).await.unwrap();
    }
    assert_holds(&mut index, &refused, true, "was acknowledged").await;
}

fn newest_slot(place: &Place) -> u64 {
    let names = fs::read_dir(place.path("store/index/main/log")).unwrap().map(|slot| slot.unwrap().file_name());
    names.filter_map(|name| name.to_str().unwrap().parse().ok()).max().unwrap()
}

/// Slots of the log that are stubs: renamed into the place of commits that a checkpoint covers.
fn stubs(place: &Place) -> usize {
    let slots = fs::read_dir(place.path("store/index/main/log")).unwrap().map(Result::unwrap);
    slots.filter(|slot| slot.metadata().is_ok_and(|found| found.len() == 48)).count()
}

/// Whether the local disk has a state with writes: it has their embeddings in it.
fn is_kept_locally(place: &Place) -> bool {
    fs::metadata(place.path("cache/main/state.bin")).is_ok_and(|state| state.len() > 4 * DIM as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_renamed_writes_go_on_and_the_log_is_cleaned_up_once_it_can() {
    let place = Place::new();
    let Some(disk) = OnAFailingDisk::start(&place) else { return };
    let mut index = client(&disk.service);
    disk.fail(RENAME, EIO);
    refresh(&mut index, ITEMS).await;
    let (mut acknowledged, refused) = upsert_all(&mut index, 100..130).await;
    assert_eq!((refused.len(), stubs(&place)), (0, 0));
    assert!(!is_kept_locally(&place));
    disk.mend(RENAME);
    let mut n = 200;
    until("the clean-up", async || {
        acknowledged.push(n);
        upsert(&mut index, n).await.unwrap();
        n += 1;
        stubs(&place) > 0 && is_kept_locally(&place)
    })
    .await;
    disk.service.kill();
    let service = Service::start(&place, "index-svc", &SETTINGS);
    assert_holds(&mut client(&service), &acknowledged, true, "was acknowledged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_that_cannot_be_written_ends_nothing() {
    let place = Place::new();
    let mut command = place.command("index-svc");
    command.stderr(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let service = Service::start_as(command, &place, "index-svc", &[]);
    let mut index = client(&service);
    refresh(&mut index, ITEMS).await;
    upsert(&mut index, 100).await.unwrap();
    assert!(holds(&mut index, 100).await);
    service.stop();
}
