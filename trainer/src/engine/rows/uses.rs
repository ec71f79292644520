//! Which rows of a table a step used, and where the gradient of each use is.

use pagoda_model::{
    Side,
    tables::{HistoryPlace, Input, Layout},
};

use rayon::prelude::*;

use super::InputGradient;

/// Rows are counted in so many bins to find bounds of parts of about as many uses.
const BINS: usize = 1024;
/// Uses that one task makes keys of.
const PIECE: usize = 1 << 14;

/// One use of a row by an example: it receives `scale` times as many numbers as a row has, from `from` on, of a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Use {
    pub(super) row: u32,
    from: u32,
    scale: f32,
    gradient: u16,
    sequence: bool,
}

impl Use {
    #[inline(always)]
    pub(super) fn add_to(&self, gradients: &[InputGradient<'_>], sum: &mut [f32]) {
        let gradient = &gradients[usize::from(self.gradient)];
        let values = match gradient.sequence {
            Some((values, _)) if self.sequence => values,
            _ => gradient.flat,
        };
        let from = self.from as usize;
        let part = &values[from..from + sum.len()];
        sum.iter_mut().zip(part).for_each(|(s, g)| *s += self.scale * g);
    }
}

/// All uses of a table, in the order of gradients, features and entities.
pub(super) fn uses_of_table(layout: &Layout, table: usize, gradients: &[InputGradient<'_>]) -> Vec<Use> {
    let numbered = gradients.par_iter().enumerate();
    let of_each: Vec<Vec<Use>> =
        numbered.map(|(number, gradient)| uses_of_gradient(layout, table, number as u16, gradient)).collect();
    of_each.concat()
}

fn uses_of_gradient(layout: &Layout, table: usize, number: u16, gradient: &InputGradient<'_>) -> Vec<Use> {
    let mut uses = Vec::new();
    for (column, input) in layout.inputs(gradient.side).iter().enumerate() {
        let (Input::Pooled { table: of, offset, .. } | Input::Sequence { table: of, offset, .. }) = *input else {
            continue;
        };
        if of != table {
            continue;
        }
        let history = layout.history().filter(|h| gradient.side == Side::User && h.column == column);
        match history.zip(gradient.sequence) {
            Some((history, (_, length))) => push_sequences(gradient, number, history, length, &mut uses),
            None => {
                let place = Pooled { number, column, offset, width: layout.input_dim(gradient.side) };
                push_pooled(gradient, &place, &mut uses);
            }
        }
    }
    uses
}

struct Pooled {
    number: u16,
    column: usize,
    offset: usize,
    width: usize,
}

/// Each row of a bag has its share in the mean.
fn push_pooled(gradient: &InputGradient<'_>, place: &Pooled, uses: &mut Vec<Use>) {
    let column = &gradient.batch.columns()[place.column];
    for (local, entity) in gradient.entities.clone().enumerate() {
        let bag = column.bag(entity);
        let scale = 1.0 / bag.len().max(1) as f32;
        let from = (local * place.width + place.offset) as u32;
        uses.extend(bag.iter().map(|&row| Use { row, from, scale, gradient: place.number, sequence: false }));
    }
}

/// Each item has its position.
fn push_sequences(
    gradient: &InputGradient<'_>,
    number: u16,
    history: &HistoryPlace,
    length: usize,
    uses: &mut Vec<Use>,
) {
    let column = &gradient.batch.columns()[history.column];
    let (scale, dim) = (1.0 / history.rows_per_item as f32, history.shape.dim);
    for (local, entity) in gradient.entities.clone().enumerate() {
        for (position, bag) in column.bag(entity).chunks_exact(history.rows_per_item).enumerate() {
            let from = ((local * length + position) * dim) as u32;
            uses.extend(bag.iter().map(|&row| Use { row, from, scale, gradient: number, sequence: true }));
        }
    }
}

/// Keys of uses by part, in pieces that were made in parallel: a part's keys are those of all pieces.
pub(super) struct Keys(Vec<Vec<Vec<u64>>>);

impl Keys {
    /// Of each use its row, then its number, so that sorted keys have the uses of each row together and in their order.
    pub(super) fn new(uses: &[Use], parts: &Parts) -> Self {
        let pieces = uses.par_chunks(PIECE).enumerate().map(|(piece, uses)| {
            let mut keys = vec![Vec::with_capacity(2 * uses.len() / parts.len()); parts.len()];
            for (number, u) in ((piece * PIECE) as u64..).zip(uses) {
                keys[parts.of(u.row)].push(u64::from(u.row) << 32 | number);
            }
            keys
        });
        Self(pieces.collect())
    }

    /// A part's, sorted.
    pub(super) fn of(&self, part: usize) -> Vec<u64> {
        let pieces = self.0.iter().map(|piece| piece[part].as_slice());
        let mut keys = pieces.collect::<Vec<_>>().concat();
        keys.sort_unstable();
        keys
    }
}

/// The row of a key.
#[inline(always)]
pub(super) const fn row_of(key: u64) -> usize {
    (key >> 32) as usize
}

/// The number of a key's use.
#[inline(always)]
pub(super) const fn use_of(key: u64) -> usize {
    (key & u32::MAX as u64) as usize
}

/// Consecutive parts of a table's rows, with about as many uses each.
pub(super) struct Parts {
    /// From 0 to the number of rows.
    pub(super) bounds: Vec<usize>,
    /// By bin of `1 << shift` rows: its part.
    by_bin: Vec<u16>,
    shift: u32,
}

impl Parts {
    /// About `parts` of them.
    pub(super) fn new(uses: &[Use], rows: usize, parts: usize) -> Self {
        let shift = rows.div_ceil(BINS).next_power_of_two().trailing_zeros();
        let bins = (rows >> shift) + 1;
        let counts = counts(uses, bins, shift);
        let target = uses.len().div_ceil(parts).max(1);
        let (mut bounds, mut by_bin, mut sum) = (vec![0], Vec::with_capacity(bins), 0);
        for (bin, count) in counts.into_iter().enumerate() {
            by_bin.push((bounds.len() - 1) as u16);
            sum += count;
            let end = (bin + 1) << shift;
            if sum >= target && end < rows {
                bounds.push(end);
                sum = 0;
            }
        }
        bounds.push(rows);
        Self { bounds, by_bin, shift }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The part of a row.
    #[inline(always)]
    fn of(&self, row: u32) -> usize {
        usize::from(self.by_bin[row as usize >> self.shift])
    }
}

/// How many uses the rows of each bin have.
fn counts(uses: &[Use], bins: usize, shift: u32) -> Vec<usize> {
    let mut counts = vec![0; bins];
    uses.iter().for_each(|u| counts[u.row as usize >> shift] += 1);
    counts
}
