//! [`Embedding`]: an L2-normalised vector, by construction.

use serde::{Deserialize, Serialize};

/// An L2-normalised vector of `embedding_dim` finite components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct Embedding(Box<[f32]>);

/// Why a vector has no direction.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotNormalisable {
    /// It has no components.
    #[error("a vector without components has no direction")]
    Empty,
    /// A component is NaN or infinite.
    #[error("component {index} is {value}, expected a finite number")]
    NotFinite {
        /// Which one.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// Its norm is zero, or too small to divide by.
    #[error("a vector of norm {0:e} has no direction")]
    TooShort(f64),
}

impl Embedding {
    /// Divides a vector by its L2 norm, computed in f64 so that no finite input overflows.
    pub fn normalise(mut values: Vec<f32>) -> Result<Self, NotNormalisable> {
        if values.is_empty() {
            return Err(NotNormalisable::Empty);
        }
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(NotNormalisable::NotFinite { index, value: values[index] });
        }
        let norm = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm < 1e-20 {
            return Err(NotNormalisable::TooShort(norm));
        }
        values.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        Ok(Self(values.into()))
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// How many components there are.
    pub fn dim(&self) -> usize {
        self.0.len()
    }

    /// The inner product, which is the cosine: -1 to 1, higher is nearer. Of different dimensions: of the shared part.
    pub fn dot(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }
}

impl TryFrom<Vec<f32>> for Embedding {
    type Error = NotNormalisable;
    fn try_from(values: Vec<f32>) -> Result<Self, NotNormalisable> {
        Self::normalise(values)
    }
}

impl From<Embedding> for Vec<f32> {
    fn from(embedding: Embedding) -> Vec<f32> {
        embedding.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_finite_direction_gets_norm_one() {
        for values in [vec![3.0, 4.0], vec![f32::MAX, f32::MAX], vec![-1e-19, 1e-19]] {
            let embedding = Embedding::normalise(values).unwrap();
            assert!((embedding.dot(&embedding) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        assert_eq!(Embedding::normalise(vec![]), Err(NotNormalisable::Empty));
        assert_eq!(Embedding::normalise(vec![0.0; 3]), Err(NotNormalisable::TooShort(0.0)));
        assert!(matches!(Embedding::normalise(vec![1.0, f32::NAN]), Err(NotNormalisable::NotFinite { index: 1, .. })));
    }
}
