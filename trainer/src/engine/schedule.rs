//! [`Schedule`]: how many steps there are, and what changes from one to the next.

use crate::config::TrainConfig;

/// The steps of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    /// Examples of a step: rows or sequences.
    pub(super) per_step: usize,
    pub(super) steps: u64,
    /// Steps from one validation to the next.
    pub(super) validate_every: u64,
    /// Examples of an epoch.
    examples: u64,
    /// Steps over which rates fall; a run may end earlier.
    planned: u64,
    warmup_steps: f64,
    final_share: f64,
    /// Steps before hard negatives, and steps until they are all there.
    hard: [f64; 2],
}

impl Schedule {
    /// For so many examples an epoch, each of about `rows_each` rows. There are as many `epochs` as configured where these are not given.
    pub(super) fn new(config: &TrainConfig, examples: u64, rows_each: f64, epochs: Option<f64>) -> Self {
        let training = &config.training;
        let per_step = (training.batch_size as f64 / rows_each.max(1e-9)).round().clamp(1.0, examples.max(1) as f64);
        let rows = examples as f64 * rows_each;
        let total = (rows * f64::from(training.epochs)).min(training.examples_max as f64);
        let rows_per_step = per_step * rows_each;
        let planned = (total / rows_per_step).ceil().max(1.0) as u64;
        let steps = epochs.map_or(planned, |epochs| (epochs * examples as f64 / per_step).round().max(1.0) as u64);
        let epoch_steps = (rows / rows_per_step).ceil().max(1.0);
        let validate_every = (epoch_steps / f64::from(training.validations_per_epoch)).ceil().max(1.0) as u64;
        let planned = planned.max(steps);
        let all = planned as f64;
        Self {
            per_step: per_step as usize,
            steps,
            validate_every,
            examples,
            planned,
            warmup_steps: training.warmup_share * all,
            final_share: training.final_learning_rate_share,
            hard: [config.negatives.hard_warmup_share * all, config.negatives.hard_ramp_share * all],
        }
    }

    /// How many epochs so many steps are.
    pub(super) fn epochs(&self, steps: u64) -> f64 {
        steps as f64 * self.per_step as f64 / self.examples.max(1) as f64
    }

    /// From 0 to 1 during the warm-up, then linearly to the final share.
    pub(super) fn rate_share(&self, step: u64) -> f64 {
        let step = step as f64;
        if step < self.warmup_steps {
            return (step + 1.0) / (self.warmup_steps + 1.0);
        }
        let done = (step - self.warmup_steps) / (self.planned as f64 - 1.0 - self.warmup_steps).max(1.0);
        1.0 + done.min(1.0) * (self.final_share - 1.0)
    }

    /// How much of the hard negatives' number is drawn, from 0 to 1.
    pub(super) fn hard_share(&self, step: u64) -> f64 {
        let [warmup, ramp] = self.hard;
        ((step as f64 + 1.0 - warmup) / ramp.max(1.0)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str, examples: u64, rows_each: f64) -> Schedule {
        Schedule::new(&TrainConfig::from_toml(text).unwrap(), examples, rows_each, None)
    }

    #[test]
    fn steps_cover_the_epochs_or_the_most_examples() {
        let text = "[training]\nbatch_size = 100\nepochs = 3\nvalidations_per_epoch = 2";
        let rows = schedule(text, 1000, 1.0);
        assert_eq!((rows.per_step, rows.steps, rows.validate_every), (100, 30, 5));
        let sequences = schedule(text, 50, 20.0);
        assert_eq!((sequences.per_step, sequences.steps), (5, 30));
        assert_eq!(schedule("[training]\nbatch_size = 100\nexamples_max = 250", 1000, 1.0).steps, 3);
        assert_eq!(schedule(text, 30, 1.0).per_step, 30, "no more than there are");
    }

    #[test]
    fn epochs_are_the_same_of_more_examples_of_more_rows() {
        let config = TrainConfig::from_toml("[training]\nbatch_size = 100\nepochs = 3").unwrap();
        let first = Schedule::new(&config, 50, 4.0, None);
        // All users again, each with one more row to find.
        let again = Schedule::new(&config, 50, 5.0, Some(first.epochs(4)));
        assert_eq!((first.per_step, first.epochs(4), again.per_step, again.steps), (25, 2.0, 20, 5));
    }

    #[test]
    fn rates_rise_then_fall_to_the_final_share() {
        let text = "[training]\nbatch_size = 10\nepochs = 1\nwarmup_share = 0.1\nfinal_learning_rate_share = 0.2";
        let schedule = schedule(text, 1000, 1.0);
        let shares: Vec<f64> = (0..100).map(|step| schedule.rate_share(step)).collect();
        assert!(shares[0] < 0.1 && shares[..10].is_sorted() && shares[10] == 1.0);
        assert!(shares[10..].is_sorted_by(|a, b| a >= b) && (shares[99] - 0.2).abs() < 1e-9);
    }

    #[test]
    fn hard_negatives_come_late_and_slowly() {
        let text =
            "[training]\nbatch_size = 10\nepochs = 1\n[negatives]\nhard_warmup_share = 0.2\nhard_ramp_share = 0.4";
        let schedule = schedule(text, 1000, 1.0);
        assert_eq!([0, 18, 39, 79].map(|step| schedule.hard_share(step)), [0.0, 0.0, 0.5, 1.0]);
    }
}
