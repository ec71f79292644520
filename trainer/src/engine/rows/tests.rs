//! Rows move by the formulas, unused rows not at all.

use std::sync::Arc;

use pagoda_model::{
    Entity, FeatureValue, Schema,
    features::{Encoder, VocabularyBuilder, VocabularyLimits},
    two_tower::Architecture,
};

use super::*;
use crate::config::TrainConfig;

const SCHEMA: &str = r#"
user = { id = "u", feature = [{ name = "history", kind = "sequence" }] }
item = { id = "i", feature = [{ name = "price", kind = "numeric" }, { name = "i", kind = "id" }] }
"#;

fn encoder() -> Encoder {
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let mut builder = VocabularyBuilder::new(&schema);
    ["a", "a", "a", "b", "b", "c"].iter().for_each(|id| builder.observe_id(Side::Item, id));
    let vocabularies = builder.finish(VocabularyLimits { min_count: 1, size_max: 10, oov_rows: 1 });
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

fn architecture(pooling: &str) -> Architecture {
    let text = format!("[model.dims]\nid = 2\n[model.history]\npooling = \"{pooling}\"");
    TrainConfig::from_toml(&text).unwrap().model
}

fn tables(layout: &Layout) -> Vec<Table> {
    let ones = |spec: &pagoda_model::tables::TableSpec| vec![1.0; spec.rows * spec.dim];
    layout.tables.iter().map(|spec| Table { spec: spec.clone(), values: ones(spec) }).collect()
}

/// Rows: 0 the stranger's, 1 a's, 2 b's (unused), 3 c's; the sum of each one's gradients.
const SUMS: [[f32; 2]; 4] = [[5.0, 6.0], [0.5 + 3.0 + 7.0, 1.0 + 4.0 + 8.0], [0.0, 0.0], [0.5, 1.0]];
const ITEMS: [f32; 12] = [9.0, 9.0, 3.0, 4.0, 9.0, 9.0, 5.0, 6.0, 9.0, 9.0, 7.0, 8.0];

fn two_steps(optimizer: RowOptimizer) -> Vec<f32> {
    let encoder = encoder();
    let layout = Layout::new(&encoder, &architecture("mean"));
    let mut tables = tables(&layout);
    let batches = batches(&encoder);
    let gradient = |side: Side, flat, n| InputGradient {
        side,
        batch: &batches[side.index()],
        entities: 0..n,
        flat,
        sequence: None,
    };
    let gradients = [gradient(Side::User, &[1.0, 2.0, 9.0, 9.0][..], 2), gradient(Side::Item, &ITEMS, 3)];
    let mut optimiser = RowOptimiser::new(optimizer, &tables);
    (0..2).for_each(|_| optimiser.step(&mut tables, &layout, &gradients, 0.1));
    tables.remove(0).values
}

#[test]
fn adagrad_moves_rows_by_its_formula_and_unused_rows_stay_bit_for_bit() {
    let found = two_steps(RowOptimizer::Adagrad);
    let (mut states, mut expected) = ([0.0_f32; 4], [1.0_f32; 8]);
    for _ in 0..2 {
        for row in [0, 1, 3] {
            states[row] += (SUMS[row][0] * SUMS[row][0] + SUMS[row][1] * SUMS[row][1]) / 2.0;
            (0..2).for_each(|k| expected[row * 2 + k] -= 0.1 * SUMS[row][k] / states[row].sqrt());
        }
    }
    assert_eq!(found[4..6], [1.0, 1.0]);
    found.iter().zip(expected).for_each(|(f, e)| assert!((f - e).abs() < 1e-6, "{f} {e}"));
}

#[test]
fn lazy_adam_moves_rows_by_its_formula() {
    let found = two_steps(RowOptimizer::Adam);
    // The same gradient twice: corrected moments are g and g^2, so each step is the rate.
    assert_eq!(found[4..6], [1.0, 1.0]);
    for row in [0, 1, 3] {
        (0..2).for_each(|k| assert!((found[row * 2 + k] - 0.8).abs() < 1e-5, "{found:?}"));
    }
}

#[test]
fn positions_of_sequences_reach_the_rows_of_their_items() {
    let encoder = encoder();
    let layout = Layout::new(&encoder, &architecture("recency"));
    let mut tables = tables(&layout);
    let batches = batches(&encoder);
    // Two sequences of up to two positions; the second has none.
    let sequence = [3.0, 4.0, 0.5, 1.0, 9.0, 9.0, 9.0, 9.0];
    let flat = vec![9.0; 2 * layout.input_dim(Side::User)];
    let gradient = InputGradient {
        side: Side::User,
        batch: &batches[0],
        entities: 0..2,
        flat: &flat,
        sequence: Some((&sequence, 2)),
    };
    RowOptimiser::new(RowOptimizer::Adagrad, &tables).step(&mut tables, &layout, &[gradient], 0.1);
    let rms = |g: [f32; 2]| ((g[0] * g[0] + g[1] * g[1]) / 2.0).sqrt();
    for (row, g) in [(1, [3.0, 4.0]), (3, [0.5, 1.0])] {
        (0..2).for_each(|k| {
            let found = tables[0].values[row * 2 + k];
            assert!((found - (1.0 - 0.1 * g[k] / rms(g))).abs() < 1e-6, "row {row}: {found}");
        });
    }
    assert_eq!((&tables[0].values[..2], &tables[0].values[4..6]), (&[1.0, 1.0][..], &[1.0, 1.0][..]));
}

#[test]
fn bounds_cover_all_rows_and_share_the_uses() {
    for rows in [1, 7, 1000, 5000] {
        let encoder = encoder();
        let layout = Layout::new(&encoder, &architecture("mean"));
        let batches = batches(&encoder);
        let gradient =
            InputGradient { side: Side::Item, batch: &batches[1], entities: 0..3, flat: &ITEMS, sequence: None };
        let uses = uses_of_table(&layout, 0, &[gradient]);
        assert_eq!(uses.len(), 3);
        let parts = Parts::new(&uses, rows.max(4), 16);
        let keys = Keys::new(&uses, &parts);
        assert_eq!((0..parts.len()).map(|part| keys.of(part).len()).sum::<usize>(), 3);
        let bounds = parts.bounds;
        assert_eq!((bounds[0], *bounds.last().unwrap()), (0, rows.max(4)));
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
    }
}
