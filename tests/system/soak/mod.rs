//! The long run: processes of index-svc on one store are killed and started again while clients write, delete and import; what was acknowledged holds in
//! each of them, and the same questions get the same answers after a restart, a rollback and an upgrade.
//!
//! `make test` runs it for some seconds, `make soak` for as long as `PAGODA_SOAK_SECONDS` says. `PAGODA_SOAK_SEED=s` draws other faults and other writes; what comes
//! of them depends on the timing of real processes, too. `PAGODA_SOAK_UPGRADE_TO=path` replaces the processes by that build of index-svc in the end; without it
//! they are replaced by themselves with other settings.

mod answers;
mod catalog;
mod checks;
mod cluster;
mod importer;
mod journal;
mod killer;
mod same_answers;
mod settings;
mod tally;
mod world;
mod writer;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

pub(crate) use self::settings::seconds;
use self::{cluster::PROCESSES, settings::Settings, world::World, writer::WRITERS};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_holds_under_kills_and_answers_stay_the_same_after_a_restart_a_rollback_and_an_upgrade() {
    let settings = Settings::read();
    println!("{settings}");
    let world = Arc::new(World::start(&settings).await);
    for round in 0..settings.rounds() {
        storm(&world, round, settings.round()).await;
        checks::everything_acknowledged_is_everywhere(&world).await;
        println!("round {} of {}: {}", round + 1, settings.rounds(), world.tally());
    }
    same_answers::check(&world).await;
    let tally = world.tally();
    println!("soak: {tally}");
    tally.assert_eventful();
}

/// Writers, an importer and somebody who kills, for so long; then everybody is up again and nothing is under way.
async fn storm(world: &Arc<World>, round: u64, duration: Duration) {
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    world.begin();
    for number in 0..WRITERS {
        tasks.push(tokio::spawn(writer::write(world.clone(), number, world.rng("writer", number, round))));
    }
    tasks.push(tokio::spawn(importer::import_now_and_then(world.clone(), world.rng("importer", 0, round))));
    for number in 0..PROCESSES {
        tasks.push(tokio::spawn(killer::kill_now_and_then(world.clone(), number, world.rng("killer", number, round))));
    }
    tokio::time::sleep(duration).await;
    world.end();
    for task in tasks {
        task.await.unwrap();
    }
}
