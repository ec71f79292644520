//! [`Snapshot`]: all numbers of a model, copied.

use candle_core::{Device, Result, Tensor};
use pagoda_model::{Side, two_tower::TwoTower};

/// Tables and weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// By table.
    pub(super) tables: Vec<Vec<f32>>,
    /// By side and weight, in the order of their names.
    pub(super) weights: Vec<Vec<f32>>,
}

impl Snapshot {
    /// Copies a model's numbers.
    pub(crate) fn of(model: &TwoTower) -> Result<Self> {
        let weights = weights(model).iter().map(|w| w.flatten_all()?.to_vec1()).collect::<Result<_>>()?;
        Ok(Self { tables: model.tables.iter().map(|table| table.values.clone()).collect(), weights })
    }

    /// Puts them back, into the very tensors that the model and its optimiser share.
    pub(crate) fn restore(self, model: &mut TwoTower) -> Result<()> {
        for (weight, values) in weights(model).iter().zip(self.weights) {
            if !weight.is_variable() {
                candle_core::bail!("a weight that is no variable can not be restored");
            }
            let values = Tensor::from_vec(values, weight.shape(), &Device::Cpu)?;
            candle_core::Var::from_tensor(weight)?.set(&values)?;
        }
        model.tables.iter_mut().zip(self.tables).for_each(|(table, values)| table.values = values);
        Ok(())
    }
}

/// By side, in the order of their names.
pub(super) fn weights(model: &TwoTower) -> Vec<Tensor> {
    Side::BOTH.iter().flat_map(|&side| model.weights(side).into_values()).collect()
}
