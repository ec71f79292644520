//! A refresh: the long-running operation that makes the index equal to a catalog.
//!
//! [`Refreshes`] starts, shows and cancels them, one at a time; [`Refresher`] does the work, [`full`] or [`incremental`]; the
//! [`Journal`] remembers across processes which refresh last left the index equal to which catalog.

mod embed;
pub(crate) mod figures;
mod full;
mod incremental;
mod journal;
mod operations;
mod progress;
mod recorded;
mod refresher;

pub use journal::{Baseline, Basis, History, Journal, Record, Refused};
pub use operations::Refreshes;
pub use progress::{Mode, Refresh, RefreshId, State};
pub use recorded::Recorded;
pub use refresher::{Refresher, Settings, Wish};
