//! The importer: builds the whole catalog into a generation and publishes it, or goes back to the one before.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tonic::Status;

use super::{
    catalog::{self, ITEMS},
    cluster::Target,
    journal::Write,
    world::World,
};
use crate::index_calls::{self, may_be_tried_again};

const ROLLBACK_SHARE: f64 = 0.3;
const PAUSE_MS_MAX: u64 = 800;
/// Of all items so many are there from the beginning.
const FIRST_SHARE: f64 = 0.8;

/// Until the round is over. Whoever is asked may be killed meanwhile: then it was for nothing, or came about without a word.
pub(super) async fn import_now_and_then(world: Arc<World>, mut rng: ChaCha8Rng) {
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..PAUSE_MS_MAX))).await;
        let Some(mut target) = world.cluster.pick(&mut rng) else { continue };
        let outcome = if rng.random_bool(ROLLBACK_SHARE) {
            roll_back(&world, &mut target).await
        } else {
            import(&world, &mut target).await
        };
        if let Err(status) = outcome {
            assert!(may_be_tried_again(&status), "an import or rollback: {status:?}");
        }
    }
}

/// The first generation of all.
pub(super) async fn import_first(world: &World, rng: &mut ChaCha8Rng) {
    let first: Vec<u32> = (0..ITEMS).filter(|_| rng.random_bool(FIRST_SHARE)).collect();
    let write = world.journal().new_values(&first);
    world.journal().intend(&write);
    import_surely(world, rng).await;
    // It is there by way of the catalog, as if it had been written.
    let head = world.journal().head();
    world.journal().acknowledge(&write, head);
}

/// Tries until a generation is published; which it is.
pub(super) async fn import_surely(world: &World, rng: &mut ChaCha8Rng) -> String {
    for _ in 0..100 {
        let Some(mut target) = world.cluster.pick(rng) else { continue };
        match import(world, &mut target).await {
            Ok(generation) => return generation,
            Err(status) => assert!(may_be_tried_again(&status), "an import: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing can be imported");
}

/// The position is noted first and the catalog read then: what is written in between is in both.
async fn import(world: &World, target: &mut Target) -> Result<String, Status> {
    let covers = index_calls::status(&mut target.index).await?.lsn;
    let items = world.journal().catalog().into_iter().map(|(item, value)| catalog::with(item, value)).collect();
    let generation = index_calls::build(&mut target.index, covers, items).await?;
    let lsn = index_calls::publish(&mut target.index, &generation).await?;
    world.journal().reached(lsn);
    world.counts.generations.add(1);
    Ok(generation)
}

/// Makes the generation before the current one current again; which it is.
pub(super) async fn roll_back(world: &World, target: &mut Target) -> Result<String, Status> {
    let (lsn, generation) = index_calls::roll_back(&mut target.index).await?;
    world.journal().reached(lsn);
    world.counts.rollbacks.add(1);
    Ok(generation)
}

/// All items that are there, written again as they are.
pub(super) fn unchanged(world: &World, batch_items: usize) -> Vec<Write> {
    world.journal().catalog().chunks(batch_items).map(|items| Write::Upsert(items.to_vec())).collect()
}
