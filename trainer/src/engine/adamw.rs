//! AdamW for the towers' weights (Loshchilov and Hutter, ICLR 2019), with a state that can be kept and restored.

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPSILON: f64 = 1e-8;

/// The optimiser of the towers' weights and its state.
pub(super) struct AdamW {
    variables: Vec<Var>,
    /// First and second moments by variable.
    moments: Vec<[Vec<f32>; 2]>,
    steps: u64,
    weight_decay: f64,
    /// The gradient is scaled down to this norm; 0: never.
    norm_max: f64,
}

impl AdamW {
    /// No gradients seen yet.
    pub(super) fn new(variables: Vec<Var>, weight_decay: f64, norm_max: f64) -> Self {
        let moments = variables.iter().map(|v| [vec![0.0; v.elem_count()], vec![0.0; v.elem_count()]]).collect();
        Self { variables, moments, steps: 0, weight_decay, norm_max }
    }

    /// What it optimises.
    pub(super) fn variables(&self) -> &[Var] {
        &self.variables
    }

    /// The moments by variable, and how many steps were taken, to be kept.
    pub(super) fn state(&self) -> (&[[Vec<f32>; 2]], u64) {
        (&self.moments, self.steps)
    }

    /// The same, to be restored.
    pub(super) fn state_mut(&mut self) -> (&mut [[Vec<f32>; 2]], &mut u64) {
        (&mut self.moments, &mut self.steps)
    }

    /// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; w -= rate (m' / (sqrt(v') + epsilon) + decay w), with the moments'
    /// bias corrected; only matrices decay.
    pub(super) fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        self.steps += 1;
        let flat = |v: &Var| gradients.get(v).map(|g| g.flatten_all()?.to_vec1::<f32>()).transpose();
        let gradients: Vec<Option<Vec<f32>>> = self.variables.iter().map(flat).collect::<Result<_>>()?;
        let scale = self.scale(&gradients);
        let corrections = [BETA1, BETA2].map(|beta| 1.0 - beta.powi(i32::try_from(self.steps).unwrap_or(i32::MAX)));
        for ((variable, gradient), moments) in self.variables.iter().zip(gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            let mut values: Vec<f32> = variable.flatten_all()?.to_vec1()?;
            let decay = if variable.rank() > 1 { self.weight_decay } else { 0.0 };
            let [first, second] = moments;
            for ((w, g), (m, v)) in values.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
                let g = f64::from(g) * scale;
                *m = (BETA1 * f64::from(*m) + (1.0 - BETA1) * g) as f32;
                *v = (BETA2 * f64::from(*v) + (1.0 - BETA2) * g * g) as f32;
                let move_ = f64::from(*m) / corrections[0] / ((f64::from(*v) / corrections[1]).sqrt() + EPSILON);
                *w -= (rate * (move_ + decay * f64::from(*w))) as f32;
            }
            variable.set(&Tensor::from_vec(values, variable.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }

    fn scale(&self, gradients: &[Option<Vec<f32>>]) -> f64 {
        let squares = gradients.iter().flatten().flatten().map(|&g| f64::from(g) * f64::from(g));
        let norm = squares.sum::<f64>().sqrt();
        if self.norm_max > 0.0 && norm > self.norm_max { self.norm_max / norm } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient_of(variable: &Var, by: f32) -> GradStore {
        // d/dw of sum(by w) is `by` everywhere.
        (variable.as_tensor() * f64::from(by)).unwrap().sum_all().unwrap().backward().unwrap()
    }

    #[test]
    fn weights_move_by_the_formula() {
        let variable = Var::from_vec(vec![1.0_f32, -2.0], (1, 2), &Device::Cpu).unwrap();
        let mut optimiser = AdamW::new(vec![variable.clone()], 0.1, 0.0);
        optimiser.step(&gradient_of(&variable, 3.0), 0.01).unwrap();
        // After one step the corrected moments are g and g^2, so a weight moves by the rate and by its decay.
        let values: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
        assert!((values[0] - (1.0 - 0.01 * (1.0 + 0.1))).abs() < 1e-6, "{values:?}");
        assert!((values[1] - (-2.0 - 0.01 * (1.0 - 0.2))).abs() < 1e-6, "{values:?}");
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_not() {
        let variable = Var::from_vec(vec![0.0_f32; 4], 4, &Device::Cpu).unwrap();
        let optimiser = AdamW::new(vec![variable], 0.0, 1.0);
        assert!((optimiser.scale(&[Some(vec![3.0; 4])]) - 1.0 / 6.0).abs() < 1e-9);
        assert!((optimiser.scale(&[Some(vec![0.1; 4])]) - 1.0).abs() < 1e-12);
    }
}
