//! Feature encoding: raw features in, table rows and floats out. The only place where features are encoded.
//!
//! [`validate`] says what is wrong with an entity, [`VocabularyBuilder`] learns from training data, [`Encoder`] encodes into an
//! [`EncodedBatch`]. What is merely unknown (an id, a category, a tag, an absent feature) is ordinary and never a fault.

mod batch;
mod encoder;
mod ids;
#[cfg(test)]
mod tests;
mod text;
mod validation;
mod vocabulary;

pub use batch::{Column, EncodedBatch};
pub use encoder::Encoder;
pub(crate) use encoder::Encoding;
pub(crate) use ids::IdRows;
pub use validation::{
    FILTERABLE_BYTES_LIMIT, FeatureFault, InvalidFeatures, LIST_LENGTH_LIMIT, TEXT_BYTES_LIMIT, too_long_to_filter_by,
    too_many_to_filter_by, validate,
};
pub use vocabulary::{
    InvalidVocabularies, Learned, OUT_OF_VOCABULARY, Vocabularies, Vocabulary, VocabularyBuilder, VocabularyLimits,
};
