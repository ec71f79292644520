//! A search ends when its caller waits no longer, and its thread is free again.

#![allow(clippy::unwrap_used)]

mod service;

use std::time::{Duration, Instant};

use index_svc::{grpc::IndexService, search::Searcher};
use pagoda_ann::Parameters;
use pagoda_commit_log::Store;
use pagoda_proto::index::v1 as proto;
use pagoda_server::Deadline;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use service::*;

const DIM: usize = 64;
const ROWS: usize = 20_000;

async fn index() -> IndexService {
    let index = open(&Store::open("memory://").unwrap(), &[]).await;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let item = |n: usize| proto::ItemEmbedding {
        item_id: n.to_string(),
        embedding: vector(direction(&mut rng, DIM)),
        ..Default::default()
    };
    let items: Vec<_> = (0..ROWS).map(item).collect();
    let spec = proto::IndexSpec { kind: proto::IndexKind::Flat.into(), ..Default::default() };
    let header = proto::GenerationHeader { embedding_dim: DIM as u32, spec: Some(spec), ..Default::default() };
    publish(&index, header, &items).await;
    index
}

/// Exact searches that take many times as long as a caller is prepared to wait.
fn long(queries: usize) -> index_svc::search::Query {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    index_svc::search::Query {
        space: SPACE.parse().unwrap(),
        embeddings: vec![direction(&mut rng, DIM); queries],
        is_batch: true,
        k: 100,
        exclude: Vec::new(),
        filter: Default::default(),
        group_by: None,
        parameters: Parameters::default(),
        exact: true,
    }
}

fn searcher(index: &IndexService) -> Searcher {
    Searcher::new(index.current(), &config(&["search.threads=1", "search.live_recall_share=0"]).search)
}

fn in_an_hour() -> Deadline {
    Deadline(Instant::now() + Duration::from_secs(3600))
}

async fn wait_until_free(searcher: &Searcher, within: Duration) {
    let deadline = Instant::now() + within;
    while searcher.free_threads() == 0 {
        assert!(Instant::now() < deadline, "the thread was not freed within {within:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_stops_at_its_deadline() {
    let index = index().await;
    let searcher = searcher(&index);
    let began = Instant::now();
    let refused = searcher.search(long(100_000), Deadline(began + Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(tonic::Status::from(refused).code(), tonic::Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    wait_until_free(&searcher, Duration::from_secs(5)).await;
    assert_eq!(searcher.search(long(1), in_an_hour()).await.unwrap().rankings.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_gone_frees_its_thread() {
    let index = index().await;
    let searcher = searcher(&index);
    for _ in 0..3 {
        let gone = tokio::time::timeout(Duration::from_millis(50), searcher.search(long(100_000), in_an_hour())).await;
        assert!(gone.is_err(), "it would take minutes");
        wait_until_free(&searcher, Duration::from_secs(5)).await;
    }
    // One that waited for the thread in vain has left no trace either.
    let (busy, waiting) = (searcher.search(long(100_000), in_an_hour()), searcher.search(long(1), in_an_hour()));
    let both = async { tokio::join!(biased; busy, waiting) };
    assert!(tokio::time::timeout(Duration::from_millis(50), both).await.is_err());
    wait_until_free(&searcher, Duration::from_secs(5)).await;
    assert_eq!(searcher.search(long(1), in_an_hour()).await.unwrap().rankings.len(), 1);
}
