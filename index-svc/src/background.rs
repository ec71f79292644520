//! Long work beside serving.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{error::IndexError, generation::blocking};

/// By how much searches come before what is to end soon.
const NICE: u8 = 5;
/// Work of less patience takes a fraction of a millisecond.
const PATIENCE_LEAST: Duration = Duration::from_millis(2);

const NAME: &str = "background";

/// How a thread shares the processors with those that search.
#[derive(Clone, Copy)]
enum Priority {
    /// Has what no other thread wants, and is interrupted the moment one does: `SCHED_IDLE` of sched(7).
    Idle,
    /// Has a smaller share: nice(2). Once it has a processor, it keeps it for a few milliseconds.
    Nice(u8),
}

/// Runs long work on a thread of its own with a lower priority, which the threads that it starts inherit: a priority, once lowered, cannot be raised
/// again, so none of the runtime's threads will do.
pub(crate) async fn in_the_background<T: Send + 'static>(
    nice: u8,
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    run(Priority::Nice(nice), work).await
}

/// Runs work that others wait for, in the time that searches leave. Where they leave next to none, work that is not done when its patience ends
/// begins again on a thread that has a share of its own, and whichever is done first counts. Work of little patience is over so soon that it has
/// a share at once.
pub(crate) async fn giving_way<T: Send + 'static>(
    patience: Duration,
    work: impl Fn() -> Result<T, IndexError> + Send + Sync + 'static,
) -> Result<T, IndexError> {
    if patience < PATIENCE_LEAST {
        return run(Priority::Nice(NICE), work).await;
    }
    // On a thread's clock and not on tokio's, which tests stop while threads work.
    blocking(move || {
        let (work, (done, results)) = (Arc::new(work), mpsc::sync_channel(2));
        let start = |priority, done: mpsc::SyncSender<_>| {
            let work = work.clone();
            // Nobody listens any more to the one that comes second.
            thread(NAME, priority, move || drop(done.send(work())))
        };
        start(Priority::Idle, done.clone())?;
        results.recv_timeout(patience).or_else(|_| {
            start(Priority::Nice(NICE), done)?;
            results.recv().map_err(|_| panicked())
        })?
    })
    .await
}

/// Starts a thread that has what no other thread wants, for work that nobody waits for.
pub(crate) fn idle_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), IndexError> {
    thread(name, Priority::Idle, work).map(drop)
}

async fn run<T: Send + 'static>(
    priority: Priority,
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    blocking(move || thread(NAME, priority, work)?.join().unwrap_or_else(|_| Err(panicked()))).await
}

fn thread<T: Send + 'static>(
    name: &str,
    priority: Priority,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, IndexError> {
    let run = move || {
        if let Err(error) = priority.take() {
            tracing::warn!(%error, "what belongs in the background runs at the priority of searches");
        }
        work()
    };
    let started = thread::Builder::new().name(name.into()).spawn(run);
    started.map_err(|e| IndexError::Internal(format!("no thread `{name}`: {e}")))
}

fn panicked() -> IndexError {
    IndexError::Internal("work in the background panicked".into())
}

impl Priority {
    /// Gives it to the calling thread.
    fn take(self) -> Result<(), String> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Idle => {
                use thread_priority::{
                    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
                    thread_native_id,
                };
                let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
                let taken = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
                taken.map_err(|e| e.to_string())
            }
            #[cfg(not(target_os = "linux"))]
            Self::Idle => Self::Nice(19).take(),
            Self::Nice(nice) => rustix::process::nice(nice.into()).map(drop).map_err(|e| e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy and the nice value of the calling thread, from fields 41 and 19 of proc_pid_stat(5).
    fn scheduling() -> (u32, i32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[38].parse().unwrap(), fields[16].parse().unwrap())
    }

    const SCHED_IDLE: u32 = 5;

    #[tokio::test]
    async fn what_gives_way_is_idle_and_begins_again_with_a_share_when_patience_ends() {
        // A nice value is added to the caller's.
        let nicer = (scheduling().1 + i32::from(NICE)).min(19);
        let (policy, _) = giving_way(Duration::from_secs(60), || Ok(scheduling())).await.unwrap();
        assert_eq!(policy, SCHED_IDLE);

        let (policy, nice) = giving_way(Duration::ZERO, || Ok(scheduling())).await.unwrap();
        assert_eq!((policy, nice), (0, nicer));

        // Whichever of the two is started first, and be it late: the idle one is never done.
        let stuck = || {
            let found = scheduling();
            if found.0 == SCHED_IDLE {
                loop {
                    thread::park();
                }
            }
            Ok(found)
        };
        let (policy, nice) = giving_way(Duration::from_millis(50), stuck).await.unwrap();
        assert_eq!((policy, nice), (0, nicer));
    }

    #[test]
    fn an_idle_thread_is_idle() {
        let (told, found) = mpsc::sync_channel(1);
        idle_thread("idle", move || told.send(scheduling().0).unwrap()).unwrap();
        assert_eq!(found.recv().unwrap(), SCHED_IDLE);
    }

    #[tokio::test]
    async fn a_panic_fails_the_work_alone() {
        let failed = in_the_background::<()>(0, || panic!("on purpose")).await;
        assert!(matches!(failed, Err(IndexError::Internal(_))));
        let failed = giving_way::<()>(2 * PATIENCE_LEAST, || panic!("on purpose")).await;
        assert!(matches!(failed, Err(IndexError::Internal(_))));
    }
}
