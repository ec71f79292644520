//! [`Freeing`]: gives back the memory of generations that are no longer searched, on a thread of the background.
//!
//! To unmap some hundred megabytes takes tens of milliseconds. Left to whoever happens to be the last to hold them, that was a search.

use std::{sync::Arc, thread, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    background::in_the_background,
    generation::Loaded,
    snapshot::{HeldSpace, Snapshot},
};

/// By how much searches come before it.
const NICE: u8 = 5;
/// Between looks whether searches are done with what was replaced, and how many of them: a search that takes longer frees it itself.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LOOKS: u32 = 200;

/// What is being freed.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    under_way: Option<JoinHandle<()>>,
}

impl Freeing {
    /// Frees the generations of a snapshot that was replaced which are no longer searched.
    pub(super) fn start(&mut self, replaced: Arc<Snapshot>, searched: &[HeldSpace]) {
        let is_searched = |loaded: &Loaded| searched.iter().any(|held| held.loaded().id == loaded.id);
        let loaded = replaced.spaces.iter().map(HeldSpace::loaded);
        let gone: Vec<_> = loaded.filter(|loaded| !is_searched(loaded)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        self.under_way = Some(tokio::spawn(async move {
            let freed = in_the_background(NICE, move || {
                drop(replaced);
                free(gone);
                Ok(())
            });
            if let Err(error) = freed.await {
                tracing::warn!(%error, "searches free what was replaced");
            }
        }));
    }

    /// Waits for what is being freed now.
    pub(super) fn finished(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let under_way = self.under_way.take();
        async move {
            if let Some(task) = under_way {
                // Only the end of the runtime cancels it.
                let _ = task.await;
            }
        }
    }
}

/// Drops them once nobody else holds them, by whatever snapshot.
fn free(gone: Vec<Loaded>) {
    for _ in 0..LOOKS {
        if !gone.iter().any(is_shared) {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn is_shared(loaded: &Loaded) -> bool {
    let generation = &loaded.generation;
    Arc::strong_count(generation) > 1 || generation.shards.iter().any(|shard| Arc::strong_count(shard) > 1)
}
