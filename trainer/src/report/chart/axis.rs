//! From values to pixels, with round ticks.

use super::super::format::{power, tick};

/// About how many ticks an axis has.
const TICKS: f64 = 5.0;

/// One axis: linear or logarithmic.
pub(super) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Where `low` and `high` are drawn.
    pixels: (f64, f64),
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Over the finite values, widened to round numbers.
    pub(super) fn linear(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = range(values.filter(|value| value.is_finite()), (0.0, 1.0));
        let widen = if high > low { 0.0 } else { 0.5 * high.abs().max(1e-3) };
        let (low, high) = (low - widen, high + widen);
        let step = round_step((high - low) / TICKS);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let count = (last - first).round() as usize;
        let ticks = (0..=count).map(|at| (first + at as f64) * step).map(|value| (value, tick(value, step))).collect();
        Self { low: first * step, high: last * step, logarithmic: false, pixels, ticks }
    }

    /// Over the finite values and no further, with round ticks inside.
    pub(super) fn within(values: impl Iterator<Item = f64> + Clone, pixels: (f64, f64)) -> Self {
        let (low, high) = range(values.clone().filter(|value| value.is_finite()), (0.0, 1.0));
        let widened = Self::linear(values, pixels);
        if high <= low {
            return widened;
        }
        let slack = (high - low) * 1e-9;
        let inside = |value: &(f64, String)| (low - slack..=high + slack).contains(&value.0);
        Self { low, high, ticks: widened.ticks.into_iter().filter(inside).collect(), ..widened }
    }

    /// Over the positive values, widened to powers of ten.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = range(values.filter(|value| value.is_finite() && *value > 0.0), (0.1, 1.0));
        let first = (low.log10() + 1e-9).floor();
        let last = (high.log10() - 1e-9).ceil().max(first + 1.0);
        let every = ((last - first) / TICKS).ceil() as usize;
        let decades = (0..=(last - first) as usize).step_by(every);
        let ticks = decades.map(|at| 10_f64.powf(first + at as f64)).map(|value| (value, power(value))).collect();
        Self { low: 10_f64.powf(first), high: 10_f64.powf(last), logarithmic: true, pixels, ticks }
    }

    /// Logarithmic, from the first to the last of some positive values, which are its ticks.
    pub(super) fn through(values: &[f64], pixels: (f64, f64)) -> Self {
        let (low, high) = range(values.iter().copied(), (1.0, 10.0));
        let high = if high > low { high } else { low * 2.0 };
        let ticks = values.iter().map(|&value| (value, format!("{value}"))).collect();
        Self { low, high, logarithmic: true, pixels, ticks }
    }

    /// The pixel of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.log10() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Pixels and texts.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.iter().map(|(value, text)| (self.at(*value), text.as_str()))
    }

    /// The least and the greatest value that is drawn.
    pub(super) fn bounds(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

fn range(values: impl Iterator<Item = f64>, of_nothing: (f64, f64)) -> (f64, f64) {
    values
        .fold(None, |range, value| match range {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
        .unwrap_or(of_nothing)
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|&round| round >= step * 0.999_999)
        .unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let axis = Axis::linear([0.13, f64::NAN, 0.31].into_iter(), (0.0, 100.0));
        assert_eq!(texts(&axis), ["0.10", "0.15", "0.20", "0.25", "0.30", "0.35"]);
        assert!((axis.at(0.1) - 0.0).abs() < 1e-9 && (axis.at(0.35) - 100.0).abs() < 1e-9);
        assert_eq!(
            texts(&Axis::logarithmic([0.0, 3e-6, 2e-3].into_iter(), (0.0, 1.0))),
            ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]
        );
        let within = Axis::within([0.0, 12_000.0].into_iter(), (0.0, 100.0));
        assert_eq!((texts(&within), within.at(12_000.0)), (vec!["0", "5k", "10k"], 100.0));
        assert_eq!(texts(&Axis::through(&[20.0, 500.0], (0.0, 1.0))), ["20", "500"]);
    }

    #[test]
    fn odd_values_have_an_axis_too() {
        for values in
            [vec![], vec![0.0], vec![0.3, 0.3], vec![-5.0], vec![1e9, 2e9], vec![1e-9, 3e-9], vec![f64::INFINITY]]
        {
            let (linear, logarithmic) = (
                Axis::linear(values.iter().copied(), (10.0, 0.0)),
                Axis::logarithmic(values.iter().copied(), (10.0, 0.0)),
            );
            for axis in [linear, logarithmic] {
                let finite = axis.ticks().all(|(at, text)| at.is_finite() && !text.is_empty());
                assert!(finite && (2..=12).contains(&axis.ticks().count()), "{values:?}");
            }
        }
    }
}
