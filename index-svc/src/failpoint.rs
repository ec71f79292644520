//! Places at which tests end or stop the process; without the feature `failpoints` there are none.

/// Passes such a place. `FAILPOINTS=name=return` in the environment ends the process there as `kill -9` does, `name=1*off->return` the second time.
#[cfg(feature = "failpoints")]
pub(crate) fn reached(name: &str) {
    fail::fail_point!(name, |_| kill());
}

/// Passes such a place.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn reached(_: &str) {}

/// Reads which places are active from the environment. To be called once, at the start of the process.
#[cfg(feature = "failpoints")]
pub fn activate() {
    // Kept for the life of the process.
    std::mem::forget(fail::FailScenario::setup());
}

/// Ends this process as `kill -9` does: no destructor runs, no buffer is flushed.
#[cfg(feature = "failpoints")]
fn kill() {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    std::process::abort();
}
