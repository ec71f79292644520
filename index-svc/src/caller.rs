//! [`Caller`]: tells work that goes on elsewhere when nobody waits for it any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Lives in the future of who waits; when that is dropped, the flag is raised.
#[derive(Debug)]
pub(crate) struct Caller {
    gone: Arc<AtomicBool>,
}

impl Caller {
    /// A caller, and the flag that says whether it is gone.
    pub(crate) fn new() -> (Self, Arc<AtomicBool>) {
        let gone = Arc::new(AtomicBool::new(false));
        (Self { gone: gone.clone() }, gone)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}
