//! [`Cluster`]: processes of index-svc that follow one log, each of which may be killed and started again.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    process::Command,
    sync::Mutex,
};

use rand::{Rng, seq::IndexedRandom};
use tokio::task::block_in_place;

use crate::{
    harness::{Place, Service, program_path},
    index_calls::{Index, client},
};

pub(super) const PROCESSES: usize = 3;
/// A generation is compacted when so many items are fresh beside it.
pub(super) const COMPACTION_DELTA_ITEMS: u64 = 200;

/// Of all processes. So small that all goes on all the time: checkpoints, clean-up, compaction, collection.
const SETTINGS: [&str; 9] = [
    "index.poll_ms=20",
    "checkpoint.commits=40",
    "checkpoint.commits_kept=10",
    "generations.orphan_age_commits=2000",
    "compaction.delta_share=0.1",
    "build.item_count_ratio_min=0.1",
    "build.nice=0",
    "search.live_recall_share=0",
    "log.filter=info",
];
/// Of each, too: with and without a cache, many threads and few.
const OWN_SETTINGS: [&[&str]; PROCESSES] = [
    &["cache.directory=cache-0", "search.threads=2"],
    &["build.threads=1", "search.threads=1"],
    &["cache.directory=cache-2", "write.group_writes_max=1"],
];
/// And of each after an upgrade.
const OWN_SETTINGS_AFTERWARDS: [&[&str]; PROCESSES] = [
    &["build.threads=1", "search.threads=1", "checkpoint.commits=25"],
    &["cache.directory=cache-1", "search.threads=3", "write.group_writes_max=2"],
    &["cache.directory=cache-2", "search.threads=2", "build.threads=2"],
];

/// The processes, by their numbers.
pub(super) struct Cluster {
    place: Place,
    processes: Vec<Mutex<Process>>,
    upgrade_to: Option<PathBuf>,
}

#[derive(Default)]
struct Process {
    service: Option<Service>,
    target: Option<Target>,
    /// How often it was started.
    starts: u64,
    is_armed: bool,
    is_upgraded: bool,
}

/// A process that was up, and how to call it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) number: usize,
    pub(super) index: Index,
    start: u64,
}

impl Cluster {
    /// All processes, on an empty store. They are replaced by another build one day, if one is given.
    pub(super) fn start(upgrade_to: Option<PathBuf>) -> Self {
        let processes = (0..PROCESSES).map(|_| Mutex::default()).collect();
        let cluster = Self { place: Place::new(), processes, upgrade_to };
        (0..PROCESSES).for_each(|number| cluster.start_one(number, None));
        cluster
    }

    /// A process that is up, unless it has just died.
    pub(super) fn pick(&self, rng: &mut impl Rng) -> Option<Target> {
        self.targets().choose(rng).cloned()
    }

    /// All that are up.
    pub(super) fn targets(&self) -> Vec<Target> {
        self.processes.iter().filter_map(|process| process.lock().unwrap().target.clone()).collect()
    }

    /// Whether the process that was called is no more, so that it will do nothing that it was asked for.
    pub(super) fn is_gone(&self, target: &Target) -> bool {
        let process = self.processes[target.number].lock().unwrap();
        process.starts != target.start || process.target.is_none()
    }

    /// Whether it ended at a fail point; then it is gone.
    pub(super) fn has_ended(&self, number: usize) -> bool {
        let mut process = self.processes[number].lock().unwrap();
        let ended = process.service.as_mut().is_some_and(Service::has_ended);
        if ended {
            process.forget();
        }
        ended
    }

    /// Whether it will end at a fail point.
    pub(super) fn is_armed(&self, number: usize) -> bool {
        self.processes[number].lock().unwrap().is_armed
    }

    /// `kill -9`.
    pub(super) fn kill(&self, number: usize) {
        let mut process = self.processes[number].lock().unwrap();
        if let Some(service) = process.service.take() {
            block_in_place(|| service.kill());
        }
        process.forget();
    }

    /// Lets it drain and leave.
    pub(super) fn stop(&self, number: usize) {
        let mut process = self.processes[number].lock().unwrap();
        if let Some(service) = process.service.take() {
            block_in_place(|| service.stop());
        }
        process.forget();
    }

    /// From its next start on it is another build, or has other settings.
    pub(super) fn upgrade(&self, number: usize) {
        self.processes[number].lock().unwrap().is_upgraded = true;
    }

    /// Starts one that is gone; with `fail_point`, which is `name=return` or `name=2*off->return` for the third time, it ends there as `kill -9` does.
    pub(super) fn start_one(&self, number: usize, fail_point: Option<&str>) {
        let is_upgraded = self.processes[number].lock().unwrap().is_upgraded;
        let own = if is_upgraded { OWN_SETTINGS_AFTERWARDS } else { OWN_SETTINGS };
        let compaction = format!("compaction.delta_items={COMPACTION_DELTA_ITEMS}");
        let settings = [SETTINGS.as_slice(), own[number], &[compaction.as_str()]].concat();
        let mut command = self.command(number, is_upgraded);
        if let Some(fail_point) = fail_point {
            command.env("FAILPOINTS", fail_point);
        }
        // Outside the lock: it takes its time, and clients ask meanwhile who is up.
        let service = block_in_place(|| Service::start_as(command, &self.place, &name(number), &settings));
        let mut process = self.processes[number].lock().unwrap();
        process.starts += 1;
        process.is_armed = fail_point.is_some();
        process.target = Some(Target { number, index: client(&service), start: process.starts });
        process.service = Some(service);
    }

    /// How many lines of all logs so far have these words.
    pub(super) fn log_lines(&self, words: &str) -> usize {
        self.logs().map(|log| log.lines().filter(|line| line.contains(words)).count()).sum()
    }

    /// Lines that say that a human must look.
    pub(super) fn complaints(&self) -> Vec<String> {
        let is_complaint = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
        self.logs().flat_map(|log| log.lines().filter(is_complaint).map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    fn logs(&self) -> impl Iterator<Item = String> {
        (0..PROCESSES).map(|number| fs::read_to_string(self.log_path(number)).unwrap())
    }

    fn command(&self, number: usize, is_upgraded: bool) -> Command {
        let program = match &self.upgrade_to {
            Some(other) if is_upgraded => other.clone(),
            _ => program_path("index-svc"),
        };
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(number)).unwrap();
        let mut command = self.place.command_of(&program);
        command.stderr(log);
        command
    }

    fn log_path(&self, number: usize) -> PathBuf {
        self.place.path(&format!("{}.log", name(number)))
    }
}

impl Process {
    fn forget(&mut self) {
        self.service = None;
        self.target = None;
        self.is_armed = false;
    }
}

fn name(number: usize) -> String {
    format!("index-svc-{number}")
}
