//! The fitting: batches, towers, loss, and the optimisers of rows and weights.

mod adagrad;
mod batches;
mod encoded;
mod exponential;
mod fit;
mod initial;
mod loss;
mod passes;
mod sampling;

pub(crate) use encoded::{Encoded, UserExample};
pub(crate) use fit::{FitTask, Fitted, fit};
pub(crate) use initial::initial_model;
