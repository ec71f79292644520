//! Row-wise Adagrad for embedding rows, updated sparsely: only the rows that a step used are read or written.

use std::ops::Range;

use pagoda_model::{
    Side,
    features::EncodedBatch,
    tables::{Input, Layout, Table},
};
use rayon::prelude::*;

const EPSILON: f32 = 1e-8;
/// Parts of a table that are updated in parallel.
const PARTS: usize = 16;

/// The gradient of one side's input matrix, `[batch, input_dim]`, and the batch that it was made from.
pub(super) struct InputGradient<'a> {
    pub(super) side: Side,
    pub(super) batch: &'a EncodedBatch,
    pub(super) values: &'a [f32],
}

/// One use of a row by an example: it receives `scale` times numbers `from..from + dim` of a gradient.
#[derive(Clone, Copy)]
struct Use {
    row: u32,
    gradient: u32,
    from: u32,
    scale: f32,
}

/// For every row r with gradient g: state_r += mean(g^2); r -= rate g / sqrt(state_r).
pub(super) struct RowAdagrad {
    states: Vec<Vec<f32>>,
}

impl RowAdagrad {
    /// No gradients seen yet.
    pub(super) fn new(tables: &[Table]) -> Self {
        Self { states: tables.iter().map(|t| vec![0.0; t.spec.rows]).collect() }
    }

    /// One step of all tables. Deterministic for any number of threads: a row's uses are summed in their order.
    pub(super) fn step(&mut self, tables: &mut [Table], layout: &Layout, gradients: &[InputGradient<'_>], rate: f32) {
        for (number, (table, state)) in tables.iter_mut().zip(&mut self.states).enumerate() {
            let uses = sorted_uses(layout, number, gradients);
            let dim = table.spec.dim;
            let parts = parts(&uses, &mut table.values, state, dim);
            parts.into_par_iter().for_each(|part| part.update(dim, gradients, rate));
        }
    }
}

/// Consecutive rows of a table with all their uses.
struct Part<'a> {
    first_row: usize,
    values: &'a mut [f32],
    state: &'a mut [f32],
    uses: &'a [Use],
}

impl Part<'_> {
    fn update(self, dim: usize, gradients: &[InputGradient<'_>], rate: f32) {
        let mut sum = vec![0.0; dim];
        for uses in self.uses.chunk_by(|a, b| a.row == b.row) {
            sum_uses(uses, gradients, &mut sum);
            let row = uses[0].row as usize - self.first_row;
            let state = &mut self.state[row];
            *state += sum.iter().map(|g| g * g).sum::<f32>() / dim as f32;
            let step = rate / (state.sqrt() + EPSILON);
            self.values[row * dim..(row + 1) * dim].iter_mut().zip(&sum).for_each(|(v, g)| *v -= step * g);
        }
    }
}

fn sum_uses(uses: &[Use], gradients: &[InputGradient<'_>], sum: &mut [f32]) {
    sum.fill(0.0);
    for u in uses {
        let from = u.from as usize;
        let gradient = &gradients[u.gradient as usize].values[from..from + sum.len()];
        sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += u.scale * g);
    }
}

fn sorted_uses(layout: &Layout, table: usize, gradients: &[InputGradient<'_>]) -> Vec<Use> {
    let mut uses = Vec::new();
    for (number, gradient) in gradients.iter().enumerate() {
        for (column, input) in layout.inputs(gradient.side).iter().enumerate() {
            if matches!(input, Input::Pooled { table: t, .. } if *t == table) {
                let place = Place {
                    gradient: number as u32,
                    column,
                    offset: input.range().start,
                    width: layout.input_dim(gradient.side),
                };
                push_uses(gradient.batch, &place, &mut uses);
            }
        }
    }
    uses.par_sort_by_key(|u| u.row);
    uses
}

struct Place {
    gradient: u32,
    column: usize,
    offset: usize,
    width: usize,
}

fn push_uses(batch: &EncodedBatch, place: &Place, uses: &mut Vec<Use>) {
    let column = &batch.columns()[place.column];
    for example in 0..batch.len() {
        let bag = column.bag(example);
        let scale = 1.0 / bag.len().max(1) as f32;
        let from = (example * place.width + place.offset) as u32;
        uses.extend(bag.iter().map(|&row| Use { row, gradient: place.gradient, from, scale }));
    }
}

/// Cuts a table into parts of about as many uses each, at row boundaries.
fn parts<'a>(uses: &'a [Use], mut values: &'a mut [f32], mut state: &'a mut [f32], dim: usize) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut first_row = 0;
    for range in use_ranges(uses) {
        let uses = &uses[range];
        let end_row = uses[uses.len() - 1].row as usize + 1;
        let (part_values, rest_values) = values.split_at_mut((end_row - first_row) * dim);
        let (part_state, rest_state) = state.split_at_mut(end_row - first_row);
        (values, state) = (rest_values, rest_state);
        parts.push(Part { first_row, values: part_values, state: part_state, uses });
        first_row = end_row;
    }
    parts
}

fn use_ranges(uses: &[Use]) -> Vec<Range<usize>> {
    let target = uses.len().div_ceil(PARTS).max(1);
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < uses.len() {
        let last_row = uses[(start + target - 1).min(uses.len() - 1)].row;
        let end = start + uses[start..].partition_point(|u| u.row <= last_row);
        ranges.push(start..end);
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pagoda_model::{
        Entity, FeatureValue, Schema,
        features::{Encoder, VocabularyBuilder, VocabularyLimits},
        tables::FeatureDims,
    };

    use super::*;

    const SCHEMA: &str = r#"
    user = { id = "u", feature = [{ name = "history", kind = "sequence" }] }
    item = { id = "i", feature = [{ name = "price", kind = "numeric" }, { name = "i", kind = "id" }] }
    "#;

    fn encoder() -> Encoder {
        let schema = Schema::from_toml(SCHEMA).unwrap();
        let mut builder = VocabularyBuilder::new(&schema);
        ["a", "a", "a", "b", "b", "c"].iter().for_each(|id| builder.observe_id(Side::Item, id));
        let vocabularies = builder.finish(VocabularyLimits { min_count: 1, size_max: 10 });
        Encoder::new(Arc::new(schema), &vocabularies).unwrap()
    }

    fn batches(encoder: &Encoder) -> [EncodedBatch; 2] {
        let mut batches = Side::BOTH.map(|side| encoder.empty_batch(side));
        for history in [&["a", "c"][..], &[]] {
            let ids = FeatureValue::Texts(history.iter().map(|id| (*id).to_owned()).collect());
            let user = Entity { id: String::new(), features: [("history".to_owned(), ids)].into() };
            encoder.encode_into(Side::User, &user, &mut batches[0]).unwrap();
        }
        ["a", "stranger", "a"]
            .iter()
            .for_each(|id| encoder.encode_into(Side::Item, &Entity::of_id(*id), &mut batches[1]).unwrap());
        batches
    }

    #[test]
    fn rows_move_by_the_formula_and_unused_rows_stay_bit_for_bit() {
        let encoder = encoder();
        let dims = FeatureDims {
            id: 2,
            categorical: 2,
            categorical_list: 2,
            bucket: 2,
            text: 2,
            features: Default::default(),
        };
        let layout = Layout::new(&encoder, &dims);
        let mut tables: Vec<Table> = layout
            .tables
            .iter()
            .map(|spec| Table { spec: spec.clone(), values: vec![1.0; spec.rows * spec.dim] })
            .collect();
        let batches = batches(&encoder);
        let (users, items) = ([1.0, 2.0, 9.0, 9.0], [9.0, 9.0, 3.0, 4.0, 9.0, 9.0, 5.0, 6.0, 9.0, 9.0, 7.0, 8.0]);
        let gradients = [
            InputGradient { side: Side::User, batch: &batches[0], values: &users },
            InputGradient { side: Side::Item, batch: &batches[1], values: &items },
        ];
        let mut adagrad = RowAdagrad::new(&tables);
        let mut states = [0.0_f32; 4];
        let mut expected = [1.0_f32; 8];
        // Rows: 0 the stranger's, 1 a's (half of the history of two, and two items), 2 b's (unused), 3 c's.
        let sums = [[5.0, 6.0], [0.5 + 3.0 + 7.0, 1.0 + 4.0 + 8.0], [0.0, 0.0], [0.5, 1.0]];
        for _ in 0..2 {
            adagrad.step(&mut tables, &layout, &gradients, 0.1);
            for row in [0, 1, 3] {
                states[row] += (sums[row][0] * sums[row][0] + sums[row][1] * sums[row][1]) / 2.0;
                (0..2).for_each(|k| expected[row * 2 + k] -= 0.1 * sums[row][k] / states[row].sqrt());
            }
        }
        assert_eq!(tables[0].values[4..6], [1.0, 1.0]);
        tables[0]
            .values
            .iter()
            .zip(expected)
            .for_each(|(found, expected)| assert!((found - expected).abs() < 1e-6, "{found} {expected}"));
    }

    #[test]
    fn parts_cover_every_use_once_and_never_split_a_row() {
        for skew in [1, 3, 1000] {
            let uses: Vec<Use> =
                (0..999_u32).map(|i| Use { row: i / skew, gradient: 0, from: i, scale: 1.0 }).collect();
            let ranges = use_ranges(&uses);
            assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), uses.len());
            assert!(ranges.windows(2).all(|w| w[0].end == w[1].start && uses[w[0].end - 1].row < uses[w[1].start].row));
        }
        assert!(use_ranges(&[]).is_empty());
    }
}
