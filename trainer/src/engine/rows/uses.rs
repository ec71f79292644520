//! Which rows of a table a step used, and where the gradient of each use is.

use pagoda_model::{
    Side,
    tables::{HistoryPlace, Input, Layout},
};

use super::InputGradient;

/// Rows are counted in so many bins to find bounds of parts of about as many uses.
const BINS: usize = 1024;

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
    let mut uses = Vec::new();
    for (number, gradient) in (0..).zip(gradients) {
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

/// By part, a key of each use: its row, then its number, so that sorted keys have the uses of each row together and in their order.
pub(super) fn keys_by_part(uses: &[Use], bounds: &[usize]) -> Vec<Vec<u64>> {
    let mut keys = vec![Vec::with_capacity(uses.len() / bounds.len() * 2); bounds.len() - 1];
    for (number, u) in (0_u64..).zip(uses) {
        let part = bounds.partition_point(|&bound| bound <= u.row as usize) - 1;
        keys[part].push(u64::from(u.row) << 32 | number);
    }
    keys
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

/// Bounds of consecutive parts of a table's rows, from 0 to their number, with about as many uses each.
pub(super) fn bounds(uses: &[Use], rows: usize, parts: usize) -> Vec<usize> {
    let width = rows.div_ceil(BINS).max(1);
    let mut counts = vec![0_usize; rows.div_ceil(width)];
    uses.iter().for_each(|u| counts[u.row as usize / width] += 1);
    let target = uses.len().div_ceil(parts).max(1);
    let (mut bounds, mut sum) = (vec![0], 0);
    for (bin, count) in counts.into_iter().enumerate() {
        sum += count;
        if sum >= target {
            bounds.push(((bin + 1) * width).min(rows));
            sum = 0;
        }
    }
    if bounds.last() != Some(&rows) {
        bounds.push(rows);
    }
    bounds
}
