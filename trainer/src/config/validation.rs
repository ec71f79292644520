//! What is wrong with a configuration.

use std::fmt::Display;

use super::TrainConfig;

/// Every fault, each naming its key.
pub(super) fn faults(config: &TrainConfig) -> Vec<String> {
    let mut faults: Vec<String> = config.model.faults().into_iter().map(|fault| format!("model.{fault}")).collect();
    faults
        .extend(numbers(config).into_iter().filter_map(|(key, value, low, high)| out_of_range(key, value, low, high)));
    faults.extend(counts(config).into_iter().filter_map(|(key, value, low, high)| out_of_range(key, value, low, high)));
    faults.extend(objective_faults(config));
    faults.extend(negative_faults(config));
    faults
}

fn numbers(config: &TrainConfig) -> Vec<(&'static str, f64, f64, f64)> {
    let TrainConfig { split, training, loss, negatives, .. } = config;
    vec![
        ("split.test_share", split.test_share, 0.001, 0.9),
        ("split.validation_share", split.validation_share, 0.0, 0.5),
        ("training.id_dropout", training.id_dropout, 0.0, 1.0),
        ("training.history_dropout", training.history_dropout, 0.0, 1.0),
        ("training.dropout", training.dropout, 0.0, 0.9),
        ("training.warmup_share", training.warmup_share, 0.0, 1.0),
        ("training.final_learning_rate_share", training.final_learning_rate_share, 0.0, 1.0),
        ("training.gradient_norm_max", training.gradient_norm_max, 0.0, 1e9),
        ("training.weight_decay", training.weight_decay, 0.0, 1.0),
        ("training.row_learning_rate", f64::from(training.row_learning_rate), 1e-9, 100.0),
        ("training.tower_learning_rate", training.tower_learning_rate, 1e-9, 10.0),
        ("loss.temperature", f64::from(loss.temperature), 0.001, 100.0),
        ("loss.temperature_floor", f64::from(loss.temperature_floor), 0.001, 100.0),
        ("loss.margin", f64::from(loss.margin), -2.0, 2.0),
        ("loss.negative_weight", f64::from(loss.negative_weight), 0.0, 1e6),
        ("negatives.in_batch", negatives.in_batch, 0.0, 1e6),
        ("negatives.uniform", negatives.uniform, 0.0, 1e6),
        ("negatives.popularity", negatives.popularity, 0.0, 1e6),
        ("negatives.popularity_power", negatives.popularity_power, 0.0, 4.0),
        ("negatives.cache", negatives.cache, 0.0, 1e6),
        ("negatives.hard", negatives.hard, 0.0, 1e6),
        ("negatives.exposed", negatives.exposed, 0.0, 1e6),
        ("negatives.hard_warmup_share", negatives.hard_warmup_share, 0.0, 1.0),
        ("negatives.hard_ramp_share", negatives.hard_ramp_share, 0.0, 1.0),
    ]
}

fn counts(config: &TrainConfig) -> Vec<(&'static str, u64, u64, u64)> {
    let TrainConfig { vocabulary, training, negatives, evaluation, checkpoint, .. } = config;
    vec![
        ("training.epochs", u64::from(training.epochs), 1, 100_000),
        ("training.examples_max", training.examples_max, 1, 1 << 50),
        ("training.batch_size", training.batch_size as u64, 2, 65_536),
        ("training.validations_per_epoch", u64::from(training.validations_per_epoch), 1, 1000),
        ("negatives.count", negatives.count as u64, 1, 1 << 20),
        ("evaluation.queries_max", evaluation.queries_max as u64, 1, 1 << 40),
        ("evaluation.ease_items_max", evaluation.ease_items_max as u64, 1, 40_000),
        ("vocabulary.min_count", vocabulary.min_count, 1, 1 << 40),
        ("vocabulary.size_max", vocabulary.size_max as u64, 1, 1 << 31),
        ("vocabulary.oov_rows", vocabulary.oov_rows as u64, 1, 1 << 24),
        ("checkpoint.every_seconds", checkpoint.every_seconds, 1, 1 << 32),
    ]
}

fn objective_faults(config: &TrainConfig) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, objective) in &config.objectives {
        if objective.events.is_empty() {
            faults.push(format!("objectives.{name}.events: at least one event is needed"));
        }
        faults.extend(out_of_range(&format!("objectives.{name}.weight"), f64::from(objective.weight), 1e-6, 1e6));
    }
    let count = config.objectives.len().max(1);
    if !config.model.embedding_dim.is_multiple_of(count) {
        let dim = config.model.embedding_dim;
        faults.push(format!("model.embedding_dim: is a multiple of the number of objectives, {count}, found {dim}"));
    }
    if !config.model.objectives.is_empty() {
        faults.push("model.objectives: follows from the objectives, and is not stated".into());
    }
    faults
}

fn negative_faults(config: &TrainConfig) -> Vec<String> {
    let negatives = &config.negatives;
    let hard = if negatives.hard_file.is_empty() { 0.0 } else { negatives.hard };
    let shares =
        [negatives.in_batch, negatives.uniform, negatives.popularity, negatives.cache, negatives.exposed, hard];
    let mut faults = Vec::new();
    if shares.iter().sum::<f64>() <= 0.0 {
        let hard = if negatives.hard > 0.0 { "; `hard` counts only with a hard_file" } else { "" };
        faults.push(format!("negatives: at least one source has a share above 0{hard}"));
    }
    let config_loss = &config.loss;
    if config_loss.temperature_learned && config_loss.temperature < config_loss.temperature_floor {
        let (found, floor) = (config_loss.temperature, config_loss.temperature_floor);
        faults.push(format!("loss.temperature: begins at the floor, {floor}, or above it, found {found}"));
    }
    let share = config.split.validation_share;
    for (key, set) in [("refit", config.training.refit), ("patience", config.training.patience > 0)] {
        if set && share <= 0.0 {
            faults.push(format!("training.{key}: needs a split.validation_share above 0, found {share}"));
        }
    }
    faults
}

fn out_of_range<T: PartialOrd + Display>(key: &str, value: T, low: T, high: T) -> Option<String> {
    (!(&low..=&high).contains(&&value)).then(|| format!("{key}: is between {low} and {high}, found {value}"))
}
