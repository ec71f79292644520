//! An append-only log of create-only objects, and the object store beneath it.
//!
//! Every fact that can change is a new numbered object, written create-only, so that no lock and no leader is needed:
//! who creates slot n wrote commit n. Knows nothing of models, vectors or what a payload means.

#[cfg(feature = "testing")]
pub mod azurite;
#[cfg(feature = "testing")]
mod bucket_server;
mod checkpoint;
mod clean_up;
mod credentials;
mod directory;
mod error;
#[cfg(feature = "testing")]
pub mod faulty;
mod frame;
mod log;
#[cfg(feature = "testing")]
pub mod moto;
mod open;
mod options;
mod probe;
mod store;
mod store_error;

pub use crate::{
    clean_up::CleanUp,
    error::LogError,
    frame::{FrameError, FrameKind},
    log::{Log, Lsn},
    options::LogOptions,
    store::{Listed, Store, StoreOptions},
    store_error::{Access, StoreError},
};
