//! What a search costs on its way from the index of rows to the reply, what filters cost, and what ids take: CPU time of one process, in turns.
//!
//! `cargo run --release -p index-svc --example search_cost -- [ROWS]`, with `OMP_NUM_THREADS=1`.

#![allow(clippy::unwrap_used)]

#[path = "../tests/service/mod.rs"]
mod service;

use std::{hint::black_box, sync::Arc};

use index_svc::{
    grpc::IndexService,
    ids::IdTable,
    search::{Query, search},
    snapshot::Snapshot,
};
use pagoda_ann::{Mask, Parameters, Stop};
use pagoda_commit_log::Store;
use pagoda_proto::index::v1::{self as proto, AttributeKind};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::time::{ClockId, clock_gettime};

use service::*;

const DIM: usize = 64;
const K: usize = 100;
const ROUNDS: usize = 5;

fn main() {
    let rows = std::env::args().nth(1).map_or(200_000, |rows| rows.parse().unwrap());
    ids();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let index = open(&Store::open("memory://").unwrap(), &["search.live_recall_share=0"]).await;
        let users = fill(&index, rows).await;
        ladder(&index, &users).await;
        filters(&index, &users).await;
    });
}

fn cpu_us() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

fn ids() {
    for prefix in ["", "item-"] {
        let mut ids: Vec<String> = (0..1_000_000).map(|n| format!("{prefix}{n}")).collect();
        ids.sort_unstable();
        let table = IdTable::new(ids.iter().map(String::as_str)).unwrap();
        let began = cpu_us();
        let found = ids.iter().step_by(7).filter(|id| black_box(table.row_of(id)).is_some()).count();
        let ns = (cpu_us() - began) * 1e3 / found as f64;
        println!("ids like `{}`: {:.1} bytes each, {ns:.0} ns a look-up", ids[7], table.memory_bytes() as f64 / 1e6);
    }
}

async fn fill(index: &IndexService, rows: usize) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let centres: Vec<_> = (0..1000).map(|_| direction(&mut rng, DIM)).collect();
    let near = |rng: &mut ChaCha8Rng, spread: f32| {
        let (noise, centre) = (direction(rng, DIM), &centres[rng.random_range(0..centres.len())]);
        unit(&centre.iter().zip(&noise).map(|(c, n)| c + spread * n).collect::<Vec<_>>())
    };
    let items: Vec<_> = (0..rows)
        .map(|n| proto::ItemEmbedding {
            item_id: n.to_string(),
            embedding: vector(near(&mut rng, 0.8)),
            attributes: vec![
                attribute("tag", texts(&[["a", "b"][n % 2], ["c", "d", "e"][n % 3]])),
                attribute("n", Some(proto::attribute::Value::Integer(n as i64))),
            ],
        })
        .collect();
    let users: Vec<_> = (0..400).map(|_| near(&mut rng, 1.0)).collect();
    let header = proto::GenerationHeader {
        embedding_dim: DIM as u32,
        attributes: declare(&[("tag", AttributeKind::Text), ("n", AttributeKind::Integer)]),
        sample_queries: users[200..].iter().map(|user| vector(user.clone()).unwrap()).collect(),
        ..Default::default()
    };
    println!("{:?}", publish(index, header, &items).await);
    users[..200].to_vec()
}

fn query(user: &[f32]) -> Query {
    Query {
        space: SPACE.parse().unwrap(),
        embeddings: vec![user.to_vec()],
        is_batch: false,
        k: K,
        exclude: Vec::new(),
        filter: Default::default(),
        group_by: None,
        parameters: Parameters::default(),
        exact: false,
    }
}

fn raw(snapshot: &Snapshot, user: &[f32]) {
    let shard = snapshot.spaces[0].shards()[0].shard();
    let query = pagoda_ann::Query { vector: user, k: K, mask: Mask::ALL, ..Default::default() };
    black_box(shard.index.as_ref().unwrap().find(&shard.vectors, &shard.tuning, &query).unwrap());
}

async fn ladder(index: &IndexService, users: &[Vec<f32>]) {
    let snapshot: Arc<Snapshot> = index.current().load_full();
    let mut us = [0.0; 3];
    for _ in 0..ROUNDS {
        let began = cpu_us();
        users.iter().for_each(|user| raw(&snapshot, user));
        us[0] += cpu_us() - began;
        let began = cpu_us();
        users.iter().for_each(|user| drop(black_box(search(&snapshot, &query(user), Stop::NEVER).unwrap())));
        us[1] += cpu_us() - began;
        let began = cpu_us();
        for user in users {
            let request = proto::SearchRequest { embedding: vector(user.clone()), k: K as u32, ..Default::default() };
            black_box(service::search(index, request).await.unwrap().encode_to_vec());
        }
        us[2] += cpu_us() - began;
    }
    let each = us.map(|us| us / (ROUNDS * users.len()) as f64);
    let [find, search, rpc] = each;
    println!(
        "ann {find:.0} us, snapshot {search:.0} us, rpc without its transport {rpc:.0} us: {:.2} times",
        rpc / find
    );
}

async fn filters(index: &IndexService, users: &[Vec<f32>]) {
    let rows = index.current().load().spaces[0].base_count() as i64;
    for (name, condition) in [
        ("tag=a (50%)", ("tag", any_of(&[text("a")]))),
        ("n<10%", ("n", within(0, rows / 10))),
        ("n<0.1%", ("n", within(0, rows / 1000))),
    ] {
        let request = |user: &Vec<f32>| proto::SearchRequest {
            embedding: vector(user.clone()),
            k: K as u32,
            filter: all(vec![condition.clone()]),
            ..Default::default()
        };
        let began = cpu_us();
        service::search(index, request(&users[0])).await.unwrap();
        let first = cpu_us() - began;
        let began = cpu_us();
        for user in users {
            service::search(index, request(user)).await.unwrap();
        }
        println!("{name}: first {first:.0} us, then {:.0} us", (cpu_us() - began) / users.len() as f64);
    }
}
