//! Data directories on disk: read in every format, written, imported, and what is said of bad ones.

#![allow(clippy::unwrap_used)] // Tests alone live here.

mod bad_input;
mod fixture;
mod importers;
mod mined;
mod public_data;
mod round_trip;
mod tables;
