//! Why there is no model.

use pagoda_dataset::DatasetError;
use pagoda_model::{
    Side,
    bundle::{BundleError, EmbedError},
    features::{InvalidFeatures, InvalidVocabularies},
};

use crate::config::InvalidConfig;

/// Why a training run or an evaluation ended without a result. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is at fault.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The data could not be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The data was read, but no model can be learned from it.
    #[error("{0}")]
    TooLittleData(String),
    /// What is asked of mining can not be had, or there was nothing to mine.
    #[error("{0}")]
    Mining(String),
    /// A ranker could not rank.
    #[error(transparent)]
    Ranker(Box<dyn std::error::Error + Send + Sync>),
    /// The threads of the training could not be started.
    #[error("cannot start threads: {0}")]
    Threads(String),
    /// A row of a table does not fit the schema.
    #[error("{side} `{id}`: {source}")]
    Features {
        /// Users or items.
        side: Side,
        /// Whose row.
        id: String,
        /// Its faults.
        source: InvalidFeatures,
    },
    /// The loss is no number any more; there is no model.
    #[error(
        "training diverged at step {step}: the loss is {loss}, largest user output {user_max}, largest item output {item_max}; lower training.row_learning_rate or training.tower_learning_rate, or look for extreme numeric or dense features"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f32,
        /// The largest component of a user embedding, NaN if one is NaN.
        user_max: f32,
        /// The largest component of an item embedding, NaN if one is NaN.
        item_max: f32,
    },
    /// All vectors are alike; there is no model.
    #[error(
        "training collapsed at step {step}: the mean cosine of two items is {mean_cosine:.3}, all of them look alike; lower training.row_learning_rate or training.tower_learning_rate, add negatives, or look for a feature that drowns all others"
    )]
    Collapsed {
        /// The step.
        step: u64,
        /// The mean cosine of two items of its batch.
        mean_cosine: f32,
    },
    /// The model makes a vector that is none.
    #[error("the {side} tower's output for entity {entity} has a component {value}, expected finite numbers")]
    NotFinite {
        /// The side.
        side: pagoda_model::Side,
        /// Its place among those that were embedded.
        entity: usize,
        /// What was found.
        value: f32,
    },
    /// A checkpoint can not be written or taken up.
    #[error("checkpoint {file}: {description}")]
    Checkpoint {
        /// The file.
        file: String,
        /// What is wrong.
        description: String,
    },
    /// The model is of another schema than the data.
    #[error("the model's schema differs from the data set's")]
    OtherSchema,
    /// The vocabularies do not fit the schema.
    #[error(transparent)]
    Vocabularies(#[from] InvalidVocabularies),
    /// The bundle can not be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The model can not embed.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The tensor library failed.
    #[error("tensor computation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
