//! The trainer: interactions in, an evaluated model bundle out. A library; a person runs it by `pagoda train`.
//!
//! Knows nothing of gRPC, Faiss or terminals. [`train`] reads a data set, splits it in time, learns vocabularies, fits both towers by sampled
//! softmax and evaluates the very model that it returns, exactly and over the full catalog, beside popularity. [`mining`] makes the
//! hard negatives that training may be given.

mod baselines;
mod config;
mod data;
mod engine;
mod error;
mod evaluation;
mod learn;
pub mod mining;
mod progress;
pub mod report;
mod resume;
mod run_report;
mod summary;
mod tensorboard;
mod tensors;
#[cfg(test)]
mod tests;
mod top;
mod train;

pub use config::{
    Baseline, CheckpointConfig, EvaluateConfig, EvaluationConfig, Examples, InvalidConfig, LogQ, LossConfig, LossKind,
    NegativesConfig, ObjectiveConfig, Preset, RowOptimizer, SplitConfig, TrainConfig, TrainingConfig, UnknownPreset,
    VocabularyConfig,
};
pub use engine::{CalibrationPoint, Curves, Points, Source, SourceFigures};
pub use error::TrainError;
pub use progress::{Progress, Report, Silent, Stage};
pub use summary::{Counts, EvaluationSummary, Metrics, Slice, Summary};
pub use tensorboard::EventWriter;
pub use train::{Checkpoints, Trained, evaluate, train};
