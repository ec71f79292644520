//! Writers: each has items of its own and makes one write after the other, each until it is acknowledged or whom it asked is dead.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use pagoda_proto::index::v1::{DeleteRequest, SearchRequest, UpsertRequest};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tonic::{Request, Status};

use super::{
    catalog::{self, ITEMS},
    cluster::Target,
    journal::{Held, Write},
    world::World,
};
use crate::{
    harness::DEADLINE,
    index_calls::{Index, SPACE, may_be_tried_again, version},
};

pub(super) const WRITERS: usize = 3;
/// Items of a write.
const BATCH_ITEMS_MAX: usize = 8;
const DELETE_SHARE: f64 = 0.25;
/// So many writes are not tried again when the process that was asked is dead, as by a client that dies with it.
const GIVE_UP_SHARE: f64 = 0.3;
/// So many acknowledged writes are looked for at once, in any process.
const READ_BACK_SHARE: f64 = 0.25;
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);

/// Writes until the round is over.
pub(super) async fn write(world: Arc<World>, number: usize, mut rng: ChaCha8Rng) {
    while !world.is_over() {
        let write = draw(&world, number, &mut rng);
        let acknowledged = send(&world, &write, GIVE_UP_SHARE, &mut rng).await;
        if let Some(lsn) = acknowledged.filter(|_| rng.random_bool(READ_BACK_SHARE)) {
            read_back(&world, &write, lsn, &mut rng).await;
        }
    }
}

/// Every writer's first writes.
pub(super) async fn write_some(world: &World, rng: &mut ChaCha8Rng) {
    for number in 0..WRITERS {
        let write = draw(world, number, rng);
        send_surely(world, &write, rng).await;
    }
}

/// Tries until it is acknowledged.
pub(super) async fn send_surely(world: &World, write: &Write, rng: &mut ChaCha8Rng) {
    send(world, write, 0.0, rng).await.unwrap();
}

fn draw(world: &World, writer: usize, rng: &mut ChaCha8Rng) -> Write {
    let count = rng.random_range(1..=BATCH_ITEMS_MAX);
    let own = |_| rng.random_range(0..ITEMS / WRITERS as u32) * WRITERS as u32 + writer as u32;
    let items: BTreeSet<u32> = (0..count).map(own).collect();
    let items: Vec<u32> = items.into_iter().collect();
    if rng.random_bool(DELETE_SHARE) { Write::Delete(items) } else { world.journal().new_values(&items) }
}

/// Tries under one request id, each time at whichever process is up; the position, or none if it was given up.
async fn send(world: &World, write: &Write, give_up_share: f64, rng: &mut ChaCha8Rng) -> Option<u64> {
    world.journal().intend(write);
    let request_id = format!("{:032x}", rng.random::<u128>());
    let deadline = Instant::now() + DEADLINE;
    let mut asked: Vec<Target> = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "no process took {write:?}");
        if let Some(mut target) = world.cluster.pick(rng) {
            let outcome = call(&mut target.index, write, &request_id).await;
            if let Ok(lsn) = outcome {
                world.journal().acknowledge(write, lsn);
                world.counts.acknowledged.add(1);
                return Some(lsn);
            }
            assert!(outcome.as_ref().is_err_and(may_be_tried_again), "{write:?}: {outcome:?}");
            world.counts.lost_replies.add(1);
            asked.push(target);
        }
        tokio::time::sleep(PAUSE).await;
        // Whoever lives may do it yet, after the next write of the same items.
        if rng.random_bool(give_up_share) && asked.iter().all(|target| world.cluster.is_gone(target)) {
            world.counts.given_up.add(1);
            return None;
        }
    }
}

async fn call(index: &mut Index, write: &Write, request_id: &str) -> Result<u64, Status> {
    let request_id = request_id.to_owned();
    match write {
        Write::Upsert(items) => {
            let items = items.iter().map(|(item, value)| catalog::with(*item, *value)).collect();
            let request = within(
                CALL_TIMEOUT,
                UpsertRequest { model_version: version(), items, request_id, ..Default::default() },
            );
            index.upsert(request).await.map(|reply| reply.into_inner().lsn)
        }
        Write::Delete(items) => {
            let item_ids = items.iter().map(|item| catalog::id(*item)).collect();
            let request = within(CALL_TIMEOUT, DeleteRequest { item_ids, request_id });
            index.delete(request).await.map(|reply| reply.into_inner().lsn)
        }
    }
}

/// What was just acknowledged is seen in any process that says it is as far, or is waited for until it is.
async fn read_back(world: &World, write: &Write, lsn: u64, rng: &mut ChaCha8Rng) {
    let Some(target) = world.cluster.pick(rng) else { return };
    for (item, held) in write.items() {
        let newest = world.journal().items()[item as usize].newest;
        let value = if let Held::Value(value) = held { value } else { newest };
        if let Some(is_there) = look(target.clone(), item, value, lsn).await {
            let expected = held != Held::Absent;
            assert_eq!(is_there, expected, "process {}: item {item} was {held:?} at {lsn}", target.number);
            world.counts.read_back.add(1);
        }
    }
}

/// Whether an item has a value; none where nobody answers.
async fn look(mut target: Target, item: u32, value: u32, min_lsn: u64) -> Option<bool> {
    let request = SearchRequest {
        space_id: SPACE.into(),
        embedding: Some(catalog::embedding_of(item, value)),
        k: 1,
        exact: true,
        min_lsn,
        ..Default::default()
    };
    match target.index.search(within(CALL_TIMEOUT, request)).await {
        Ok(reply) => {
            let reply = reply.into_inner();
            assert!(reply.lsn >= min_lsn, "process {} answers at {}, asked for {min_lsn}", target.number, reply.lsn);
            Some(catalog::shows(&reply.items, item))
        }
        Err(status) => {
            assert!(may_be_tried_again(&status), "a search: {status:?}");
            None
        }
    }
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}
