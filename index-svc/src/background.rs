//! Long work beside serving.

use crate::{error::IndexError, generation::blocking};

/// Runs long work on a thread of its own with a lower priority, which the threads that it starts inherit: a priority, once lowered, cannot be raised
/// again, so none of the runtime's threads will do.
pub(crate) async fn in_the_background<T: Send + 'static>(
    nice: u8,
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    let run = move || {
        if let Err(error) = rustix::process::nice(nice.into()) {
            tracing::warn!(%error, "what belongs in the background runs at the priority of searches");
        }
        work()
    };
    blocking(move || {
        let thread = std::thread::Builder::new().name("background".into()).spawn(run);
        let thread = thread.map_err(|e| IndexError::Internal(format!("no thread for the background: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(IndexError::Internal("work in the background panicked".into())))
    })
    .await
}
