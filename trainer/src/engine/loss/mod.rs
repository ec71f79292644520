//! The loss of a batch and its gradients, computed directly, block of rows by block of rows, so that the scores of the whole batch are
//! never held.
//!
//! For row i with user u_i, positive v_i and negatives n_j, of which most are columns that all rows share and some are the row's own
//! (hard, exposed): scores are inner products of unit vectors; [`rows`] makes a loss of them; accidental hits are masked. The batch's loss
//! is the mean of the rows' by their weights.

mod exponential;
mod rows;
#[cfg(test)]
mod tests;

use std::ops::Range;

use candle_core::{Result, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::lists::Lists;
use crate::{
    config::{LossConfig, LossKind},
    tensors,
};
use rows::{MASKED, Row, RowLogQ, RowLoss, RowSettings};

/// Rows whose scores are held at once; 128 was measured best.
const BLOCK: usize = 128;
/// Blocks are summed in so many groups, in their order, whatever the number of threads, so that it does not change the result.
const GROUPS: usize = 8;

/// What a loss is computed from. All vectors are unit rows of `dim` numbers.
pub(super) struct LossInput<'a> {
    pub(super) dim: usize,
    /// `[rows, dim]`.
    pub(super) users: &'a [f32],
    /// `[rows, dim]`: each row's positive.
    pub(super) positives: &'a [f32],
    /// `[columns, dim]`: negatives that all rows share.
    pub(super) columns: &'a [f32],
    /// So many of the first columns have gradients.
    pub(super) learned_columns: usize,
    /// `[private, dim]`: negatives of single rows, row after row.
    pub(super) private: &'a [f32],
    /// `[rows + 1]`: where each row's private negatives begin.
    pub(super) private_offsets: &'a [usize],
    /// `[rows]`.
    pub(super) weights: &'a [f32],
    pub(super) log_q: LogQValues<'a>,
    /// By row, the columns that are no negatives of it.
    pub(super) masked: &'a Lists<u32>,
    /// By row, columns and what is subtracted from their logits beside their log_q.
    pub(super) adjusted: &'a Lists<(u32, f32)>,
    pub(super) settings: LossSettings,
    /// Ranges of columns whose share of the gradient is wanted; none: it is not measured.
    pub(super) segments: &'a [Range<usize>],
}

/// The logs of how often items are drawn: `[rows]`, `[columns]` and `[private]`.
#[derive(Clone, Copy)]
pub(super) struct LogQValues<'a> {
    pub(super) positives: &'a [f32],
    pub(super) columns: &'a [f32],
    pub(super) private: &'a [f32],
}

/// The loss, and the temperature, which may be learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossSettings(RowSettings);

/// The loss and its gradients.
#[derive(Debug)]
pub(super) struct LossOutput {
    pub(super) loss: f32,
    /// `[rows, dim]`.
    pub(super) d_users: Vec<f32>,
    /// `[rows, dim]`.
    pub(super) d_positives: Vec<f32>,
    /// `[learned_columns, dim]`.
    pub(super) d_columns: Vec<f32>,
    /// `[private, dim]`.
    pub(super) d_private: Vec<f32>,
    pub(super) d_temperature: f32,
    /// The sum of the derivatives by scores of each segment, then of the private negatives; empty if not wanted.
    pub(super) masses: Vec<f64>,
}

/// What a group of rows adds to the output.
struct GroupOutput {
    rows: Range<usize>,
    loss: f64,
    d_users: Vec<f32>,
    d_positives: Vec<f32>,
    d_columns: Vec<f32>,
    d_private: Vec<f32>,
    d_temperature: f64,
    masses: Vec<f64>,
}

impl LossSettings {
    /// By the configuration, at a temperature.
    pub(super) fn new(config: &LossConfig, temperature: f32) -> Self {
        let LossConfig { kind, margin, negative_weight, .. } = *config;
        Self(RowSettings { kind, temperature, margin, negative_weight })
    }

    /// Whether scores are corrected for how often items are drawn.
    pub(super) fn corrects(self) -> bool {
        self.0.kind == LossKind::Softmax
    }
}

/// The loss and its gradients. The same for any number of threads.
pub(super) fn loss(input: &LossInput<'_>) -> Result<LossOutput> {
    let columns = tensors::matrix(input.columns, input.log_q.columns.len())?;
    let rows = input.weights.len();
    let total_weight = input.weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    let group_rows = rows.div_ceil(BLOCK).div_ceil(GROUPS).max(1) * BLOCK;
    let starts: Vec<usize> = (0..rows).step_by(group_rows).collect();
    let groups: Result<Vec<GroupOutput>> = starts
        .into_par_iter()
        .map(|start| Group::new(input, &columns, start..rows.min(start + group_rows), 1.0 / total_weight).run())
        .collect();
    Ok(joined(input, groups?))
}

fn joined(input: &LossInput<'_>, groups: Vec<GroupOutput>) -> LossOutput {
    let (mut loss, mut d_temperature) = (0.0, 0.0);
    let mut output = LossOutput {
        loss: 0.0,
        d_users: Vec::with_capacity(input.users.len()),
        d_positives: Vec::with_capacity(input.positives.len()),
        d_columns: Vec::new(),
        d_private: Vec::with_capacity(input.private.len()),
        d_temperature: 0.0,
        masses: vec![0.0; if input.segments.is_empty() { 0 } else { input.segments.len() + 1 }],
    };
    for group in groups {
        loss += group.loss;
        d_temperature += group.d_temperature;
        output.d_users.extend(group.d_users);
        output.d_positives.extend(group.d_positives);
        output.d_private.extend(group.d_private);
        output.masses.iter_mut().zip(group.masses).for_each(|(sum, mass)| *sum += mass);
        if output.d_columns.is_empty() {
            output.d_columns = group.d_columns;
        } else {
            let chunks = output.d_columns.par_chunks_mut(1 << 14).zip(group.d_columns.par_chunks(1 << 14));
            chunks.for_each(|(sum, d)| sum.iter_mut().zip(d).for_each(|(sum, d)| *sum += d));
        }
    }
    (output.loss, output.d_temperature) = (loss as f32, d_temperature as f32);
    output
}

/// Consecutive rows on one thread.
struct Group<'i, 'a> {
    input: &'i LossInput<'a>,
    /// `[columns, dim]`.
    column_matrix: &'i Tensor,
    /// One by the sum of all weights.
    unit: f32,
    columns: usize,
    arch: Arch,
    output: GroupOutput,
}

impl<'i, 'a> Group<'i, 'a> {
    fn new(input: &'i LossInput<'a>, column_matrix: &'i Tensor, rows: Range<usize>, unit: f32) -> Self {
        let dim = input.dim;
        let private = input.private_offsets[rows.end] - input.private_offsets[rows.start];
        let output = GroupOutput {
            loss: 0.0,
            d_users: vec![0.0; rows.len() * dim],
            d_positives: vec![0.0; rows.len() * dim],
            d_columns: vec![0.0; input.learned_columns * dim],
            d_private: vec![0.0; private * dim],
            d_temperature: 0.0,
            masses: vec![0.0; input.segments.len() + 1],
            rows,
        };
        Self { input, column_matrix, unit, columns: input.log_q.columns.len(), arch: Arch::new(), output }
    }

    fn run(mut self) -> Result<GroupOutput> {
        let rows = self.output.rows.clone();
        for start in rows.clone().step_by(BLOCK) {
            self.block(start..rows.end.min(start + BLOCK))?;
        }
        Ok(self.output)
    }

    fn block(&mut self, rows: Range<usize>) -> Result<()> {
        let dim = self.input.dim;
        let users = &self.input.users[rows.start * dim..rows.end * dim];
        // What follows of a row's derivatives is scaled by its scale: of its user before the product that makes d_columns.
        let mut scaled_users = users.to_vec();
        let users = tensors::matrix(users, rows.len())?;
        let scores = if self.columns == 0 { None } else { Some(users.matmul(&self.column_matrix.t()?)?) };
        let arch = self.arch;
        let mut of_rows = |scores: &mut [f32]| {
            arch.dispatch(Block { group: self, rows: rows.clone(), scores, scaled_users: &mut scaled_users })
        };
        let Some(scores) = scores else {
            of_rows(&mut []);
            return Ok(());
        };
        let scales = tensors::change(&scores, of_rows)?;
        self.products(&rows, &scores, &scales, &scaled_users)
    }

    /// The rows' losses, their derivatives in the scores' place; returns the scales.
    #[inline(always)]
    fn rows(&mut self, rows: Range<usize>, scores: &mut [f32], scaled_users: &mut [f32]) -> Vec<f32> {
        let dim = self.input.dim;
        let mut scales = Vec::with_capacity(rows.len());
        for (i, row) in rows.clone().enumerate() {
            let scores = &mut scores[i * self.columns..(i + 1) * self.columns];
            let scale = self.row(row, scores);
            scaled_users[i * dim..(i + 1) * dim].iter_mut().for_each(|u| *u *= scale);
            scales.push(scale);
        }
        scales
    }

    #[inline(always)]
    fn row(&mut self, row: usize, scores: &mut [f32]) -> f32 {
        let input = self.input;
        let dim = input.dim;
        let user = &input.users[row * dim..(row + 1) * dim];
        let positive = &input.positives[row * dim..(row + 1) * dim];
        let shift = |&(column, log_q): &(u32, f32)| (column as usize, log_q * input.settings.0.temperature);
        input.adjusted.list(row).iter().map(shift).for_each(|(column, shift)| scores[column] -= shift);
        input.masked.list(row).iter().for_each(|&column| scores[column as usize] = MASKED);
        let own = input.private_offsets[row]..input.private_offsets[row + 1];
        let vectors = input.private[own.start * dim..own.end * dim].chunks_exact(dim);
        let mut private: Vec<f32> = vectors.map(|vector| dot(user, vector)).collect();
        let log_q = RowLogQ {
            positive: input.log_q.positives[row],
            columns: input.log_q.columns,
            private: &input.log_q.private[own.clone()],
        };
        let row_scores = Row { positive: dot(user, positive), columns: scores, private: &mut private, log_q };
        let RowLoss { loss, d_positive, scale, d_temperature } = input.settings.0.loss(row_scores);
        let share = input.weights[row] * self.unit;
        self.output.loss += f64::from(share) * f64::from(loss);
        self.output.d_temperature += f64::from(share) * f64::from(d_temperature);
        self.measure(scores, &private, share * scale);
        self.private(row, own, &private, share * scale);
        let at = (row - self.output.rows.start) * dim;
        add_scaled(&mut self.output.d_users[at..at + dim], positive, share * d_positive);
        add_scaled(&mut self.output.d_positives[at..at + dim], user, share * d_positive);
        share * scale
    }

    #[inline(always)]
    fn measure(&mut self, scores: &[f32], private: &[f32], scale: f32) {
        if self.input.segments.is_empty() {
            return;
        }
        let parts = self.input.segments.iter().map(|segment| &scores[segment.clone()]).chain([private]);
        for (mass, part) in self.output.masses.iter_mut().zip(parts) {
            *mass += f64::from(scale) * f64::from(part.iter().sum::<f32>());
        }
    }

    #[inline(always)]
    fn private(&mut self, row: usize, own: Range<usize>, derivatives: &[f32], scale: f32) {
        let (input, dim) = (self.input, self.input.dim);
        let first = input.private_offsets[self.output.rows.start];
        let at = (row - self.output.rows.start) * dim;
        for (private, derivative) in own.zip(derivatives) {
            let vector = &input.private[private * dim..(private + 1) * dim];
            add_scaled(&mut self.output.d_users[at..at + dim], vector, scale * derivative);
            let to = (private - first) * dim;
            let user = &input.users[row * dim..(row + 1) * dim];
            add_scaled(&mut self.output.d_private[to..to + dim], user, scale * derivative);
        }
    }

    /// d_users += scales derivatives columns; d_columns += derivatives^T scaled users.
    fn products(
        &mut self,
        rows: &Range<usize>,
        derivatives: &Tensor,
        scales: &[f32],
        scaled_users: &[f32],
    ) -> Result<()> {
        let (input, dim) = (self.input, self.input.dim);
        let at = (rows.start - self.output.rows.start) * dim;
        let d_users = self.output.d_users[at..].chunks_exact_mut(dim);
        tensors::read(&derivatives.matmul(self.column_matrix)?, |products| {
            for ((d_user, product), &scale) in d_users.zip(products.chunks_exact(dim)).zip(scales) {
                add_scaled(d_user, product, scale);
            }
        })?;
        if input.learned_columns == 0 {
            return Ok(());
        }
        let learned = derivatives.narrow(1, 0, input.learned_columns)?;
        let d_columns = &mut self.output.d_columns;
        tensors::read(&learned.t()?.matmul(&tensors::matrix(scaled_users, rows.len())?)?, |products| {
            add_scaled(d_columns, products, 1.0);
        })
    }
}

/// The rows of a block, compiled for the processor at hand. A closure would be called, not inlined, and so compiled for any processor.
struct Block<'b, 'i, 'a> {
    group: &'b mut Group<'i, 'a>,
    rows: Range<usize>,
    scores: &'b mut [f32],
    scaled_users: &'b mut [f32],
}

impl NullaryFnOnce for Block<'_, '_, '_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn call(self) -> Vec<f32> {
        self.group.rows(self.rows, self.scores, self.scaled_users)
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        (0..LANES).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[inline(always)]
fn add_scaled(to: &mut [f32], vector: &[f32], scale: f32) {
    to.iter_mut().zip(vector).for_each(|(to, v)| *to += scale * v);
}
