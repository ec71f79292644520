//! What is lost of live queries is a metric. A test binary of its own, because a process has one recorder of metrics.

#![allow(clippy::unwrap_used)]

mod service;

use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use pagoda_commit_log::Store;
use pagoda_proto::index::v1::{self as proto, AttributeKind};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use service::*;

const DIM: usize = 16;
const ROWS: usize = 4000;

/// The sum and the number of a kind of loss so far.
fn losses(metrics: &PrometheusHandle, kind: &str) -> (f64, u64) {
    let rendered = metrics.render();
    let value = |what: &str| {
        let name = format!("index_live_recall_loss_{what}{{kind=\"{kind}\"}}");
        rendered.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    (value("sum"), value("count") as u64)
}

/// Waits until so many queries were checked; of a query's losses the staleness is recorded last.
async fn checked(metrics: &PrometheusHandle, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, found) = losses(metrics, "staleness");
        if found >= count {
            return;
        }
        assert!(Instant::now() < deadline, "{found} of {count} were checked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn items(rng: &mut ChaCha8Rng) -> Vec<proto::ItemEmbedding> {
    let item = |n: usize| proto::ItemEmbedding {
        item_id: n.to_string(),
        embedding: vector(direction(rng, DIM)),
        attributes: vec![attribute("n", Some(proto::attribute::Value::Integer(n as i64)))],
    };
    (0..ROWS).map(item).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_careless_search_shows_in_the_metric_of_its_kind() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let index =
        open(&Store::open("memory://").unwrap(), &["search.live_recall_share=1", "search.live_recall_core_share=1"])
            .await;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let spec = proto::IndexSpec { kind: proto::IndexKind::IvfFlat.into(), nlist: 64, ..Default::default() };
    let header = proto::GenerationHeader {
        embedding_dim: DIM as u32,
        attributes: declare(&[("n", AttributeKind::Integer)]),
        spec: Some(spec),
        ..Default::default()
    };
    publish(&index, header, &items(&mut rng)).await;
    let query = |rng: &mut ChaCha8Rng, nprobe| proto::SearchRequest {
        embedding: vector(direction(rng, DIM)),
        k: 50,
        parameters: Some(proto::SearchParameters { nprobe, ef_search: 0 }),
        ..Default::default()
    };
    // All cells are visited: nothing is lost.
    for checked_before in 0..5 {
        search(&index, query(&mut rng, 64)).await.unwrap();
        checked(&metrics, checked_before + 1).await;
    }
    assert_eq!(losses(&metrics, "approximation"), (0.0, 5));
    // One of 64 cells is visited.
    for checked_before in 5..15 {
        search(&index, query(&mut rng, 1)).await.unwrap();
        checked(&metrics, checked_before + 1).await;
    }
    let (sum, _) = losses(&metrics, "approximation");
    assert!(sum / 10.0 > 0.3, "mean loss of the careless {}", sum / 10.0);
    assert_eq!(losses(&metrics, "filter"), (0.0, 15), "nothing was filtered");
    assert_eq!(losses(&metrics, "staleness"), (0.0, 15), "nothing was written");
    // So narrow a filter is searched exactly, and wins back what approximation loses.
    let narrow = proto::SearchRequest { filter: all(vec![("n", within(0, 60))]), ..query(&mut rng, 1) };
    search(&index, narrow).await.unwrap();
    checked(&metrics, 16).await;
    assert!(losses(&metrics, "filter_gain").0 > 0.3, "{:?}", losses(&metrics, "filter_gain"));
    assert_eq!(losses(&metrics, "filter"), (0.0, 16), "a sum never falls");
}
