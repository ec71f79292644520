//! Whoever kills a process and starts it again, sometimes so that it ends at a fail point.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::world::World;

/// Places in index-svc at which it can end, and at which time it may at the latest. A build without them lives on, and is killed like any other.
const FAIL_POINTS: [(&str, u32); 11] = [
    ("before_writes", 20),
    ("writes_appended", 20),
    ("before_publication", 1),
    ("publication_appended", 1),
    ("published", 1),
    ("generation_built", 1),
    ("generation_object_stored", 6),
    ("generation_stored", 1),
    ("generation_object_read", 12),
    ("cache_file_written", 6),
    ("compaction_built", 1),
];
const ARMED_SHARE: f64 = 0.5;
const LIFE_MS: std::ops::Range<u64> = 100..2500;
const DOWN_MS_MAX: u64 = 300;
const LOOK: Duration = Duration::from_millis(10);

/// Until the round is over; then the process is up, and will stay so.
pub(super) async fn kill_now_and_then(world: Arc<World>, number: usize, mut rng: ChaCha8Rng) {
    loop {
        let life = Duration::from_millis(rng.random_range(LIFE_MS));
        match lived(&world, number, life).await {
            Lived::ToAFailPoint => world.counts.fail_points.add(1),
            Lived::ToTheEnd if !world.cluster.is_armed(number) => return,
            _ => {
                world.cluster.kill(number);
                world.counts.kills.add(1);
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..DOWN_MS_MAX))).await;
        let armed = !world.is_over() && rng.random_bool(ARMED_SHARE);
        let fail_point = armed.then(|| draw(&mut rng));
        world.cluster.start_one(number, fail_point.as_deref());
        world.counts.starts.add(1);
    }
}

enum Lived {
    ItsTime,
    ToAFailPoint,
    /// Of the round.
    ToTheEnd,
}

async fn lived(world: &World, number: usize, life: Duration) -> Lived {
    let began = Instant::now();
    while began.elapsed() < life {
        tokio::time::sleep(LOOK).await;
        if world.cluster.has_ended(number) {
            return Lived::ToAFailPoint;
        }
        if world.is_over() {
            return Lived::ToTheEnd;
        }
    }
    Lived::ItsTime
}

fn draw(rng: &mut ChaCha8Rng) -> String {
    let (name, times) = FAIL_POINTS.choose(rng).unwrap();
    match rng.random_range(0..*times) {
        0 => format!("{name}=return"),
        passed => format!("{name}={passed}*off->return"),
    }
}
