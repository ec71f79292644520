//! A bookshop that never was: a catalog, users and an impression log from a known preference model, by seed alone.
//!
//! Knows nothing of training or serving, and what is learnt from the log learns nothing of the model here but through it.
//! In reading order: [`Config`] says how much; `themes` are the latent topics and the words they speak in;
//! `item` and `user` are drawn around them; `preference` is the true preference of a user for an item (the god
//! model); `exposure` is the ranker that decides what is shown, imperfectly; `log` lets time pass; and a [`World`] is
//! all of that, written as a data directory.
//!
//! A shown item is one row: `click` if it was clicked, `impression` (of the weight 0) if not; a click is never told
//! twice. The rows of a slate follow one another, best position first, and share a timestamp.

mod config;
mod exposure;
mod item;
mod log;
mod preference;
mod random;
mod society;
mod tables;
mod themes;
mod time;
mod title;
mod user;
mod world;

pub use config::{Config, InvalidConfig, UnreadableWorld, WORLD_FILE};
pub use exposure::SLATE_SIZE;
pub use world::{BornItem, SimulatorError, World, Written};
