//! What tests of gradients share: numbers that look random, and the comparison with finite differences.

use std::ops::Deref;

use candle_core::{Device, Result, Tensor, Var};

/// Numbers between -1 and 1 that look random and are the same everywhere.
pub(crate) fn noise(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Compares the gradient of sum(f(inputs) weights), for fixed weights that look random, with central differences, number by number.
pub(crate) fn assert_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    const STEP: f32 = 4e-3;
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let output = f(&tensors).unwrap();
    let weights = noise(output.dims(), 99);
    let gradients = (output * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let value = |inputs: &[Tensor]| {
        let y: Vec<f32> = f(inputs).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let w: Vec<f32> = weights.flatten_all().unwrap().to_vec1().unwrap();
        y.iter().zip(w).map(|(y, w)| f64::from(*y) * f64::from(w)).sum::<f64>()
    };
    for (number, var) in vars.iter().enumerate() {
        let found: Vec<f32> =
            gradients.get(var.deref()).expect("an input has a gradient").flatten_all().unwrap().to_vec1().unwrap();
        let at: Vec<f32> = inputs[number].flatten_all().unwrap().to_vec1().unwrap();
        for i in 0..at.len() {
            let moved = |by: f32| {
                let mut values = at.clone();
                values[i] += by;
                let mut inputs = inputs.to_vec();
                inputs[number] = Tensor::from_vec(values, inputs[number].shape(), &Device::Cpu).unwrap();
                value(&inputs)
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
            let off = (f64::from(found[i]) - expected).abs();
            assert!(off < 2e-3 + 1e-2 * expected.abs(), "input {number}[{i}]: {} is not {expected}", found[i]);
        }
    }
}
