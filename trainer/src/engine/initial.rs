//! The model before the first step, from the seed alone.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};
use pagoda_model::{
    Side,
    features::Encoder,
    tables::{Input, Layout, Table, TableSpec},
    tower::Tower,
    two_tower::{Architecture, TwoTower},
};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// The standard deviation of rows, and of the output's bias: an embedding of nothing must have a direction.
const ROW_DEVIATION: f32 = 0.1;
const OUTPUT_BIAS_DEVIATION: f32 = 0.05;

/// A model and its trainable weights, which share memory with its towers.
pub(crate) fn initial_model(
    encoder: Encoder,
    architecture: &Architecture,
    rng: &mut ChaCha8Rng,
) -> Result<(TwoTower, Vec<Var>)> {
    let layout = Layout::new(&encoder, &architecture.dims);
    let tables = layout.tables.iter().map(|spec| table(spec, rng)).collect();
    let mut variables = Vec::new();
    let mut tower = |side| initial_tower(&layout, side, architecture, rng, &mut variables);
    let towers = [tower(Side::User)?, tower(Side::Item)?];
    Ok((TwoTower { encoder, layout, tables, towers }, variables))
}

/// Normal rows; the out-of-vocabulary row of ids begins at zero, which says nothing of an entity.
fn table(spec: &TableSpec, rng: &mut ChaCha8Rng) -> Table {
    let mut values = normal(spec.rows * spec.dim, ROW_DEVIATION, rng);
    if spec.is_ids {
        values[..spec.dim].fill(0.0);
    }
    Table { spec: spec.clone(), values }
}

fn initial_tower(
    layout: &Layout,
    side: Side,
    architecture: &Architecture,
    rng: &mut ChaCha8Rng,
    variables: &mut Vec<Var>,
) -> Result<Tower> {
    let shape = architecture.tower(layout.input_dim(side));
    let output = format!("layer{}", architecture.hidden.len());
    let mut weights = BTreeMap::new();
    for (name, dims) in shape.weights() {
        let values = match name.as_str() {
            "skip" => skip(layout, side, architecture.embedding_dim, rng),
            name if name == format!("{output}.bias") => normal(dims[0], OUTPUT_BIAS_DEVIATION, rng),
            name if name.ends_with("bias") => vec![0.0; dims[0]],
            // The output begins small, so that the skip leads.
            name if name == format!("{output}.weight") => normal(dims[0] * dims[1], 0.1 / (dims[0] as f32).sqrt(), rng),
            _ => normal(dims[0] * dims[1], (2.0 / dims[0] as f32).sqrt(), rng),
        };
        let variable = Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?)?;
        weights.insert(name, variable.as_tensor().clone());
        variables.push(variable);
    }
    Tower::new(&shape, &weights)
}

/// `[input_dim, embedding_dim]`: the identity on the rows of ids and histories, so that a user begins as the mean of the items of the
/// history; small normal numbers elsewhere.
fn skip(layout: &Layout, side: Side, embedding_dim: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let width = layout.input_dim(side);
    let mut values = normal(width * embedding_dim, 1.0 / (width as f32).sqrt(), rng);
    for input in layout.inputs(side) {
        let Input::Pooled { table, offset, dim } = *input else { continue };
        if layout.tables[table].is_ids {
            values[offset * embedding_dim..(offset + dim) * embedding_dim].fill(0.0);
            (0..dim.min(embedding_dim)).for_each(|i| values[(offset + i) * embedding_dim + i] = 1.0);
        }
    }
    values
}

fn normal(count: usize, deviation: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut draw = || -> f32 { StandardNormal.sample(rng) };
    (0..count).map(|_| draw() * deviation).collect()
}
