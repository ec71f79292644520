//! Whole processes over a store that fails, with a paused clock: what was acknowledged holds, replies are of one snapshot, replicas stay equal.
//!
//! Invariants as in docs/reliability.md: I1 no acknowledged write is lost, I2 a batch is whole or absent, I3 a reply is of the snapshot that it
//! names, I5 no mixed spaces. The truth is the log itself, as the store saw each slot first, folded plainly.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use index_svc::{
    record::{Commit, Write},
    state::{BatchEffect, Effect, State},
};
use pagoda_commit_log::{
    Lsn,
    faulty::{Faults, FaultyStore, Gate},
};
use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    index::v1::{self as proto, index_service_server::IndexService as _},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{sleep, timeout};
use tonic::Request;

use crate::harness::{DIM, Index, item, vector};

const SEEDS: u64 = 200;
const SPACES: [&str; 2] = ["00000000000000aa", "00000000000000bb"];
const SET: [&str; 9] = [
    "index.poll_ms=500",
    "checkpoint.commits=7",
    "checkpoint.commits_kept=2",
    "generations.orphan_age_commits=40",
    "compaction.delta_items=6",
    "compaction.delta_share=0",
    "build.item_count_ratio_min=0",
    "build.nice=0",
    "build.threads=1",
];

/// What clients saw.
#[derive(Default)]
struct Journal {
    /// Acknowledged writes: the request's id and the position told.
    acknowledged: Vec<(String, u64)>,
    /// Acknowledged publications and rollbacks: the generation and the position told.
    moved: Vec<(String, u64)>,
    /// What each generation was built from: its space, covered position and item ids.
    built: BTreeMap<String, (usize, u64, BTreeSet<String>)>,
    replies: Vec<Reply>,
}

struct Reply {
    space: usize,
    generation: String,
    lsn: u64,
    ids: BTreeSet<String>,
}

struct Process {
    index: Index,
    gate: Gate,
}

struct World {
    faulty: FaultyStore,
    processes: Vec<Mutex<Process>>,
    journal: Mutex<Journal>,
}

fn storm(rng: &mut ChaCha8Rng) -> Faults {
    let share = |rng: &mut ChaCha8Rng, most: f64| if rng.random_bool(0.5) { rng.random_range(0.0..most) } else { 0.0 };
    Faults {
        unavailable: share(rng, 0.2),
        lost_reply: share(rng, 0.1),
        conflict: share(rng, 0.1),
        late: share(rng, 0.05),
        latency_max: Duration::from_millis(rng.random_range(0..200)),
        clock_skew_max: Duration::from_secs(600),
        ..Faults::default()
    }
}

/// The name of an item says its space, so that a mixed reply shows.
fn name(space: usize, n: u64) -> String {
    format!("{}{n}", ["a", "b"][space])
}

fn model(space: usize) -> Option<ModelVersion> {
    Some(ModelVersion { space_id: SPACES[space].into(), revision: 0 })
}

impl World {
    async fn new(seed: u64) -> Arc<Self> {
        let faulty = FaultyStore::new(seed, Faults::default());
        let mut processes = Vec::new();
        for _ in 0..2 {
            processes.push(Mutex::new(Self::start(&faulty).await));
        }
        Arc::new(Self { faulty, processes, journal: Mutex::default() })
    }

    async fn start(faulty: &FaultyStore) -> Process {
        let (store, gate) = faulty.gated();
        loop {
            if let Ok(index) = Index::try_open(&store, &SET).await {
                return Process { index, gate };
            }
        }
    }

    fn index(&self, n: usize) -> Index {
        self.processes[n % self.processes.len()].lock().unwrap().index.clone()
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    /// Builds from some items and publishes, for better or worse.
    async fn refresh(&self, index: &Index, space: usize, numbers: BTreeSet<u64>) -> bool {
        let items: Vec<_> = numbers.iter().map(|n| item(&name(space, *n), vector(*n))).collect();
        let covers_lsn = index.lsn();
        let current = index.generations().await.into_iter().find(|g| g.is_current && is_of(g, space));
        let header = proto::GenerationHeader { model_version: model(space), covers_lsn, ..index.header(items.len()) };
        let ids = items.iter().map(|item| item.item_id.clone()).collect();
        let Ok(Ok(built)) = timeout(Duration::from_secs(300), index.build(header, items)).await else { return false };
        let id = built.generation_id;
        self.journal().built.insert(id.clone(), (space, covers_lsn, ids));
        let request = proto::PublishGenerationRequest {
            generation_id: id.clone(),
            expected_generation_id: Some(current.map(|g| g.generation_id).unwrap_or_default()),
            ..Default::default()
        };
        let Ok(Ok(lsn)) = timeout(Duration::from_secs(300), index.publish_as(request)).await else { return false };
        self.journal().moved.push((id, lsn));
        true
    }

    async fn client(self: Arc<Self>, number: usize, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed * 100 + number as u64);
        for step in 0..10 {
            let (space, request_id) = (rng.random_range(0..2), format!("{number}-{step}"));
            let numbers: BTreeSet<u64> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..12)).collect();
            match rng.random_range(0..10) {
                0..5 => self.write(&request_id, Some(space), numbers, &mut rng).await,
                5..7 => self.write(&request_id, None, numbers, &mut rng).await,
                7 => drop(self.refresh(&self.index(number), space, numbers).await),
                8 => self.roll_back(number, space).await,
                _ => self.search(number, space).await,
            }
            self.search(number + step, space).await;
        }
    }

    /// Tries until it is acknowledged or the time is up, each time at whichever process, under one request id.
    async fn write(&self, request_id: &str, space: Option<usize>, numbers: BTreeSet<u64>, rng: &mut ChaCha8Rng) {
        for _ in 0..8 {
            let index = self.index(rng.random_range(0..2));
            let written = async {
                match space {
                    Some(space) => {
                        let items = numbers.iter().map(|n| item(&name(space, *n), vector(*n))).collect();
                        let request_id = request_id.to_owned();
                        let request = proto::UpsertRequest {
                            model_version: model(space),
                            items,
                            request_id,
                            ..Default::default()
                        };
                        index.service.upsert(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
                    }
                    None => {
                        let item_ids = numbers.iter().flat_map(|n| [name(0, *n), name(1, *n)]).collect();
                        let request = proto::DeleteRequest { item_ids, request_id: request_id.to_owned() };
                        index.service.delete(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
                    }
                }
            };
            if let Ok(Ok(lsn)) = timeout(Duration::from_secs(60), written).await {
                self.journal().acknowledged.push((request_id.to_owned(), lsn));
                return;
            }
            sleep(Duration::from_millis(rng.random_range(0..500))).await;
        }
    }

    async fn roll_back(&self, number: usize, space: usize) {
        let request = proto::RollbackGenerationRequest { space_id: SPACES[space].into(), ..Default::default() };
        let index = self.index(number);
        let went = timeout(Duration::from_secs(60), index.service.rollback_generation(Request::new(request))).await;
        if let Ok(Ok(reply)) = went {
            let reply = reply.into_inner();
            self.journal().moved.push((reply.generation_id, reply.lsn));
        }
    }

    async fn search(&self, number: usize, space: usize) {
        if let Some(reply) = ask(&self.index(number), space).await {
            self.journal().replies.push(reply);
        }
    }

    /// Kills processes, and stops them for longer than their view of the log is kept.
    async fn trouble(self: Arc<Self>, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed + 7777);
        for _ in 0..3 {
            sleep(Duration::from_secs(rng.random_range(1..60))).await;
            let n = rng.random_range(0..2);
            self.processes[n].lock().unwrap().gate.close();
            if rng.random_bool(0.5) {
                let fresh = Self::start(&self.faulty).await;
                // The old one hangs at the store for ever.
                *self.processes[n].lock().unwrap() = fresh;
            } else {
                sleep(Duration::from_secs(rng.random_range(1..600))).await;
                self.processes[n].lock().unwrap().gate.open();
            }
            self.faulty.set_faults(storm(&mut rng));
        }
    }
}

fn is_of(generation: &proto::GenerationStatus, space: usize) -> bool {
    generation.model_version.as_ref().is_some_and(|model| model.space_id == SPACES[space])
}

async fn ask(index: &Index, space: usize) -> Option<Reply> {
    let request = proto::SearchRequest {
        space_id: SPACES[space].into(),
        embedding: Some(Embedding { values: vector(0) }),
        k: 1000,
        ..Default::default()
    };
    let found = index.service.search(Request::new(request)).await.ok()?.into_inner();
    let ids = found.items.into_iter().map(|item| item.item_id).collect();
    Some(Reply { space, generation: found.generation_id, lsn: found.lsn, ids })
}

/// The log, folded plainly.
struct Truth {
    commits: BTreeMap<u64, (Commit, Effect)>,
}

impl Truth {
    fn of(faulty: &FaultyStore) -> Self {
        let mut state = State::default();
        let slots = faulty.created().into_iter().filter_map(|(path, object)| {
            let lsn: u64 = path.strip_prefix("index/main/log/")?.parse().ok()?;
            // A frame's header, see commit-log.
            Some((lsn, Commit::decode(object.slice(40..)).unwrap()))
        });
        let slots: BTreeMap<u64, Commit> = slots.collect();
        assert!(slots.keys().copied().eq(1..=slots.len() as u64), "a slot is missing");
        let fold = |(lsn, commit): (u64, Commit)| {
            let effect = state.apply(Lsn(lsn), &commit);
            (lsn, (commit, effect))
        };
        Self { commits: slots.into_iter().map(fold).collect() }
    }

    /// The batches that hold, each with its position.
    fn writes(&self, until: u64) -> impl Iterator<Item = (u64, Option<&str>, &Write)> {
        self.commits.range(..=until).flat_map(|(lsn, commit)| {
            let (Commit::Writes(batches), Effect::Writes(effects)) = commit else { return Vec::new() };
            let held = batches.iter().zip(effects).filter(|(_, e)| matches!(e, BatchEffect::Applied(_)));
            held.map(|(b, _)| (*lsn, b.request_id.as_ref().map(|id| id.as_str()), &b.write)).collect()
        })
    }

    /// What is found with a generation at a position.
    fn found(&self, space: usize, covers: u64, base: &BTreeSet<String>, lsn: u64) -> BTreeSet<String> {
        let (mut last, mut deleted) = (BTreeMap::new(), BTreeSet::new());
        for (at, _, write) in self.writes(lsn) {
            match write {
                Write::Upsert { model, items } => {
                    for item in items {
                        deleted.remove(item.id.as_str());
                        if model.space.to_string() == SPACES[space] {
                            last.insert(item.id.as_str(), (at, true));
                        }
                    }
                }
                Write::Delete(ids) => {
                    for id in ids {
                        deleted.insert(id.as_str());
                        last.insert(id.as_str(), (at, false));
                    }
                }
            }
        }
        let since = || last.iter().filter(|(_, (at, _))| *at > covers);
        let mut found: BTreeSet<String> = base.iter().filter(|id| !deleted.contains(id.as_str())).cloned().collect();
        for (id, _) in since() {
            found.remove(*id);
        }
        found.extend(since().filter(|(_, (_, upserted))| *upserted).map(|(id, _)| (*id).to_owned()));
        found
    }
}

async fn simulate(seed: u64) {
    let world = World::new(seed).await;
    for space in 0..2 {
        assert!(world.refresh(&world.index(0), space, (0..6).collect()).await);
    }
    sleep(Duration::from_secs(2)).await;
    world.faulty.set_faults(storm(&mut ChaCha8Rng::seed_from_u64(seed)));
    let trouble = tokio::spawn(world.clone().trouble(seed));
    join_all((0..4).map(|number| world.clone().client(number, seed))).await;
    trouble.await.unwrap();
    world.faulty.set_faults(Faults::default());

    let fresh = Index::open(&world.faulty.honest(), &SET).await;
    settle(&world, &fresh).await;
    let truth = Truth::of(&world.faulty);
    let journal = std::mem::take(&mut *world.journal());
    check_acknowledged(&journal, &truth, seed);
    for reply in &journal.replies {
        check_reply(&journal, &truth, reply, seed);
    }
    check_equal(&world, &fresh, seed).await;
}

/// Waits until all processes are at one position and search what is current there.
async fn settle(world: &World, fresh: &Index) {
    let settled = async {
        loop {
            let (end, all) = (fresh.lsn(), [fresh.clone(), world.index(0), world.index(1)]);
            sleep(Duration::from_secs(5)).await;
            let mut behind = false;
            for index in &all {
                let generations = index.generations().await;
                behind |= index.lsn() != end || generations.iter().any(|g| g.is_current != g.is_served);
            }
            if !behind {
                return;
            }
        }
    };
    timeout(Duration::from_secs(7200), settled).await.expect("all processes reach the end of the log");
}

/// I1, I2: each acknowledged write stands at its position under its id, once.
fn check_acknowledged(journal: &Journal, truth: &Truth, seed: u64) {
    let held: BTreeMap<_, _> = truth.writes(u64::MAX).filter_map(|(lsn, id, _)| Some((id?.to_owned(), lsn))).collect();
    for (id, lsn) in &journal.acknowledged {
        assert_eq!(held.get(id), Some(lsn), "seed {seed}: write {id}");
    }
    for (generation, lsn) in &journal.moved {
        // A repeated publication is told the position of the first one.
        let holds = truth.commits.get(lsn).is_some_and(|(commit, effect)| {
            let moved = match commit {
                Commit::Publish(publication) => publication.generation.as_str() == generation,
                Commit::Rollback(rollback) => rollback.generation.as_str() == generation,
                Commit::Writes(_) => false,
            };
            moved && *effect == Effect::Moved(Ok(()))
        });
        assert!(holds, "seed {seed}: {generation} at {lsn}");
    }
}

/// I3, I5: a reply is what its generation and position amount to. What a compaction holds is not known to clients; it amounts to the same as the
/// log says of the generation that it was made from.
fn check_reply(journal: &Journal, truth: &Truth, reply: &Reply, seed: u64) {
    let prefix = ["a", "b"][reply.space];
    assert!(reply.ids.iter().all(|id| id.starts_with(prefix)), "seed {seed}: {:?}", reply.ids);
    let mut generation = reply.generation.clone();
    while !journal.built.contains_key(&generation) {
        generation =
            compacted_from(truth, &generation).unwrap_or_else(|| panic!("seed {seed}: {generation} is unknown"));
    }
    let (space, covers, base) = &journal.built[&generation];
    assert_eq!(*space, reply.space);
    let expected = truth.found(reply.space, *covers, base, reply.lsn);
    assert_eq!(reply.ids, expected, "seed {seed}: {} at {}", reply.generation, reply.lsn);
}

fn compacted_from(truth: &Truth, generation: &str) -> Option<String> {
    truth.commits.values().find_map(|(commit, _)| match commit {
        Commit::Publish(p) if p.generation.as_str() == generation => match &p.expected {
            index_svc::record::Expected::Generation(base) if p.compacted => Some(base.to_string()),
            _ => None,
        },
        _ => None,
    })
}

/// At one position all processes answer the same, one that has just started from a checkpoint among them.
async fn check_equal(world: &World, fresh: &Index, seed: u64) {
    for space in 0..2 {
        let expected = ask(fresh, space).await.unwrap();
        for n in 0..2 {
            let reply = ask(&world.index(n), space).await.unwrap();
            let (one, other) =
                ((&expected.generation, expected.lsn, &expected.ids), (&reply.generation, reply.lsn, &reply.ids));
            assert_eq!(one, other, "seed {seed}: process {n}");
        }
    }
}

#[test]
fn whole_processes_over_a_failing_store_lose_nothing_and_stay_equal() {
    assert_eq!(DIM, 4);
    let seeds = std::env::var("PAGODA_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(simulate(seed));
    }
}
