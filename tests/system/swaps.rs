//! Publications and rollbacks under full load: no call fails, and every answer is of one generation, the one that it names. See docs/reliability.md.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pagoda_proto::index::v1::{ItemEmbedding, ScoredItem, SearchRequest, SearchResponse};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::{
    harness::{DEADLINE, Place, Service},
    index_calls::{Index, SPACE, build, client, embedding, publish, roll_back, status, until_answered},
    soak,
};

/// Connections to each process, each with one call after the other: more than there are processors.
const CONNECTIONS: usize = 4;
const ITEMS: usize = 2000;
const K: usize = 20;
/// A rollback, or the publication of what is built, is done in this time.
const SWAP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long nothing is asked but searches, before each swap, and after it.
const QUIET: Duration = Duration::from_millis(200);
/// Swaps of each kind; of a long run, so many for each of its seconds.
const SWAPS: usize = 3;
const SWAPS_A_SECOND: f64 = 0.1;

#[tokio::test(flavor = "multi_thread")]
async fn rollbacks_and_publications_under_full_load_fail_no_call_and_mix_no_generations() {
    let swaps = soak::seconds().map_or(SWAPS, |seconds| SWAPS.max((seconds as f64 * SWAPS_A_SECOND) as usize));
    let place = Place::new();
    let settings = ["index.poll_ms=50", "build.nice=0", "search.live_recall_share=0", "log.filter=error"];
    let one = Service::start_as(place.command("index-svc"), &place, "one", &settings);
    let mut index = client(&one);
    let mut generations = Generations::default();
    let mut built = generations.build(&mut index, 2 + swaps).await;
    let unpublished = built.split_off(2);
    for generation in built {
        publish(&mut index, &generation).await.unwrap();
    }
    let follower = Service::start_as(place.command("index-svc"), &place, "follower", &settings);
    until_searching(&mut client(&follower)).await;

    let (load, behind) = (Load::start(&one), Load::start(&follower));
    let rollbacks = roll_back_and_publish(&mut index, swaps, &load).await;
    let publications = publish_all(&mut index, &unpublished, &load).await;
    let calls = load.finish(&generations).await;
    behind.finish(&generations).await;
    check_names_what_is_current(&calls, &rollbacks);
    check_names_what_is_current(&calls, &publications);
    println!("rollbacks: {}", report(&calls, &rollbacks));
    println!("publications: {}", report(&calls, &publications));
}

/// What generations hold: every one other items, so that a mixed answer shows.
#[derive(Default)]
struct Generations(HashMap<String, usize>);

/// A search that was answered, and by which generation.
struct Call {
    began: Instant,
    ended: Instant,
    generation: String,
}

/// What searchers have seen.
#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    /// The one answer of each generation.
    answers: HashMap<String, Vec<ScoredItem>>,
}

/// Searches without a pause, until it is finished.
struct Load {
    stop: Arc<AtomicBool>,
    searchers: Vec<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

/// A rollback or publication.
struct Swap {
    /// From here on nothing but searches went on.
    quiet: Instant,
    asked: Instant,
    acknowledged: Instant,
    /// Until here nothing but searches went on again.
    end: Instant,
    generation: String,
}

impl Generations {
    /// Builds so many.
    async fn build(&mut self, index: &mut Index, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for number in 0..count {
            let items: Vec<_> = (0..ITEMS).map(|n| item(&format!("g{number}-{n}"))).collect();
            // A disk that others keep busy may be too slow for it; what is measured comes later.
            let built = until_answered(async || {
                let covers = status(index).await?.lsn;
                build(index, covers, items.clone()).await
            });
            let built = built.await;
            self.0.insert(built.clone(), number);
            all.push(built);
        }
        all
    }

    /// An answer is wholly of the generation that it names: its items, with their scores, best first.
    fn check(&self, generation: &str, items: &[ScoredItem]) {
        let own = format!("g{}-", self.0[generation]);
        let query = embedding("query").values;
        assert_eq!(items.len(), K);
        assert!(items.is_sorted_by(|a, b| a.score >= b.score));
        for item in items {
            assert!(item.item_id.starts_with(&own), "{} is found, of {own}", item.item_id);
            let score: f32 = query.iter().zip(embedding(&item.item_id).values).map(|(q, i)| q * i).sum();
            assert!((item.score - score).abs() < 1e-5, "{item:?} scores {score}");
        }
    }
}

impl Load {
    fn start(service: &Service) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let search = |_| tokio::spawn(search(client(service), Arc::clone(&stop), Arc::clone(&seen)));
        let searchers = (0..CONNECTIONS).map(search).collect();
        Self { stop, searchers, seen }
    }

    /// How many calls were answered so far.
    fn answered(&self) -> usize {
        self.seen.lock().unwrap().calls.len()
    }

    /// Stops, and checks what was answered.
    async fn finish(self, generations: &Generations) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        for searcher in self.searchers {
            searcher.await.unwrap();
        }
        let Seen { calls, answers } = std::mem::take(&mut *self.seen.lock().unwrap());
        answers.iter().for_each(|(generation, items)| generations.check(generation, items));
        calls
    }
}

impl Seen {
    /// Whenever it is asked, a generation answers the same.
    fn note(&mut self, began: Instant, answer: SearchResponse) {
        let SearchResponse { generation_id: generation, items, .. } = answer;
        let known = self.answers.entry(generation.clone()).or_insert_with(|| items.clone());
        assert_eq!(*known, items, "two answers of {generation}");
        self.calls.push(Call { began, ended: Instant::now(), generation });
    }
}

async fn search(mut index: Index, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let query = Some(embedding("query"));
    let request = SearchRequest { space_id: SPACE.into(), embedding: query, k: K as u32, ..Default::default() };
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = index.search(request.clone()).await.expect("no call fails while generations change").into_inner();
        seen.lock().unwrap().note(began, answer);
    }
}

/// By turns, each brings back what the other left.
async fn roll_back_and_publish(index: &mut Index, times: usize, load: &Load) -> Vec<Swap> {
    let newest = status(index).await.unwrap().spaces.remove(0).generation_id;
    let mut swaps = Vec::new();
    for _ in 0..times {
        swaps.push(swap(load, async { roll_back(index).await.unwrap().1 }).await);
        swaps.push(swap(load, published(index, &newest)).await);
    }
    swaps
}

/// Each time another generation, which nobody has loaded yet.
async fn publish_all(index: &mut Index, built: &[String], load: &Load) -> Vec<Swap> {
    let mut swaps = Vec::new();
    for generation in built {
        swaps.push(swap(load, published(index, generation)).await);
    }
    swaps
}

async fn published(index: &mut Index, generation: &str) -> String {
    publish(index, generation).await.unwrap();
    generation.to_owned()
}

/// Makes another generation current, with nothing but searches before and after it.
async fn swap(load: &Load, change: impl Future<Output = String>) -> Swap {
    let quiet = Instant::now();
    tokio::time::sleep(QUIET).await;
    let asked = Instant::now();
    let generation = change.await;
    let acknowledged = Instant::now();
    assert!(acknowledged - asked < SWAP_TIME_MAX, "{:?}", acknowledged - asked);
    let answered = load.answered();
    let until = Instant::now() + QUIET;
    // However busy the machine is, there is an answer afterwards.
    while Instant::now() < until || load.answered() < answered + 2 * CONNECTIONS {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(Instant::now() < until + DEADLINE, "nothing is answered any more");
    }
    Swap { quiet, asked, acknowledged, end: Instant::now(), generation }
}

/// What begins after a swap is acknowledged, and ends before the next is asked for, is answered by its generation.
fn check_names_what_is_current(calls: &[Call], swaps: &[Swap]) {
    for swap in swaps {
        let after: Vec<_> =
            calls.iter().filter(|call| call.began > swap.acknowledged && call.ended < swap.end).collect();
        assert!(!after.is_empty());
        assert!(after.iter().all(|call| call.generation == swap.generation), "an answer of what was before");
    }
}

/// Calls and latencies before the swaps, and from each until a little after it.
fn report(calls: &[Call], swaps: &[Swap]) -> String {
    let p99 = |windows: Vec<(Instant, Instant)>| {
        let within = |call: &&Call| windows.iter().any(|(from, to)| (*from..*to).contains(&call.began));
        let mut latencies: Vec<_> = calls.iter().filter(within).map(|call| call.ended - call.began).collect();
        latencies.sort_unstable();
        let p99 = latencies.get(latencies.len().saturating_sub(1) * 99 / 100);
        p99.map_or(f64::NAN, |p99| p99.as_secs_f64() * 1e3)
    };
    let before = p99(swaps.iter().map(|swap| (swap.quiet, swap.asked)).collect());
    let during = p99(swaps.iter().map(|swap| (swap.asked, swap.end)).collect());
    let slowest = swaps.iter().map(|swap| swap.acknowledged - swap.asked).max().unwrap_or_default();
    format!(
        "{} swaps, the slowest in {:.0} ms, {} calls in all, none failed; p99 {before:.1} ms before, {during:.1} ms during: {:.2} times",
        swaps.len(),
        slowest.as_secs_f64() * 1e3,
        calls.len(),
        during / before
    )
}

async fn until_searching(index: &mut Index) {
    let searching = async || {
        let is_there = !status(index).await?.spaces.is_empty();
        if is_there { Ok(()) } else { Err(Status::unavailable("no space yet")) }
    };
    until_answered(searching).await;
}

fn item(id: &str) -> ItemEmbedding {
    ItemEmbedding { item_id: id.to_owned(), embedding: Some(embedding(id)), ..Default::default() }
}
