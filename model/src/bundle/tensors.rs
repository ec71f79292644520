//! `model.safetensors`: every table and every tower weight, checked against the shapes that follow from the rest of the bundle.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{BundleError, files::TENSORS, floats, invalid};
use crate::{
    Side,
    features::Encoder,
    initial::WeightSpec,
    tables::{Layout, Table},
    two_tower::{Architecture, TwoTower},
};

/// Writes a model's numbers as little-endian f32.
pub(super) fn write(model: &TwoTower) -> Result<Vec<u8>, BundleError> {
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for table in &model.tables {
        let shape = vec![table.spec.rows, table.spec.dim];
        tensors.insert(table_name(&table.spec.name), (shape, to_bytes(&table.values)));
    }
    for side in Side::BOTH {
        for (name, weight) in model.weights(side) {
            tensors.insert(weight_name(side, &name), (weight.dims().to_vec(), to_bytes(&floats(&weight)?)));
        }
    }
    let view = |(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape, bytes)?));
    let views: Result<BTreeMap<&String, TensorView<'_>>, safetensors::SafeTensorError> =
        tensors.iter().map(|(name, (shape, bytes))| view((name, (shape.clone(), bytes.as_slice())))).collect();
    views
        .and_then(|views| safetensors::serialize(views, None::<HashMap<String, String>>))
        .map_err(|e| invalid(TENSORS, e))
}

/// Reads a model's numbers. Sizes are compared with what is expected before anything is allocated.
pub(super) fn read(bytes: &[u8], encoder: Encoder, architecture: &Architecture) -> Result<TwoTower, BundleError> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| invalid(TENSORS, e))?;
    let layout = Layout::new(&encoder, architecture);
    let tables: Result<Vec<Table>, BundleError> = layout
        .tables
        .iter()
        .map(|spec| {
            let values = read_one(&tensors, &table_name(&spec.name), &[spec.rows, spec.dim])?;
            Ok(Table { spec: spec.clone(), values })
        })
        .collect();
    let tables = tables?;
    let weights = |side| read_weights(&tensors, architecture, &layout, side);
    let weights = [weights(Side::User)?, weights(Side::Item)?];
    TwoTower::new(encoder, architecture, tables, &weights).map_err(|e| invalid(TENSORS, e))
}

fn read_weights(
    tensors: &SafeTensors<'_>,
    architecture: &Architecture,
    layout: &Layout,
    side: Side,
) -> Result<BTreeMap<String, Tensor>, BundleError> {
    let has = |name: &str| tensors.tensor(&weight_name(side, name)).is_ok();
    let specs = architecture.stored_weights(layout, side, has);
    let weight = |WeightSpec { name, shape, .. }: WeightSpec| {
        let values = read_one(tensors, &weight_name(side, &name), &shape)?;
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).map_err(|e| invalid(TENSORS, e))?;
        Ok((name, tensor))
    };
    specs.into_iter().map(weight).collect()
}

fn read_one(tensors: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, BundleError> {
    let view = tensors.tensor(name).map_err(|e| invalid(TENSORS, format!("tensor `{name}`: {e}")))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        let found = format!("tensor `{name}`: expected F32 {shape:?}, found {:?} {:?}", view.dtype(), view.shape());
        return Err(invalid(TENSORS, found));
    }
    let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => {
            Err(invalid(TENSORS, format!("tensor `{name}`: value {i} is {}, expected a finite number", values[i])))
        }
        None => Ok(values),
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn table_name(table: &str) -> String {
    format!("table.{table}")
}

fn weight_name(side: Side, weight: &str) -> String {
    format!("tower.{side}.{weight}")
}
