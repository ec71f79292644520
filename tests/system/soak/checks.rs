//! Between the rounds: every process has come to the last acknowledged position and holds what was acknowledged, no more and no less.

use std::{collections::HashMap, time::Duration};

use pagoda_proto::index::v1::{BatchSearchRequest, GetIndexStatusResponse, ScoredItem};
use tonic::{Request, Status};

use super::{
    catalog::{self, Value},
    cluster::Target,
    journal::{Held, Item},
    world::World,
};
use crate::index_calls::{self, SPACE, until_answered};

/// Items that are asked for in one call, each by all of its values: a commit that nobody acknowledged may become visible between two calls.
const ITEMS: usize = 128;
/// Items that are looked at for each query: where one is gone, the next is another's.
const K: u32 = 3;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// An item and a value of its, and what is nearest there.
type Looked = HashMap<(u32, Value), Vec<ScoredItem>>;

/// Looks for every item in every process.
pub(super) async fn everything_acknowledged_is_everywhere(world: &World) {
    let items = world.journal().items().to_vec();
    let head = world.journal().head();
    for target in world.cluster.targets() {
        let looked = look(&target, &items, head).await;
        let wrong = |(number, item): (usize, &Item)| {
            let number = number as u32;
            let is_as_known = item.may_be.iter().any(|held| is(&looked, number, item, *held));
            (!is_as_known).then(|| {
                let (found, history) = (values_of(&looked, number, item), world.journal().history(number));
                format!("item {number}: {item:?}, found {found:?}; acknowledged: {history}")
            })
        };
        let violations: Vec<_> = items.iter().enumerate().filter_map(wrong).collect();
        assert!(violations.is_empty(), "process {} at {head}: {violations:#?}", target.number);
        let status = until_at(&target, head).await;
        check_count(&items, &status);
        world.counts.verified.add(items.len());
    }
}

/// Waits until every process has come to the last acknowledged position.
pub(super) async fn until_everywhere(world: &World) {
    let head = world.journal().head();
    for target in world.cluster.targets() {
        until_at(&target, head).await;
    }
}

pub(super) async fn until_at(target: &Target, head: u64) -> GetIndexStatusResponse {
    let mut index = target.index.clone();
    let reached = async || {
        let status = index_calls::status(&mut index).await?;
        let is_there = status.lsn >= head && !status.spaces.is_empty();
        if is_there { Ok(status) } else { Err(Status::unavailable(format!("at {} of {head}", status.lsn))) }
    };
    until_answered(reached).await
}

/// There are as many items as there should be: nothing is there by another value than those looked for.
fn check_count(items: &[Item], status: &GetIndexStatusResponse) {
    let space = &status.spaces[0];
    let count = (space.base_count + space.delta_count) as usize;
    let surely = items.iter().filter(|item| item.is_there().0).count();
    let perhaps = items.iter().filter(|item| item.is_there().1).count();
    assert!((surely..=perhaps).contains(&count), "{count} items are there, expected {surely} to {perhaps}");
}

/// Asks for every value that any item may have, and for the last one of those that should be gone.
async fn look(target: &Target, items: &[Item], head: u64) -> Looked {
    let numbered: Vec<(u32, &Item)> = (0..).zip(items).collect();
    let mut looked = Looked::new();
    for items in numbered.chunks(ITEMS) {
        let asked = |(number, item): &(u32, &Item)| {
            let number = *number;
            values(item).into_iter().map(move |value| (number, value))
        };
        let some: Vec<(u32, Value)> = items.iter().flat_map(asked).collect();
        let request = BatchSearchRequest {
            space_id: SPACE.into(),
            embeddings: some.iter().map(|(number, value)| catalog::embedding_of(*number, *value)).collect(),
            k: K,
            exact: true,
            min_lsn: head,
            ..Default::default()
        };
        let mut index = target.index.clone();
        let reply = until_answered(async || {
            let mut request = Request::new(request.clone());
            request.set_timeout(CALL_TIMEOUT);
            index.batch_search(request).await.map(tonic::Response::into_inner)
        });
        let reply = reply.await;
        assert!(reply.lsn >= head, "process {} answers at {}, asked for {head}", target.number, reply.lsn);
        looked.extend(some.iter().copied().zip(reply.results.into_iter().map(|result| result.items)));
    }
    looked
}

/// Whether an item is this, by what was looked at.
fn is(looked: &Looked, number: u32, item: &Item, held: Held) -> bool {
    let shown = values_of(looked, number, item);
    match held {
        Held::Value(value) => shown == [value],
        Held::Absent => {
            let names_it = |value: &Value| looked[&(number, *value)].iter().any(|i| i.item_id == catalog::id(number));
            !values(item).iter().any(names_it)
        }
    }
}

/// The values that an item shows, of those that were looked at.
fn values_of(looked: &Looked, number: u32, item: &Item) -> Vec<Value> {
    values(item).into_iter().filter(|value| catalog::shows(&looked[&(number, *value)], number)).collect()
}

/// The values at which an item is looked for: those that it may have, and the newest.
fn values(item: &Item) -> Vec<Value> {
    let may_have = |held: &Held| if let Held::Value(value) = held { Some(*value) } else { None };
    let mut values: Vec<_> = item.may_be.iter().filter_map(may_have).chain([item.newest]).collect();
    values.sort_unstable();
    values.dedup();
    values
}
