//! An append-only log of create-only objects, and the object store beneath it.
//!
//! Every fact that can change is a new numbered object, written create-only, so that no lock and no leader is needed:
//! who creates slot n wrote commit n. Knows nothing of models, vectors or what a payload means.

mod frame;
mod log;
mod open;
mod store;

pub use crate::{
    frame::FrameError,
    log::{Log, LogError, Lsn},
    store::{Listed, Store, StoreError},
};
