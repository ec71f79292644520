//! [`WeightSpec`]: a weight's name, shape and how it begins. The numbers are drawn by whoever trains, since this crate knows no
//! source of randomness.

/// One trainable tensor of a tower or a history encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightSpec {
    /// Its name within its side, such as `layer0.weight` or `history.block0.query.weight`.
    pub name: String,
    /// Its shape; matrices are `[in, out]`.
    pub shape: Vec<usize>,
    /// What it is before the first step.
    pub initial: Initial,
}

/// What a weight is before the first step.
#[derive(Clone, Debug, PartialEq)]
pub enum Initial {
    /// One number everywhere.
    Constant(f32),
    /// Normal numbers of this standard deviation.
    Normal(f32),
    /// A matrix `[in, out]` of normal numbers, in which some inputs begin as they are.
    Identities {
        /// The standard deviation of the normal numbers.
        deviation: f32,
        /// Where there is an identity instead.
        blocks: Vec<IdentityBlock>,
    },
    /// `[heads, lags]`: -head / 2 ln(1 + lag). The first head begins as the plain mean, each further one decays faster by a power.
    Decays,
}

/// Rows `offset..offset + dim` of a matrix are `scale` times the identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdentityBlock {
    /// The first row.
    pub offset: usize,
    /// How many rows.
    pub dim: usize,
    /// What stands on the diagonal.
    pub scale: f32,
}

impl WeightSpec {
    pub(crate) fn new(name: impl Into<String>, shape: &[usize], initial: Initial) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), initial }
    }

    /// The initial numbers, row after row; `normal` draws a standard normal number.
    pub fn initial_values(&self, mut normal: impl FnMut() -> f32) -> Vec<f32> {
        let count = self.shape.iter().product();
        let width = self.shape.last().copied().unwrap_or(1);
        match &self.initial {
            Initial::Constant(value) => vec![*value; count],
            Initial::Normal(deviation) => (0..count).map(|_| normal() * deviation).collect(),
            Initial::Identities { deviation, blocks } => {
                let mut values = (0..count).map(|_| normal() * deviation).collect::<Vec<f32>>();
                blocks.iter().for_each(|block| block.write(width, &mut values));
                values
            }
            Initial::Decays => (0..count).map(|i| decay(i / width, i % width)).collect(),
        }
    }
}

impl IdentityBlock {
    fn write(&self, width: usize, values: &mut [f32]) {
        values[self.offset * width..(self.offset + self.dim) * width].fill(0.0);
        (0..self.dim.min(width)).for_each(|i| values[(self.offset + i) * width + i] = self.scale);
    }
}

fn decay(head: usize, lag: usize) -> f32 {
    -0.5 * head as f32 * (lag as f32).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_stand_where_they_are_said_to() {
        let blocks = vec![IdentityBlock { offset: 1, dim: 2, scale: 0.5 }];
        let spec = WeightSpec::new("skip", &[4, 2], Initial::Identities { deviation: 2.0, blocks });
        assert_eq!(spec.initial_values(|| 1.0), [2.0, 2.0, 0.5, 0.0, 0.0, 0.5, 2.0, 2.0]);
    }

    #[test]
    fn the_first_head_is_a_mean_and_the_others_decay() {
        let values = WeightSpec::new("lags", &[2, 3], Initial::Decays).initial_values(|| 1.0);
        assert_eq!(values[..3], [0.0; 3]);
        assert!(values[3] > values[4] && values[4] > values[5]);
    }
}
