//! What happens to one row: row-wise Adagrad or lazy Adam.

use crate::config::RowOptimizer;

const EPSILON: f32 = 1e-8;
/// Of the moments of Adam.
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;

/// The update of a row with gradient g.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// s += mean(g^2); row -= rate g / sqrt(s). One number of state (Duchi et al., JMLR 2011, with one rate a row).
    RowAdagrad,
    /// Adam (Kingma and Ba, ICLR 2015) of the rows of the step alone; moments of other rows stand still. Two numbers of state for
    /// each of the row's, and one that counts its steps, by which the moments' bias is corrected.
    LazyAdam,
}

/// What all rows of a step share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) rate: f32,
}

impl Rule {
    pub(super) fn new(optimizer: RowOptimizer) -> Self {
        match optimizer {
            RowOptimizer::Adagrad => Self::RowAdagrad,
            RowOptimizer::Adam => Self::LazyAdam,
        }
    }

    /// How many numbers of state a row has.
    #[inline(always)]
    pub(super) fn state_dim(self, dim: usize) -> usize {
        match self {
            Self::RowAdagrad => 1,
            Self::LazyAdam => 2 * dim + 1,
        }
    }

    /// Moves a row.
    #[inline(always)]
    pub(super) fn apply(self, row: &mut [f32], state: &mut [f32], gradient: &[f32], step: Step) {
        match self {
            Self::RowAdagrad => adagrad(row, &mut state[0], gradient, step.rate),
            Self::LazyAdam => adam(row, state, gradient, step.rate),
        }
    }
}

#[inline(always)]
fn adagrad(row: &mut [f32], state: &mut f32, gradient: &[f32], rate: f32) {
    *state += gradient.iter().map(|g| g * g).sum::<f32>() / row.len() as f32;
    let step = rate / (state.sqrt() + EPSILON);
    row.iter_mut().zip(gradient).for_each(|(v, g)| *v -= step * g);
}

#[inline(always)]
fn adam(row: &mut [f32], state: &mut [f32], gradient: &[f32], rate: f32) {
    let (count, moments) = state.split_at_mut(1);
    let (first, second) = moments.split_at_mut(row.len());
    count[0] += 1.0;
    let (correction1, correction2) = (1.0 - BETA1.powf(count[0]), 1.0 - BETA2.powf(count[0]));
    let moments = first.iter_mut().zip(second);
    for ((v, g), (m1, m2)) in row.iter_mut().zip(gradient).zip(moments) {
        *m1 = BETA1 * *m1 + (1.0 - BETA1) * g;
        *m2 = BETA2 * *m2 + (1.0 - BETA2) * g * g;
        *v -= rate * (*m1 / correction1) / ((*m2 / correction2).sqrt() + EPSILON);
    }
}
