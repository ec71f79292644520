//! The gradients of private negatives, item by item from the rows that have it.

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::{LossInput, add_scaled};

/// Items that one task sums up.
const ITEMS: usize = 256;

/// d_private: for each private negative the sum over the rows that have it of the derivative by that score, times the row's user.
pub(super) fn gradients(input: &LossInput<'_>, d_scores: &[f32]) -> Vec<f32> {
    let mut gradients = vec![0.0; input.private.len()];
    if gradients.is_empty() {
        return gradients;
    }
    let (starts, uses) = uses_by_item(input, d_scores);
    let (arch, dim) = (Arch::new(), input.dim);
    gradients.par_chunks_mut(ITEMS * dim).enumerate().for_each(|(chunk, gradients)| {
        let starts = &starts[chunk * ITEMS..];
        arch.dispatch(Sums { users: input.users, dim, starts, uses: &uses, gradients });
    });
    gradients
}

/// Where each item's uses begin, and where the last one's end; of each use its row and the derivative by its score. In the order of rows.
fn uses_by_item(input: &LossInput<'_>, d_scores: &[f32]) -> (Vec<usize>, Vec<(u32, f32)>) {
    let numbers = input.private_rows.values();
    let mut starts = vec![0; input.private.len() / input.dim + 1];
    numbers.iter().for_each(|&number| starts[number as usize + 1] += 1);
    (1..starts.len()).for_each(|i| starts[i] += starts[i - 1]);
    let (mut next, mut uses) = (starts.clone(), vec![(0, 0.0); numbers.len()]);
    for row in 0..input.private_rows.len() {
        for at in input.private_rows.range(row) {
            let next = &mut next[numbers[at] as usize];
            uses[*next] = (row as u32, d_scores[at]);
            *next += 1;
        }
    }
    (starts, uses)
}

/// The sums of some items, compiled for the processor at hand.
struct Sums<'a> {
    users: &'a [f32],
    dim: usize,
    starts: &'a [usize],
    uses: &'a [(u32, f32)],
    gradients: &'a mut [f32],
}

impl NullaryFnOnce for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { users, dim, starts, uses, gradients } = self;
        for (gradient, range) in gradients.chunks_exact_mut(dim).zip(starts.windows(2)) {
            for &(row, d_score) in &uses[range[0]..range[1]] {
                add_scaled(gradient, &users[row as usize * dim..][..dim], d_score);
            }
        }
    }
}
