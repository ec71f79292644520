//! Weights of objectives, chosen when a user is embedded: one index serves them all.
//!
//! Each objective has an equal slice of every embedding, of norm 1 / sqrt(objectives). A user's slices are scaled by the weights and
//! the whole is normalised, so that the inner product with an item is the weighted sum of the objectives' own cosines, up to a factor
//! that is the user's and leaves the order of items alone.

use std::collections::BTreeMap;

use super::ModelBundle;
use crate::Embedding;

/// Every fault of the weights of a request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("objective weights: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidWeights(pub Vec<WeightFault>);

/// One of them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightFault {
    /// There is no such objective.
    #[error("`{name}` is no objective of the model, which has {}", listed(.known))]
    Unknown {
        /// What was named.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The number is no weight.
    #[error("`{name}` has the weight {weight}, expected a finite number of at least 0")]
    NotAWeight {
        /// The objective.
        name: String,
        /// What was given.
        weight: f32,
    },
    /// No objective counts.
    #[error("every weight is 0, expected one above it")]
    AllZero,
}

impl WeightFault {
    /// The objective that is at fault, if it is one.
    pub fn objective(&self) -> Option<&str> {
        match self {
            Self::Unknown { name, .. } | Self::NotAWeight { name, .. } => Some(name),
            Self::AllZero => None,
        }
    }
}

impl ModelBundle {
    /// The names of the objectives, in the order of their slices; none: the model has one without a name.
    pub fn objectives(&self) -> &[String] {
        &self.architecture.objectives
    }

    /// What each objective weighs: what the model says where nothing is asked for, otherwise what is asked for, and 0 for what is not
    /// named. Every fault at once.
    pub fn objective_weights(&self, asked: &BTreeMap<String, f32>) -> Result<Vec<f32>, InvalidWeights> {
        let names = self.objectives();
        let mut faults: Vec<WeightFault> =
            asked.iter().filter_map(|(name, &weight)| fault(names, name, weight)).collect();
        if faults.is_empty() && !asked.is_empty() && asked.values().all(|&weight| weight == 0.0) {
            faults.push(WeightFault::AllZero);
        }
        if !faults.is_empty() {
            return Err(InvalidWeights(faults));
        }
        if asked.is_empty() {
            return Ok(self.default_objective_weights());
        }
        Ok(names.iter().map(|name| asked.get(name).copied().unwrap_or(0.0)).collect())
    }

    /// What each objective weighs where nothing is asked for, in the order of [`Self::objectives`].
    pub fn default_objective_weights(&self) -> Vec<f32> {
        let defaults = &self.architecture.objective_weights;
        if defaults.is_empty() { vec![1.0; self.objectives().len()] } else { defaults.clone() }
    }

    /// Weighs the objectives of a user's embedding, see [`Self::objective_weights`].
    pub fn weigh(&self, embedding: &Embedding, asked: &BTreeMap<String, f32>) -> Result<Embedding, InvalidWeights> {
        let weights = self.objective_weights(asked)?;
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(embedding.clone());
        }
        let mut values = embedding.as_slice().to_vec();
        let largest = weights.iter().copied().fold(0.0, f32::max);
        for (slice, weight) in values.chunks_mut(embedding.dim() / weights.len()).zip(&weights) {
            slice.iter_mut().for_each(|v| *v *= weight / largest);
        }
        // Only an objective whose slice says nothing could leave no direction; then there is nothing to choose by.
        Ok(Embedding::normalise(values).unwrap_or_else(|_| embedding.clone()))
    }
}

fn fault(names: &[String], name: &str, weight: f32) -> Option<WeightFault> {
    if !names.iter().any(|known| known == name) {
        return Some(WeightFault::Unknown { name: name.to_owned(), known: names.to_vec() });
    }
    let sound = weight.is_finite() && weight >= 0.0;
    (!sound).then(|| WeightFault::NotAWeight { name: name.to_owned(), weight })
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no named ones".to_owned() } else { names.join(", ") }
}
