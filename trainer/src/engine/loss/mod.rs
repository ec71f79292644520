//! The loss of a batch and its gradients, computed directly, block of rows by block of rows, so that the scores of the whole batch are
//! never held.
//!
//! For row i with user u_i, positive v_i and negatives n_j, of which most are columns that all rows share and some are the row's own
//! (hard, exposed): scores are inner products of unit vectors; [`rows`] makes a loss of them; accidental hits are masked. The batch's loss
//! is the mean of the rows' by their weights.

mod exponential;
mod private;
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
/// Columns whose gradients one task sums up: its part of the sum stays in the first-level cache.
const TRANSPOSED: usize = 64;
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
    /// `[private, dim]`: negatives of single rows.
    pub(super) private: &'a [f32],
    /// By row, which of them are its own; one may be several rows' and be there more than once.
    pub(super) private_rows: &'a Lists<u32>,
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

/// The logs of how often items are drawn: `[rows]`, `[columns]`, and of each row's private negatives, row after row.
#[derive(Clone, Copy)]
pub(super) struct LogQValues<'a> {
    pub(super) positives: &'a [f32],
    pub(super) columns: &'a [f32],
    pub(super) private: &'a [f32],
}

impl LossInput<'_> {
    #[inline(always)]
    fn private_vector(&self, number: u32) -> &[f32] {
        &self.private[number as usize * self.dim..][..self.dim]
    }
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

/// What a group of rows adds to the sums.
#[derive(Default)]
struct GroupSums {
    loss: f64,
    /// `[dim, learned_columns]`: the product that makes it is faster than the one that makes its transpose. None: zeros.
    d_columns: Option<Tensor>,
    d_temperature: f64,
    masses: Vec<f64>,
}

/// The gradients of a group's own rows, where they go in the output.
struct GroupGradients<'o> {
    d_users: &'o mut [f32],
    d_positives: &'o mut [f32],
    /// By the score of each of the rows' private negatives.
    d_private_scores: &'o mut [f32],
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
    let rows = input.weights.len();
    // Rows of columns for the one product, columns of columns for the other: as these read them fastest.
    let columns = tensors::matrix(input.columns, input.log_q.columns.len())?;
    let matrices = Matrices { transposed: columns.t()?.contiguous()?, columns };
    let unit = 1.0 / input.weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    let group_rows = rows.div_ceil(BLOCK).div_ceil(GROUPS).max(1) * BLOCK;
    let mut output = LossOutput {
        loss: 0.0,
        d_users: vec![0.0; input.users.len()],
        d_positives: vec![0.0; input.positives.len()],
        d_columns: Vec::new(),
        d_private: Vec::new(),
        d_temperature: 0.0,
        masses: vec![0.0; if input.segments.is_empty() { 0 } else { input.segments.len() + 1 }],
    };
    let mut d_private_scores = vec![0.0; input.private_rows.values().len()];
    let groups = parts(input, &mut output, &mut d_private_scores, group_rows);
    let run = |(rows, gradients)| Group::new(input, &matrices, unit, rows, gradients).run();
    let sums: Result<Vec<GroupSums>> = groups.into_par_iter().map(run).collect();
    sum_up(&mut output, sums?)?;
    output.d_private = private::gradients(input, &d_private_scores);
    Ok(output)
}

/// Cuts the rows' gradients into groups of so many rows.
fn parts<'o>(
    input: &LossInput<'_>,
    output: &'o mut LossOutput,
    d_private_scores: &'o mut [f32],
    group_rows: usize,
) -> Vec<(Range<usize>, GroupGradients<'o>)> {
    let (dim, rows) = (input.dim, input.weights.len());
    let users = output.d_users.chunks_mut(group_rows * dim);
    let positives = output.d_positives.chunks_mut(group_rows * dim);
    let (mut scores, offsets) = (d_private_scores, input.private_rows.offsets());
    let mut parts = Vec::new();
    for ((start, d_users), d_positives) in (0..rows).step_by(group_rows).zip(users).zip(positives) {
        let end = rows.min(start + group_rows);
        let d_private_scores = scores.split_off_mut(..offsets[end] - offsets[start]).unwrap_or_default();
        parts.push((start..end, GroupGradients { d_users, d_positives, d_private_scores }));
    }
    parts
}

/// Adds the groups' sums in their order.
fn sum_up(output: &mut LossOutput, groups: Vec<GroupSums>) -> Result<()> {
    let (mut loss, mut d_temperature) = (0.0, 0.0);
    let mut columns = Vec::with_capacity(groups.len());
    for group in groups {
        loss += group.loss;
        d_temperature += group.d_temperature;
        output.masses.iter_mut().zip(group.masses).for_each(|(sum, mass)| *sum += mass);
        columns.extend(group.d_columns);
    }
    (output.loss, output.d_temperature) = (loss as f32, d_temperature as f32);
    if let Some(first) = columns.first() {
        output.d_columns = vec![0.0; first.elem_count()];
        let dim = first.dim(0)?;
        tensors::read_all(&columns, |parts| transposed_sum(&mut output.d_columns, dim, parts))?;
    }
    Ok(())
}

/// sum `[columns, dim]` = the parts' `[dim, columns]` sum, in their order.
fn transposed_sum(sum: &mut [f32], dim: usize, parts: &[&[f32]]) {
    let columns = sum.len() / dim;
    sum.par_chunks_mut(TRANSPOSED * dim).enumerate().for_each(|(number, sum)| {
        let first = number * TRANSPOSED;
        let mut line = [0.0; TRANSPOSED];
        for k in 0..dim {
            let line = &mut line[..sum.len() / dim];
            line.fill(0.0);
            let from = k * columns + first;
            parts.iter().for_each(|part| add_scaled(line, &part[from..from + line.len()], 1.0));
            line.iter().enumerate().for_each(|(column, &value)| sum[column * dim + k] = value);
        }
    });
}

/// All columns, in the two layouts that products read.
struct Matrices {
    /// `[columns, dim]`.
    columns: Tensor,
    /// `[dim, columns]`.
    transposed: Tensor,
}

/// Consecutive rows on one thread.
struct Group<'i, 'a, 'o> {
    input: &'i LossInput<'a>,
    matrices: &'i Matrices,
    /// One by the sum of all weights.
    unit: f32,
    columns: usize,
    arch: Arch,
    rows: Range<usize>,
    gradients: GroupGradients<'o>,
    sums: GroupSums,
}

impl<'i, 'a, 'o> Group<'i, 'a, 'o> {
    fn new(
        input: &'i LossInput<'a>,
        matrices: &'i Matrices,
        unit: f32,
        rows: Range<usize>,
        gradients: GroupGradients<'o>,
    ) -> Self {
        let sums = GroupSums { masses: vec![0.0; input.segments.len() + 1], ..Default::default() };
        Self { input, matrices, unit, columns: input.log_q.columns.len(), arch: Arch::new(), rows, gradients, sums }
    }

    fn run(mut self) -> Result<GroupSums> {
        let rows = self.rows.clone();
        for start in rows.clone().step_by(BLOCK) {
            self.block(start..rows.end.min(start + BLOCK))?;
        }
        Ok(self.sums)
    }

    fn block(&mut self, rows: Range<usize>) -> Result<()> {
        let dim = self.input.dim;
        let users = &self.input.users[rows.start * dim..rows.end * dim];
        // What follows of a row's derivatives is scaled by its scale: of its user before the product that makes d_columns.
        let mut scaled_users = users.to_vec();
        let users = tensors::matrix(users, rows.len())?;
        let scores = if self.columns == 0 { None } else { Some(users.matmul(&self.matrices.transposed)?) };
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
        let adjusted = input.adjusted.list(row);
        let temperature = input.settings.0.temperature;
        adjusted.iter().for_each(|&(column, log_q)| scores[column as usize] -= log_q * temperature);
        input.masked.list(row).iter().for_each(|&column| scores[column as usize] = MASKED);
        let own = input.private_rows.list(row);
        let mut private: Vec<f32> = own.iter().map(|&number| dot(user, input.private_vector(number))).collect();
        let log_q = RowLogQ {
            positive: input.log_q.positives[row],
            columns: input.log_q.columns,
            private: &input.log_q.private[input.private_rows.range(row)],
        };
        let row_scores = Row { positive: dot(user, positive), columns: scores, private: &mut private, log_q };
        let RowLoss { loss, d_positive, scale, d_temperature } = input.settings.0.loss(row_scores);
        // What was subtracted from a score as a part of its logit does not move with the temperature.
        let moved: f32 = adjusted.iter().map(|&(column, log_q)| scores[column as usize] * log_q).sum();
        let d_temperature = d_temperature - scale * moved;
        let share = input.weights[row] * self.unit;
        self.sums.loss += f64::from(share) * f64::from(loss);
        self.sums.d_temperature += f64::from(share) * f64::from(d_temperature);
        self.measure(scores, &private, share * scale);
        self.private(row, &private, share * scale);
        let at = (row - self.rows.start) * dim;
        add_scaled(&mut self.gradients.d_users[at..at + dim], positive, share * d_positive);
        add_scaled(&mut self.gradients.d_positives[at..at + dim], user, share * d_positive);
        share * scale
    }

    #[inline(always)]
    fn measure(&mut self, scores: &[f32], private: &[f32], scale: f32) {
        if self.input.segments.is_empty() {
            return;
        }
        let parts = self.input.segments.iter().map(|segment| &scores[segment.clone()]).chain([private]);
        for (mass, part) in self.sums.masses.iter_mut().zip(parts) {
            *mass += f64::from(scale) * f64::from(part.iter().sum::<f32>());
        }
    }

    #[inline(always)]
    fn private(&mut self, row: usize, derivatives: &[f32], scale: f32) {
        let (input, dim) = (self.input, self.input.dim);
        let at = (row - self.rows.start) * dim;
        let first = input.private_rows.range(self.rows.start).start;
        let scores = &mut self.gradients.d_private_scores[input.private_rows.range(row).start - first..];
        for ((&number, derivative), d_score) in input.private_rows.list(row).iter().zip(derivatives).zip(scores) {
            *d_score = scale * derivative;
            add_scaled(&mut self.gradients.d_users[at..at + dim], input.private_vector(number), *d_score);
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
        let at = (rows.start - self.rows.start) * dim;
        let d_users = self.gradients.d_users[at..].chunks_exact_mut(dim);
        tensors::read(&derivatives.matmul(&self.matrices.columns)?, |products| {
            for ((d_user, product), &scale) in d_users.zip(products.chunks_exact(dim)).zip(scales) {
                add_scaled(d_user, product, scale);
            }
        })?;
        if input.learned_columns == 0 {
            return Ok(());
        }
        let learned = derivatives.narrow(1, 0, input.learned_columns)?;
        let d_columns = tensors::matrix(scaled_users, rows.len())?.t()?.matmul(&learned)?;
        match &self.sums.d_columns {
            None => self.sums.d_columns = Some(d_columns),
            Some(sum) => {
                tensors::read(&d_columns, |more| tensors::change(sum, |sum| add_scaled(sum, more, 1.0)))??;
            }
        }
        Ok(())
    }
}

/// The rows of a block, compiled for the processor at hand. A closure would be called, not inlined, and so compiled for any processor.
struct Block<'b, 'i, 'a, 'o> {
    group: &'b mut Group<'i, 'a, 'o>,
    rows: Range<usize>,
    scores: &'b mut [f32],
    scaled_users: &'b mut [f32],
}

impl NullaryFnOnce for Block<'_, '_, '_, '_> {
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
