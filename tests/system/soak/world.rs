//! [`World`]: the processes, what clients know, and what was counted.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    checks,
    cluster::Cluster,
    importer,
    journal::Journal,
    settings::Settings,
    tally::{Counts, Tally},
    writer,
};

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) counts: Counts,
    journal: Mutex<Journal>,
    seed: u64,
    is_over: AtomicBool,
}

impl World {
    /// Processes that hold a first generation and some writes.
    pub(super) async fn start(settings: &Settings) -> Self {
        let world = Self {
            cluster: Cluster::start(settings.upgrade_to.clone()),
            counts: Counts::default(),
            journal: Mutex::new(Journal::new()),
            seed: settings.seed,
            is_over: AtomicBool::new(false),
        };
        let mut rng = world.rng("start", 0, 0);
        importer::import_first(&world, &mut rng).await;
        checks::until_everywhere(&world).await;
        writer::write_some(&world, &mut rng).await;
        world
    }

    /// The numbers of somebody in a round.
    pub(super) fn rng(&self, who: &str, number: usize, round: u64) -> ChaCha8Rng {
        let name = who.bytes().fold(0, |name: u64, byte| name.wrapping_mul(31).wrapping_add(byte.into()));
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(name.wrapping_mul(1_000_003) ^ ((number as u64) << 32) ^ round);
        rng
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    pub(super) fn begin(&self) {
        self.is_over.store(false, Ordering::Relaxed);
    }

    /// Everybody ends what is under way, and stops.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// What happened so far.
    pub(super) fn tally(&self) -> Tally {
        self.counts.tally(&self.cluster, self.journal().head())
    }
}
