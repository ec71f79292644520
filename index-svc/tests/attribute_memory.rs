//! What attributes take in memory is counted as it is. A test binary of its own, because memory is the process's.

#![allow(clippy::unwrap_used)]

mod service;

use std::sync::Arc;

use index_svc::{
    attributes::{AttributeIndex, AttributeKind, Columns},
    item::Value,
};
use pagoda_commit_log::Store;
use pagoda_proto::index::v1 as proto;

use service::*;

const ROWS: u32 = 100_000;

/// Memory of this process, in bytes.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

/// Of each row a title of its own, one of eight genres, and a year.
fn attributes() -> AttributeIndex {
    let names: [Arc<str>; 3] = ["title", "genre", "year"].map(Into::into);
    let kinds = [AttributeKind::Text, AttributeKind::Text, AttributeKind::Integer];
    let mut columns = Columns::new(&names.iter().cloned().zip(kinds).collect());
    for n in 0..ROWS {
        let texts = |text: String| Value::Texts(vec![text.into()]);
        let values =
            [texts(format!("title {n}")), texts(format!("genre {}", n % 8)), Value::Integer((n % 10_000).into())];
        columns.push(&names.iter().cloned().zip(values).collect());
    }
    AttributeIndex::new(columns)
}

#[test]
fn attributes_count_as_what_they_take() {
    const TIMES: usize = 4;
    // What making them takes for a while is there from the first on.
    let (first, before) = (attributes(), resident());
    let more: Vec<_> = (0..TIMES).map(|_| attributes()).collect();
    let (taken, counted) = ((resident() - before) / TIMES as f64, first.memory_bytes() as f64);
    assert_eq!(more[0].memory_bytes(), first.memory_bytes());
    assert!((0.75..1.25).contains(&(counted / taken)), "{counted} bytes were counted, {taken} taken");
    // A title takes its text, a hash and its row, and no bitmap, of some 200 bytes.
    assert!(counted < 150.0 * f64::from(ROWS), "{counted}");
}

#[tokio::test]
async fn a_generation_says_what_its_attributes_take() {
    let store = Store::open("memory://").unwrap();
    let item = |n: u32| proto::ItemEmbedding {
        item_id: n.to_string(),
        embedding: vector(unit(&[1.0, n as f32])),
        attributes: vec![attribute("title", texts(&[&format!("title {n}")]))],
    };
    let attributes = declare(&[("title", proto::AttributeKind::Text)]);
    let header = proto::GenerationHeader { embedding_dim: 2, attributes, ..Default::default() };
    let set = ["build.mean_cosine_max=1"];
    publish(&open(&store, &set).await, header, &(0..3000).map(item).collect::<Vec<_>>()).await;
    let snapshot = open(&store, &set).await.current().load_full();
    let generation = snapshot.spaces[0].generation();
    let taken = generation.shards[0].attributes.memory_bytes() as u64;
    assert!(taken > 3000 * 60, "{taken}");
    assert_eq!(generation.manifest.attribute_bytes, [taken]);
}
