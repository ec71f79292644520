//! Optimisers of embedding rows, sparse: only the rows that a step used are read or written.
//!
//! [`uses`] says which rows a step used and how; this walks over them table by table, on all threads, each with a range of rows of its own;
//! [`Rule`] is what happens to one row.

mod rule;
#[cfg(test)]
mod tests;
mod uses;

use std::ops::Range;

use pagoda_model::{
    Side,
    features::EncodedBatch,
    tables::{Layout, Table},
};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use crate::config::RowOptimizer;
use rule::{Rule, Step};
use uses::{Keys, Parts, Use, row_of, use_of, uses_of_table};

/// Parts of a table that are updated in parallel.
const PARTS: usize = 16;

/// The gradient of the inputs of some entities of a batch.
pub(super) struct InputGradient<'a> {
    pub(super) side: Side,
    pub(super) batch: &'a EncodedBatch,
    pub(super) entities: Range<usize>,
    /// `[entities, input_dim]`.
    pub(super) flat: &'a [f32],
    /// Of histories that the gather did not pool, `[entities, length, dim]`, and the length.
    pub(super) sequence: Option<(&'a [f32], usize)>,
}

/// The optimiser of all tables and its state.
pub(super) struct RowOptimiser {
    rule: Rule,
    /// By table: `[rows, numbers of state a row]`.
    states: Vec<Vec<f32>>,
}

impl RowOptimiser {
    /// No gradients seen yet.
    pub(super) fn new(optimizer: RowOptimizer, tables: &[Table]) -> Self {
        let rule = Rule::new(optimizer);
        Self { rule, states: tables.iter().map(|t| vec![0.0; t.spec.rows * rule.state_dim(t.spec.dim)]).collect() }
    }

    /// The state by table, to be kept and restored.
    pub(super) fn states(&self) -> &[Vec<f32>] {
        &self.states
    }

    /// The same, to be restored.
    pub(super) fn states_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.states
    }

    /// One step of all tables. Deterministic for any number of threads: a row's uses are summed in their order.
    pub(super) fn step(&mut self, tables: &mut [Table], layout: &Layout, gradients: &[InputGradient<'_>], rate: f32) {
        let (step, arch) = (Step { rate }, Arch::new());
        for (number, table) in tables.iter_mut().enumerate() {
            let uses = uses_of_table(layout, number, gradients);
            let parts = Parts::new(&uses, table.spec.rows, PARTS);
            let keys = Keys::new(&uses, &parts);
            let parts = self.parts(number, table, &parts.bounds).into_par_iter().enumerate();
            parts.for_each(|(at, part)| {
                arch.dispatch(Update { part, keys: &keys.of(at), uses: &uses, gradients, step });
            });
        }
    }

    /// Cuts a table and its state at row boundaries.
    fn parts<'a>(&'a mut self, number: usize, table: &'a mut Table, bounds: &[usize]) -> Vec<Part<'a>> {
        let dim = table.spec.dim;
        let state_dim = self.rule.state_dim(dim);
        let mut values = table.values.as_mut_slice();
        let mut state = self.states[number].as_mut_slice();
        let mut parts = Vec::with_capacity(bounds.len());
        for range in bounds.windows(2) {
            let rows = range[1] - range[0];
            let part_values = values.split_off_mut(..rows * dim).unwrap_or_default();
            let part_state = state.split_off_mut(..rows * state_dim).unwrap_or_default();
            parts.push(Part { rule: self.rule, dim, first_row: range[0], values: part_values, state: part_state });
        }
        parts
    }
}

/// A range of a table's rows.
struct Part<'a> {
    rule: Rule,
    dim: usize,
    first_row: usize,
    values: &'a mut [f32],
    state: &'a mut [f32],
}

/// The update of a part, compiled for the processor at hand.
struct Update<'a> {
    part: Part<'a>,
    /// Of its uses, sorted, see [`Keys`].
    keys: &'a [u64],
    uses: &'a [Use],
    gradients: &'a [InputGradient<'a>],
    step: Step,
}

impl NullaryFnOnce for Update<'_> {
    type Output = ();

    /// Row after row, each one's uses summed in their order.
    #[inline(always)]
    fn call(self) {
        let Self { part: Part { rule, dim, first_row, values, state }, keys, uses, gradients, step } = self;
        let mut sum = vec![0.0; dim];
        let state_dim = rule.state_dim(dim);
        for keys in keys.chunk_by(|a, b| row_of(*a) == row_of(*b)) {
            sum.fill(0.0);
            keys.iter().for_each(|key| uses[use_of(*key)].add_to(gradients, &mut sum));
            let local = row_of(keys[0]) - first_row;
            let row = &mut values[local * dim..(local + 1) * dim];
            rule.apply(row, &mut state[local * state_dim..(local + 1) * state_dim], &sum, step);
        }
    }
}
