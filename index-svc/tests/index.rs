//! The index as a caller sees it, in process: its answers equal a naive model's under any history, and outlive restarts.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use futures::stream;
use index_svc::{app, config::Config, grpc::IndexService};
use pagoda_commit_log::Store;
use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    index::v1::{self as proto, build_generation_request::Message, index_service_server::IndexService as _},
};
use pagoda_server::{config as settings, status};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Code, Request, Status};

const SPACES: [&str; 3] = ["00000000000000aa", "00000000000000bb", "00000000000000cc"];
const DIM: usize = 4;

fn config() -> Config {
    // Few commits between checkpoints, so that restarts begin with one; generations of a few items come and go.
    let set = ["index.poll_ms=10", "checkpoint.commits=5", "checkpoint.commits_kept=2", "build.item_count_ratio_min=0"];
    let args = pagoda_server::ServerArgs { set: set.map(Into::into).into(), ..Default::default() };
    settings::load(&args).unwrap()
}

async fn open(store: &Store) -> IndexService {
    app::build_on(store.clone(), config()).await.unwrap()
}

fn model(space: usize) -> ModelVersion {
    ModelVersion { space_id: SPACES[space].into(), revision: 0 }
}

/// One of few directions, so that scores tie.
fn embedding(seed: u8, dim: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let values: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

fn wire(values: Vec<f32>) -> Option<Embedding> {
    Some(Embedding { values })
}

fn item(id: &str, values: Vec<f32>) -> proto::ItemEmbedding {
    proto::ItemEmbedding { item_id: id.into(), embedding: wire(values), ..Default::default() }
}

async fn upsert(index: &IndexService, space: usize, items: Vec<proto::ItemEmbedding>) -> Result<u64, Status> {
    let request = proto::UpsertRequest { model_version: Some(model(space)), items, ..Default::default() };
    index.upsert(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
}

async fn delete(index: &IndexService, ids: &[&str]) -> Result<u64, Status> {
    let item_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    index
        .delete(Request::new(proto::DeleteRequest { item_ids, ..Default::default() }))
        .await
        .map(|reply| reply.into_inner().lsn)
}

async fn publish(index: &IndexService, id: &str) -> Result<u64, Status> {
    let request = proto::PublishGenerationRequest { generation_id: id.into(), ..Default::default() };
    index.publish_generation(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
}

fn header(space: usize, item_count: usize, covers_lsn: u64, dim: usize) -> proto::GenerationHeader {
    proto::GenerationHeader {
        model_version: Some(model(space)),
        embedding_dim: dim as u32,
        item_count: item_count as u64,
        covers_lsn,
        ..Default::default()
    }
}

async fn build(
    index: &IndexService,
    header: proto::GenerationHeader,
    items: Vec<proto::ItemEmbedding>,
) -> Result<proto::BuildGenerationResponse, Status> {
    let batches = items.chunks(1000).map(|items| Message::Batch(proto::ItemBatch { items: items.to_vec() }));
    let messages: Vec<_> = [Message::Header(header)].into_iter().chain(batches).collect();
    let messages = messages.into_iter().map(|message| Ok(proto::BuildGenerationRequest { message: Some(message) }));
    index.build(stream::iter(messages)).await
}

async fn search(
    index: &IndexService,
    space: usize,
    query: proto::SearchRequest,
) -> Result<proto::SearchResponse, Status> {
    let request = proto::SearchRequest { space_id: SPACES[space].into(), ..query };
    index.search(Request::new(request)).await.map(tonic::Response::into_inner)
}

async fn index_status(index: &IndexService) -> proto::GetIndexStatusResponse {
    index.get_index_status(Request::new(proto::GetIndexStatusRequest {})).await.unwrap().into_inner()
}

/// An index that holds `a`, `b` and `c` in the first space.
async fn small(store: &Store) -> IndexService {
    let index = open(store).await;
    let items = ["a", "b", "c"].iter().zip(0..).map(|(id, seed)| item(id, embedding(seed, DIM))).collect();
    let built = build(&index, header(0, 3, 0, DIM), items).await.unwrap();
    publish(&index, &built.generation_id).await.unwrap();
    index
}

fn any_query(k: u32) -> proto::SearchRequest {
    proto::SearchRequest { embedding: wire(embedding(0, DIM)), k, ..Default::default() }
}

async fn ids(index: &IndexService) -> Vec<String> {
    let mut ids: Vec<_> =
        search(index, 0, any_query(100)).await.unwrap().items.into_iter().map(|i| i.item_id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn writes_are_visible_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = || Store::open(dir.path().to_str().unwrap()).unwrap();
    let index = small(&store()).await;
    upsert(&index, 0, vec![item("d", embedding(4, DIM)), item("a", embedding(5, DIM))]).await.unwrap();
    let lsn = delete(&index, &["b", "never there"]).await.unwrap();
    assert_eq!(ids(&index).await, ["a", "c", "d"]);
    // Not shut down in any way: what was acknowledged is in the store.
    let again = open(&store()).await;
    assert_eq!(ids(&again).await, ["a", "c", "d"]);
    let (before, after) = (index_status(&index).await, index_status(&again).await);
    assert_eq!((after.lsn, after.tombstone_count), (lsn, 2));
    assert_eq!(before, after);
    let space = &after.spaces[0];
    assert_eq!((space.base_count, space.delta_count, space.embedding_dim), (1, 2, DIM as u32));
}

#[tokio::test]
async fn a_deleted_item_stays_deleted_across_a_rebuild_that_holds_it() {
    let store = Store::open("memory://").unwrap();
    let index = small(&store).await;
    let lsn = delete(&index, &["b"]).await.unwrap();
    let items = ["a", "b"].map(|id| item(id, embedding(1, DIM))).to_vec();
    let built = build(&index, header(0, 2, lsn, DIM), items).await.unwrap();
    publish(&index, &built.generation_id).await.unwrap();
    assert_eq!(ids(&index).await, ["a"]);
    assert_eq!(ids(&open(&store).await).await, ["a"]);
    upsert(&index, 0, vec![item("b", embedding(1, DIM))]).await.unwrap();
    assert_eq!(ids(&index).await, ["a", "b"]);
}

#[tokio::test]
async fn an_upsert_of_what_was_deleted_up_to_a_position_leaves_everything_else_as_it_is() {
    let index = small(&Store::open("memory://").unwrap()).await;
    let until = delete(&index, &["a", "b"]).await.unwrap();
    delete(&index, &["c"]).await.unwrap();
    let revive = async |ids: &[&str], request_id: &str| {
        let items = ids.iter().map(|id| item(id, embedding(9, DIM))).collect();
        let deleted_until_lsn = Some(until);
        let request_id = request_id.to_owned();
        let request = proto::UpsertRequest { model_version: Some(model(0)), items, request_id, deleted_until_lsn };
        index.upsert(Request::new(request)).await.unwrap().into_inner().lsn
    };
    assert_eq!(revive(&["c", "new"], "").await, 0, "deleted later; never there");
    let lsn = revive(&["a", "c"], "again").await;
    assert_eq!((ids(&index).await, lsn), (vec!["a".to_owned()], until + 2));
    assert_eq!(revive(&["a", "c"], "again").await, lsn, "a retry");
    upsert(&index, 0, vec![item("b", embedding(1, DIM))]).await.unwrap();
    assert_eq!(revive(&["a", "b"], "").await, 0, "both live");
    let query = proto::SearchRequest { embedding: wire(embedding(1, DIM)), k: 1, ..Default::default() };
    assert!(search(&index, 0, query).await.unwrap().items[0].score > 0.999, "b is what was upserted last");
}

#[tokio::test]
async fn writes_after_the_covered_position_are_laid_over_a_generation() {
    let store = Store::open("memory://").unwrap();
    let index = small(&store).await;
    let covered = upsert(&index, 0, vec![item("old", embedding(1, DIM))]).await.unwrap();
    upsert(&index, 0, vec![item("new", embedding(1, DIM))]).await.unwrap();
    delete(&index, &["a"]).await.unwrap();
    let items = ["a", "z"].map(|id| item(id, embedding(2, DIM))).to_vec();
    let built = build(&index, header(0, 2, covered, DIM), items).await.unwrap();
    publish(&index, &built.generation_id).await.unwrap();
    assert_eq!(ids(&index).await, ["new", "z"]);
    assert_eq!(ids(&open(&store).await).await, ["new", "z"]);
}

#[tokio::test]
async fn publishing_again_is_idempotent_and_an_older_generation_can_come_back() {
    let index = small(&Store::open("memory://").unwrap()).await;
    let first = index_status(&index).await;
    upsert(&index, 0, vec![item("d", embedding(4, DIM))]).await.unwrap();
    assert_eq!(publish(&index, &first.spaces[0].generation_id).await.unwrap(), first.spaces[0].published_lsn);
    let covers_all = header(0, 1, index_status(&index).await.lsn, DIM);
    let second = build(&index, covers_all, vec![item("x", embedding(1, DIM))]).await.unwrap();
    publish(&index, &second.generation_id).await.unwrap();
    assert_eq!(ids(&index).await, ["x"]);
    publish(&index, &first.spaces[0].generation_id).await.unwrap();
    assert_eq!(ids(&index).await, ["a", "b", "c", "d"]);
    let missing = publish(&index, "00000000000000aa-0-0000000000000000").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn the_two_newest_spaces_are_held_and_others_refused_by_name() {
    let index = small(&Store::open("memory://").unwrap()).await;
    for space in [1, 2] {
        let built = build(&index, header(space, 1, 0, DIM), vec![item("x", embedding(1, DIM))]).await.unwrap();
        publish(&index, &built.generation_id).await.unwrap();
    }
    for refused in [
        search(&index, 0, any_query(1)).await.unwrap_err(),
        upsert(&index, 0, vec![item("x", embedding(1, DIM))]).await.unwrap_err(),
    ] {
        let (reason, metadata) = status::reason_of(&refused).unwrap();
        assert_eq!((refused.code(), reason.as_str()), (Code::FailedPrecondition, "SPACE_NOT_HELD"));
        assert_eq!(metadata["spaces_held"], format!("{},{}", SPACES[2], SPACES[1]));
    }
    assert_eq!(search(&index, 1, any_query(1)).await.unwrap().items[0].item_id, "x");
}

#[tokio::test]
async fn bad_input_names_its_fields_and_changes_nothing() {
    let index = small(&Store::open("memory://").unwrap()).await;
    let before = index_status(&index).await;
    let paths = |refused: Status| -> Vec<String> {
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        status::violations_of(&refused).into_iter().map(|v| v.path).collect()
    };
    let wrong_dim = search(&index, 0, proto::SearchRequest { embedding: wire(vec![1.0]), ..any_query(1) });
    assert_eq!(paths(wrong_dim.await.unwrap_err()), ["embedding.values"]);
    assert_eq!(paths(search(&index, 0, any_query(0)).await.unwrap_err()), ["k"]);
    let nan = vec![item("x", embedding(1, DIM)), item("y", vec![0.0, f32::NAN, 0.0, 1.0])];
    assert_eq!(paths(upsert(&index, 0, nan).await.unwrap_err()), ["items[1].embedding.values[1]"]);
    let wrong = vec![item("x", embedding(1, DIM)), item("y", vec![1.0])];
    assert_eq!(paths(upsert(&index, 0, wrong).await.unwrap_err()), ["items[1].embedding.values"]);
    assert_eq!(index_status(&index).await, before);
}

#[tokio::test]
async fn gates_refuse_with_numbers() {
    let store = Store::open("memory://").unwrap();
    let index = small(&store).await;
    let one = || vec![item("x", embedding(1, DIM))];
    let gate = |refused: Status| {
        let (reason, metadata) = status::reason_of(&refused).unwrap();
        assert_eq!((refused.code(), reason.as_str()), (Code::FailedPrecondition, "GATE_REFUSED"));
        (metadata["gate"].clone(), metadata["expected"].clone(), metadata["found"].clone())
    };
    let fewer = gate(build(&index, header(0, 2, 0, DIM), one()).await.unwrap_err());
    assert_eq!(fewer, ("item_count".into(), "2".into(), "1".into()));
    let more = gate(build(&index, header(0, 1, 0, DIM), [one(), one()].concat()).await.unwrap_err());
    assert_eq!(more, ("item_count".into(), "1".into(), "at least 2".into()));
    let twice = gate(build(&index, header(0, 2, 0, DIM), [one(), one()].concat()).await.unwrap_err());
    assert_eq!((twice.0.as_str(), twice.2.as_str()), ("unique_ids", "1 duplicates, first `x`"));
    let wider = build(&index, header(0, 1, 0, 2), vec![item("x", embedding(1, 2))]).await.unwrap();
    let wider = gate(publish(&index, &wider.generation_id).await.unwrap_err());
    assert_eq!(wider, ("embedding_dim".into(), "4".into(), "2".into()));
    let stored = store.list("index/main/generations").await.unwrap();
    assert_eq!(stored.len(), 12, "of the two generations that were built: {stored:?}");
}

fn embedding_of(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let values: Vec<f32> = (0..16).map(|_| rng.random_range(-1.0..1.0)).collect();
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approximate_search_is_never_short() {
    let index = open(&Store::open("memory://").unwrap()).await;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let items: Vec<_> = (0..3000).map(|n| item(&format!("i{n:04}"), embedding_of(&mut rng))).collect();
    let spec = proto::IndexSpec { kind: proto::IndexKind::IvfSq8.into(), ..Default::default() };
    let users = (0..50).map(|_| Embedding { values: embedding_of(&mut rng) }).collect();
    let header = proto::GenerationHeader { spec: Some(spec), sample_queries: users, ..header(0, 3000, 0, 16) };
    let built = build(&index, header, items).await.unwrap();
    let report = built.report.unwrap();
    assert!(report.ann_recall_at_100 >= 0.98 && report.measured_with_users, "{report:?}");
    publish(&index, &built.generation_id).await.unwrap();
    let careless = proto::SearchParameters { nprobe: 1, ef_search: 0 };
    let exclude_item_ids: Vec<_> = (0..2000).map(|n| format!("i{n:04}")).collect();
    for (exclude_item_ids, there) in [(vec![], 3000), (exclude_item_ids, 1000)] {
        let query = proto::SearchRequest { parameters: Some(careless), exclude_item_ids, ..any_query(1000) };
        let query = proto::SearchRequest { embedding: wire(embedding_of(&mut rng)), ..query };
        let found = search(&index, 0, query.clone()).await.unwrap();
        assert_eq!((found.items.len(), found.exhausted), (1000, there == 1000));
        assert!(found.items.iter().all(|i| !query.exclude_item_ids.contains(&i.item_id)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_log() {
    let store = Store::open("memory://").unwrap();
    let (one, two) = (small(&store).await, open(&store).await);
    let writes = (0..20).flat_map(|n| [(&one, n), (&two, n + 100)]).map(|(index, n)| async move {
        upsert(index, 0, vec![item(&format!("new{n}"), embedding(n as u8, DIM))]).await.unwrap()
    });
    let mut lsns = futures::future::join_all(writes).await;
    lsns.sort_unstable();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while ids(&one).await.len() != 43 || ids(&two).await.len() != 43 {
        assert!(tokio::time::Instant::now() < deadline, "{} and {}", ids(&one).await.len(), ids(&two).await.len());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(index_status(&one).await.lsn, index_status(&two).await.lsn);
    assert!(index_status(&one).await.lsn >= *lsns.last().unwrap());
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    Upsert {
        space: usize,
        items: BTreeMap<u8, u8>,
    },
    Delete(Vec<u8>),
    /// Builds and publishes; covers what was written up to so many commits ago.
    Publish {
        space: usize,
        items: BTreeMap<u8, u8>,
        ago: u64,
    },
    /// Goes back to the generation before.
    RollBack {
        space: usize,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let items = || prop::collection::btree_map(0u8..20, 0u8..12, 1..8);
    prop_oneof![
        4 => (0..3usize, items()).prop_map(|(space, items)| Step::Upsert { space, items }),
        3 => prop::collection::vec(0u8..20, 1..4).prop_map(Step::Delete),
        2 => (0..3usize, items(), 0..6u64).prop_map(|(space, items, ago)| Step::Publish { space, items, ago }),
        1 => (0..3usize).prop_map(|space| Step::RollBack { space }),
        1 => Just(Step::Restart),
    ]
}

/// An embedding's seed by item; none: deleted.
type Written = BTreeMap<u8, Option<u8>>;

/// What the index should hold, kept as plain maps.
#[derive(Default)]
struct Naive {
    lsn: u64,
    /// The most recently published first.
    spaces: Vec<NaiveSpace>,
    /// Where each space that is no longer held was dropped.
    dropped: BTreeMap<usize, u64>,
    /// Ids whose last write is a delete, and where that was.
    tombstones: BTreeMap<u8, u64>,
}

struct NaiveSpace {
    space: usize,
    /// The current one first.
    generations: Vec<NaiveGeneration>,
    /// The lowest position that a generation published from now on may cover.
    floor: u64,
    /// The last write of each id, of all that were ever written while the space was held.
    last: BTreeMap<u8, (u64, Option<u8>)>,
}

struct NaiveGeneration {
    id: String,
    items: BTreeMap<u8, u8>,
    covers: u64,
    published: u64,
}

impl Naive {
    fn write(&mut self, lsn: u64, of: Option<usize>, items: Written) {
        self.lsn = lsn;
        for (id, seed) in items {
            match seed {
                Some(_) => drop(self.tombstones.remove(&id)),
                None => drop(self.tombstones.insert(id, lsn)),
            }
            for held in self.spaces.iter_mut().filter(|held| of.is_none_or(|of| of == held.space)) {
                held.last.insert(id, (lsn, seed));
            }
        }
    }

    fn held(&self, space: usize) -> Option<&NaiveSpace> {
        self.spaces.iter().find(|held| held.space == space)
    }

    fn floor(&self, space: usize) -> u64 {
        let dropped = self.dropped.get(&space).copied().unwrap_or(0);
        self.held(space).map_or(dropped, |held| held.floor)
    }

    fn publish(&mut self, space: usize, generation: NaiveGeneration) {
        self.lsn = generation.published;
        let at = self.spaces.iter().position(|held| held.space == space);
        let mut held = match at {
            Some(at) => self.spaces.remove(at),
            None => self.fresh(space, generation.covers),
        };
        held.generations.insert(0, generation);
        held.generations.truncate(3);
        held.floor = held.floor.max(held.generations.iter().map(|g| g.covers).min().unwrap());
        self.spaces.insert(0, held);
        for dropped in self.spaces.drain(2.min(self.spaces.len())..) {
            self.dropped.insert(dropped.space, self.lsn);
        }
    }

    fn fresh(&self, space: usize, covers: u64) -> NaiveSpace {
        let deleted = self.tombstones.iter().filter(|(_, lsn)| **lsn > covers);
        let last = deleted.map(|(id, lsn)| (*id, (*lsn, None))).collect();
        NaiveSpace { space, generations: Vec::new(), floor: covers, last }
    }

    /// The generation that a rollback leads to.
    fn previous(&self, space: usize) -> Option<usize> {
        let generations = &self.held(space)?.generations;
        let before = (0..generations.len()).filter(|n| generations[*n].published < generations[0].published);
        before.max_by_key(|n| generations[*n].published)
    }

    fn roll_back(&mut self, lsn: u64, space: usize, to: usize) {
        self.lsn = lsn;
        let held = self.spaces.iter_mut().find(|held| held.space == space).unwrap();
        let target = held.generations.remove(to);
        held.generations.insert(0, target);
    }

    /// What is found in a space: what its generation holds, but for what was deleted or written since; and what was written since.
    fn living(&self, held: &NaiveSpace) -> BTreeMap<u8, u8> {
        let generation = &held.generations[0];
        let since = || held.last.iter().filter(|(_, (lsn, _))| *lsn > generation.covers);
        let mut living = generation.items.clone();
        living.retain(|id, _| !self.tombstones.contains_key(id));
        for (id, _) in since() {
            living.remove(id);
        }
        living.extend(since().filter_map(|(id, (_, seed))| seed.map(|seed| (*id, seed))));
        living
    }

    /// Ids by descending score, ties by id.
    fn search(&self, space: usize, query: &[f32], k: usize, exclude: &[u8]) -> Option<Vec<String>> {
        let living = self.living(self.held(space)?);
        let score = |seed: u8| embedding(seed, DIM).iter().zip(query).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let mut found: Vec<_> = living.iter().filter(|(id, _)| !exclude.contains(id)).collect();
        found.sort_by(|a, b| score(*b.1).total_cmp(&score(*a.1)).then(name(*a.0).cmp(&name(*b.0))));
        Some(found.into_iter().take(k).map(|(id, _)| name(*id)).collect())
    }
}

fn name(id: u8) -> String {
    format!("item{id}")
}

fn wire_items(items: &BTreeMap<u8, u8>) -> Vec<proto::ItemEmbedding> {
    items.iter().map(|(id, seed)| item(&name(*id), embedding(*seed, DIM))).collect()
}

async fn take(step: Step, store: &Store, index: &mut IndexService, naive: &mut Naive) {
    match step {
        Step::Restart => *index = open(store).await,
        Step::Delete(ids) => {
            let names: Vec<_> = ids.iter().map(|id| name(*id)).collect();
            let lsn = delete(index, &names.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
            naive.write(lsn, None, ids.into_iter().map(|id| (id, None)).collect());
        }
        Step::Upsert { space, items } => match upsert(index, space, wire_items(&items)).await {
            Ok(lsn) => naive.write(lsn, Some(space), items.into_iter().map(|(id, seed)| (id, Some(seed))).collect()),
            Err(refused) => {
                assert_eq!(refused.code(), Code::FailedPrecondition);
                assert!(naive.held(space).is_none());
            }
        },
        Step::Publish { space, items, ago } => {
            let covers = naive.lsn.saturating_sub(ago);
            let built = build(index, header(space, items.len(), covers, DIM), wire_items(&items)).await.unwrap();
            match publish(index, &built.generation_id).await {
                Ok(published) => {
                    naive.publish(space, NaiveGeneration { id: built.generation_id, items, covers, published })
                }
                Err(refused) => {
                    assert_eq!(status::reason_of(&refused).unwrap().0, "NOT_PUBLISHABLE", "{refused}");
                    assert!(covers < naive.floor(space), "{refused}");
                }
            }
        }
        Step::RollBack { space } => {
            let request = proto::RollbackGenerationRequest { space_id: SPACES[space].into(), ..Default::default() };
            let went = index.rollback_generation(Request::new(request)).await.map(tonic::Response::into_inner);
            match naive.previous(space) {
                Some(to) => {
                    let went = went.unwrap();
                    assert_eq!(went.generation_id, naive.held(space).unwrap().generations[to].id);
                    naive.roll_back(went.lsn, space, to);
                }
                None => assert_eq!(went.unwrap_err().code(), Code::FailedPrecondition),
            }
        }
    }
}

async fn compare(index: &IndexService, naive: &Naive, seed: u8) -> Result<(), TestCaseError> {
    let query = embedding(seed, DIM);
    for space in 0..3 {
        for (k, exclude, exact) in [(5u32, vec![], false), (1000, vec![3, 4, 5, 99], false), (7, vec![1], true)] {
            let request = proto::SearchRequest {
                embedding: wire(query.clone()),
                k,
                exclude_item_ids: exclude.iter().map(|id| name(*id)).collect(),
                exact,
                ..Default::default()
            };
            let found = search(index, space, request).await.ok();
            let everything = naive.search(space, &query, 1000, &exclude).map(|all| all.len());
            prop_assert_eq!(found.as_ref().map(|f| f.exhausted), everything.map(|n| n <= k as usize));
            prop_assert_eq!(found.as_ref().map(|f| f.lsn), everything.map(|_| naive.lsn));
            let found = found.map(|f| f.items.into_iter().map(|i| i.item_id).collect::<Vec<_>>());
            prop_assert_eq!(found, naive.search(space, &query, k as usize, &exclude));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
    #[test]
    fn answers_equal_a_naive_models_under_any_history(steps in prop::collection::vec(step(), 1..30), seed: u8) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open("memory://").unwrap();
            let (mut index, mut naive) = (open(&store).await, Naive::default());
            for step in steps {
                take(step, &store, &mut index, &mut naive).await;
                compare(&index, &naive, seed).await?;
            }
            compare(&open(&store).await, &naive, seed).await
        })?;
    }
}

#[tokio::test]
async fn a_damaged_generation_is_never_loaded() {
    let store = Store::open("memory://").unwrap();
    let index = small(&store).await;
    let built = build(&index, header(0, 1, 0, DIM), vec![item("x", embedding(1, DIM))]).await.unwrap();
    for name in ["shard-0/faiss.index", "shard-0/ids.bin", "shard-0/vectors.f32", "manifest.json"] {
        let path = format!("index/main/generations/{}/{name}", built.generation_id);
        let whole = store.get(&path).await.unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        store.put(&path, flipped.into()).await.unwrap();
        let refused = publish(&index, &built.generation_id).await.unwrap_err();
        assert!(refused.code() == Code::DataLoss && refused.message().contains(name), "{refused}");
        store.put(&path, whole).await.unwrap();
    }
    assert_eq!(ids(&index).await, ["a", "b", "c"]);
    publish(&index, &built.generation_id).await.unwrap();
}
