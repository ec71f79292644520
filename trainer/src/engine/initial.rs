//! The model before the first step, from the seed alone.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};
use pagoda_model::{
    Side,
    features::Encoder,
    tables::{Layout, Table, TableSpec},
    two_tower::{Architecture, TwoTower},
};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// The standard deviation of rows.
const ROW_DEVIATION: f32 = 0.1;

/// A model and its trainable weights, which share memory with its towers.
pub(crate) fn initial_model(
    encoder: Encoder,
    architecture: &Architecture,
    rng: &mut ChaCha8Rng,
) -> Result<(TwoTower, Vec<Var>)> {
    let layout = Layout::new(&encoder, architecture);
    let tables = layout.tables.iter().map(|spec| table(spec, rng)).collect();
    let mut variables = Vec::new();
    let mut weights = |side| initial_weights(&layout, side, architecture, rng, &mut variables);
    let weights = [weights(Side::User)?, weights(Side::Item)?];
    Ok((TwoTower::new(encoder, architecture, tables, &weights)?, variables))
}

/// Normal rows; those of unknown ids begin at zero, which says nothing of an entity.
fn table(spec: &TableSpec, rng: &mut ChaCha8Rng) -> Table {
    let mut values: Vec<f32> = (0..spec.rows * spec.dim).map(|_| normal(rng) * ROW_DEVIATION).collect();
    values[..spec.unknown_rows * spec.dim].fill(0.0);
    Table { spec: spec.clone(), values }
}

fn initial_weights(
    layout: &Layout,
    side: Side,
    architecture: &Architecture,
    rng: &mut ChaCha8Rng,
    variables: &mut Vec<Var>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut weights = BTreeMap::new();
    for spec in architecture.weights(layout, side) {
        let values = spec.initial_values(|| normal(rng));
        let variable = Var::from_tensor(&Tensor::from_vec(values, spec.shape, &Device::Cpu)?)?;
        weights.insert(spec.name, variable.as_tensor().clone());
        variables.push(variable);
    }
    Ok(weights)
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}
