//! [`Temperature`]: by which cosines are divided; fixed, or learned and never below a floor.

use crate::config::LossConfig;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPSILON: f64 = 1e-8;

/// A temperature. Its logarithm is what is learned, by Adam.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Temperature {
    log: f64,
    floor: f64,
    learned: bool,
    moments: [f64; 2],
    steps: i32,
}

impl Temperature {
    /// As configured.
    pub(super) fn new(config: &LossConfig) -> Self {
        let floor = f64::from(config.temperature_floor);
        let learned = config.temperature_learned;
        Self { log: f64::from(config.temperature).ln(), floor, learned, moments: [0.0; 2], steps: 0 }
    }

    /// What cosines are divided by.
    pub(super) fn value(&self) -> f32 {
        self.log.exp() as f32
    }

    /// Moves by the derivative of the loss.
    pub(super) fn step(&mut self, derivative: f32, rate: f64) {
        if !self.learned {
            return;
        }
        self.steps = self.steps.saturating_add(1);
        let gradient = f64::from(derivative) * self.log.exp();
        let [first, second] = &mut self.moments;
        *first = BETA1 * *first + (1.0 - BETA1) * gradient;
        *second = BETA2 * *second + (1.0 - BETA2) * gradient * gradient;
        let (m, v) = (*first / (1.0 - BETA1.powi(self.steps)), *second / (1.0 - BETA2.powi(self.steps)));
        self.log = (self.log - rate * m / (v.sqrt() + EPSILON)).max(self.floor.ln());
    }

    /// The numbers of its state.
    pub(super) fn state(&self) -> [f64; 4] {
        [self.log, self.moments[0], self.moments[1], f64::from(self.steps)]
    }

    /// Puts back what was kept.
    pub(super) fn restore(&mut self, [log, first, second, steps]: [f64; 4]) {
        (self.log, self.moments, self.steps) = (log, [first, second], steps as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;

    fn temperature(text: &str) -> Temperature {
        Temperature::new(&TrainConfig::from_toml(&format!("[loss]\n{text}")).unwrap().loss)
    }

    #[test]
    fn it_goes_down_the_gradient_and_stops_at_the_floor() {
        let mut learned = temperature("temperature = 0.1\ntemperature_learned = true\ntemperature_floor = 0.05");
        learned.step(1.0, 0.01);
        assert!((learned.value() - 0.1 * (-0.01_f32).exp()).abs() < 1e-6, "{}", learned.value());
        (0..1000).for_each(|_| learned.step(1.0, 0.01));
        assert!((learned.value() - 0.05).abs() < 1e-7);
        let mut again = temperature("temperature = 0.1");
        again.restore(learned.state());
        assert_eq!(again.value(), learned.value());
    }

    #[test]
    fn a_fixed_one_stays() {
        let mut fixed = temperature("temperature = 0.1");
        fixed.step(1.0, 0.01);
        assert!((fixed.value() - 0.1).abs() < 1e-9);
    }
}
