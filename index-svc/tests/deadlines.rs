//! A search ends when its caller waits no longer, and its thread is free again.

#![allow(clippy::unwrap_used)]

mod service;

use std::time::{Duration, Instant};

use index_svc::{filter::GroupLimit, grpc::IndexService, search::Searcher};
use pagoda_ann::Parameters;
use pagoda_commit_log::Store;
use pagoda_proto::index::v1 as proto;
use pagoda_server::Deadline;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use service::*;

const DIM: usize = 64;
const ROWS: usize = 20_000;
/// A scan; cells that are searched by us; a graph that Faiss walks.
const KINDS: [proto::IndexKind; 3] = [proto::IndexKind::Flat, proto::IndexKind::IvfFlat, proto::IndexKind::Hnsw];

async fn index(kind: proto::IndexKind) -> IndexService {
    let index = open(&Store::open("memory://").unwrap(), &[]).await;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let item = |n: usize| proto::ItemEmbedding {
        item_id: n.to_string(),
        embedding: vector(direction(&mut rng, DIM)),
        attributes: vec![attribute("genre", texts(&[&format!("genre {}", n % 20)]))],
    };
    let items: Vec<_> = (0..ROWS).map(item).collect();
    let spec = proto::IndexSpec { kind: kind.into(), nlist: 64, hnsw_m: 8 };
    let attributes = declare(&[("genre", proto::AttributeKind::Text)]);
    // Few, so that little is tuned.
    let sample_queries =
        (0..5).map(|_| pagoda_proto::feature::v1::Embedding { values: direction(&mut rng, DIM) }).collect();
    let embedding_dim = DIM as u32;
    let header =
        proto::GenerationHeader { embedding_dim, spec: Some(spec), attributes, sample_queries, ..Default::default() };
    publish(&index, header, &items).await;
    index
}

/// Searches that take many times as long as a caller is prepared to wait.
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
        parameters: Parameters { nprobe: 4, ef_search: 100 },
        exact: false,
    }
}

/// The same for items of which no two have a genre, of twenty: there are fewer than are wanted.
fn long_in_groups(queries: usize) -> index_svc::search::Query {
    index_svc::search::Query { group_by: Some(GroupLimit { attribute: "genre".into(), max: 1 }), ..long(queries) }
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
    for kind in KINDS {
        let index = index(kind).await;
        let searcher = searcher(&index);
        for query in [long(100_000), long_in_groups(100_000)] {
            let began = Instant::now();
            let refused = searcher.search(query, Deadline(began + Duration::from_millis(50))).await.unwrap_err();
            assert_eq!(tonic::Status::from(refused).code(), tonic::Code::DeadlineExceeded);
            assert!(began.elapsed() < Duration::from_secs(5), "{kind:?} took {:?}", began.elapsed());
            wait_until_free(&searcher, Duration::from_secs(5)).await;
        }
        assert_eq!(searcher.search(long(1), in_an_hour()).await.unwrap().rankings[0].items.len(), 100, "{kind:?}");
        let grouped = searcher.search(long_in_groups(1), in_an_hour()).await.unwrap();
        assert_eq!((grouped.rankings[0].items.len(), grouped.rankings[0].exhausted), (20, true), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_gone_frees_its_thread() {
    let index = index(proto::IndexKind::Flat).await;
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
