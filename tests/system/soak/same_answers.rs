//! At the end: one fixed set of queries is answered the same after a restart, a rollback and back, an upgrade, and compaction.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use super::{
    answers,
    catalog::ITEMS,
    checks,
    cluster::{COMPACTION_DELTA_ITEMS, PROCESSES},
    importer,
    world::World,
    writer,
};
use crate::{harness::DEADLINE, index_calls};

/// Items that are fresh beside each of the two generations: fewer than a compaction is due for.
const FRESH: u32 = 60;
/// Items of a write.
const BATCH_ITEMS: usize = 20;
/// A compaction that has not come by then came too late for what was written meanwhile, and wants more writes.
const COMPACTION_TIME: Duration = Duration::from_secs(3);

/// Asks before and after each of them.
pub(super) async fn check(world: &World) {
    let mut rng = world.rng("same answers", 0, 0);
    let (former, newest) = two_generations(world, &mut rng).await;
    let before = answers::of_all(world, &newest).await;
    assert_ne!(before.exact, before.narrow, "approximate search approximates nothing");

    restart_all(world);
    assert_eq!(answers::of_all(world, &newest).await, before, "after a restart");

    let target = &mut world.cluster.pick(&mut rng).unwrap();
    assert_eq!(importer::roll_back(world, target).await.unwrap(), former);
    assert_eq!(answers::of_all(world, &former).await.exact, before.exact, "after a rollback");
    let lsn = index_calls::publish(&mut target.index, &newest).await.unwrap();
    world.journal().reached(lsn);
    assert_eq!(answers::of_all(world, &newest).await, before, "after a rollback and a publication");

    for number in 0..PROCESSES {
        world.cluster.upgrade(number);
        restart(world, number);
        assert_eq!(answers::of_all(world, &newest).await, before, "after an upgrade of {} processes", number + 1);
    }
    let compacted = compaction(world, &newest, &mut rng).await;
    assert_eq!(answers::of_all(world, &compacted).await.exact, before.exact, "after compaction");
    checks::everything_acknowledged_is_everywhere(world).await;
}

/// Publishes a generation, then another, with writes after each, so that both have fresh items beside them; nothing is uncertain any more.
async fn two_generations(world: &World, rng: &mut ChaCha8Rng) -> (String, String) {
    let uncertain = world.journal().uncertain();
    write_new_values(world, &uncertain, rng).await;
    let former = import_all(world, rng).await;
    write_new_values(world, &(0..FRESH).collect::<Vec<_>>(), rng).await;
    let newest = import_all(world, rng).await;
    write_new_values(world, &(ITEMS - FRESH..ITEMS).collect::<Vec<_>>(), rng).await;
    (former, newest)
}

/// A generation that covers every write, wherever it is built.
async fn import_all(world: &World, rng: &mut ChaCha8Rng) -> String {
    checks::until_everywhere(world).await;
    importer::import_surely(world, rng).await
}

async fn write_new_values(world: &World, items: &[u32], rng: &mut ChaCha8Rng) {
    for items in items.chunks(BATCH_ITEMS) {
        let write = world.journal().new_values(items);
        writer::send_surely(world, &write, rng).await;
    }
}

/// Writes every item again as it is, until the generation has been compacted and no further compaction is due; what it was compacted to. Checkpoints are
/// written meanwhile.
async fn compaction(world: &World, newest: &str, rng: &mut ChaCha8Rng) -> String {
    let checkpoints = world.cluster.log_lines("wrote a checkpoint");
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        for write in importer::unchanged(world, BATCH_ITEMS) {
            writer::send_surely(world, &write, rng).await;
        }
        let patience = Instant::now() + COMPACTION_TIME;
        while Instant::now() < patience {
            let settled = settled(world).await.filter(|generation| generation != newest);
            if let Some(generation) = settled.filter(|_| world.cluster.log_lines("wrote a checkpoint") > checkpoints) {
                return generation;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    panic!("nothing was compacted");
}

/// The generation that all processes search, if it is one and none of them is about to compact it.
async fn settled(world: &World) -> Option<String> {
    let head = world.journal().head();
    let mut found: Option<String> = None;
    for target in world.cluster.targets() {
        let space = checks::until_at(&target, head).await.spaces.remove(0);
        let is_other = found.as_ref().is_some_and(|generation| *generation != space.generation_id);
        if is_other || space.delta_count >= COMPACTION_DELTA_ITEMS {
            return None;
        }
        found = Some(space.generation_id);
    }
    found
}

fn restart_all(world: &World) {
    (0..PROCESSES).for_each(|number| world.cluster.stop(number));
    (0..PROCESSES).for_each(|number| world.cluster.start_one(number, None));
    world.counts.starts.add(PROCESSES);
}

fn restart(world: &World, number: usize) {
    world.cluster.stop(number);
    world.cluster.start_one(number, None);
    world.counts.starts.add(1);
}
