//! The fitting: examples become batches with negatives, batches pass the towers, the loss says what to change, and the optimisers of rows
//! and weights change it.
//!
//! In reading order: [`fit`] is the loop; `batches` (with `targets`, `sources`, `private`, `columns`) makes its steps' input; `stepper`
//! takes a step through `passes`, `loss`, `rows` and `adamw`; `ledger` and `record` keep the books; `checkpoint` keeps the state.

mod adamw;
mod batches;
mod cache;
mod checkpoint;
mod columns;
mod encoded;
mod fit;
mod initial;
mod ledger;
mod lists;
mod loss;
mod passes;
mod private;
mod record;
mod rows;
mod schedule;
mod snapshot;
mod sources;
mod stepper;
mod targets;
mod temperature;

pub(crate) use checkpoint::CheckpointStore;
pub(crate) use encoded::{Encoded, UserExample};
pub(crate) use fit::{FitTask, Fitted, fit};
pub(crate) use initial::initial_model;
pub use ledger::{CalibrationPoint, SourceFigures};
pub use record::{Curves, Points};
pub use sources::Source;
