//! [`TrainConfig`]: every choice of a run. The defaults are `train.toml`, embedded.

use pagoda_model::two_tower::Architecture;
use serde::{Deserialize, Serialize};

/// The commented defaults, as a person reads them.
const DEFAULTS: &str = include_str!("../train.toml");

/// Every choice of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The source of all randomness.
    pub seed: u64,
    /// How test interactions are told from training ones.
    pub split: SplitConfig,
    /// The sizes of the model.
    pub model: Architecture,
    /// Which texts get rows.
    pub vocabulary: VocabularyConfig,
    /// The fitting.
    pub training: TrainingConfig,
    /// The evaluation at the end.
    pub evaluation: EvaluationConfig,
}

/// How test interactions are told from training ones; which kind of split it is, the schema says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// The newest share of positives that is test, under a temporal split.
    pub test_share: f64,
}

/// Which texts get rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularyConfig {
    /// Texts that occur less often share the out-of-vocabulary row.
    pub min_count: u64,
    /// The most texts of one vocabulary.
    pub size_max: usize,
}

/// The fitting; see `train.toml` for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "train.toml says what each key means, in one place")]
pub struct TrainingConfig {
    pub epochs: u32,
    pub examples_max: u64,
    pub batch_size: usize,
    pub uniform_negatives: usize,
    pub temperature: f32,
    pub row_learning_rate: f32,
    pub tower_learning_rate: f64,
    pub weight_decay: f64,
    pub final_learning_rate_share: f64,
    pub id_dropout: f64,
    pub history_dropout: f64,
}

/// The evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// At most so many queries, drawn by the seed.
    pub queries_max: usize,
}

/// What [`crate::evaluate`] needs to know: the same split and queries as at training give the same figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Draws the queries.
    pub seed: u64,
    /// How test interactions are told from training ones.
    pub split: SplitConfig,
    /// How many queries.
    pub evaluation: EvaluationConfig,
}

/// Every fault of a configuration, each naming its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("training configuration: {}", .0.join("; "))]
pub struct InvalidConfig(pub Vec<String>);

impl TrainConfig {
    /// The commented file of every key and its default.
    pub const fn defaults_toml() -> &'static str {
        DEFAULTS
    }

    /// Reads a file that states what differs from the defaults, and validates the whole.
    pub fn from_toml(text: &str) -> Result<Self, InvalidConfig> {
        let parse =
            |text: &str| text.parse::<toml::Table>().map_err(|e| InvalidConfig(vec![e.to_string().trim().to_owned()]));
        let mut table = parse(DEFAULTS)?;
        overlay(&mut table, parse(text)?);
        let config: Self =
            table.try_into().map_err(|e: toml::de::Error| InvalidConfig(vec![e.to_string().trim().to_owned()]))?;
        config.validate()?;
        Ok(config)
    }

    /// Reports every fault at once.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let mut faults: Vec<String> = self.model.faults().into_iter().map(|fault| format!("model.{fault}")).collect();
        let training = &self.training;
        let shares = [
            ("split.test_share", self.split.test_share, 0.001, 0.9),
            ("training.id_dropout", training.id_dropout, 0.0, 1.0),
            ("training.history_dropout", training.history_dropout, 0.0, 1.0),
            ("training.final_learning_rate_share", training.final_learning_rate_share, 0.0, 1.0),
            ("training.weight_decay", training.weight_decay, 0.0, 1.0),
            ("training.temperature", f64::from(training.temperature), 0.001, 100.0),
            ("training.row_learning_rate", f64::from(training.row_learning_rate), 1e-9, 100.0),
            ("training.tower_learning_rate", training.tower_learning_rate, 1e-9, 10.0),
        ];
        faults.extend(shares.into_iter().filter_map(|(key, value, low, high)| range_fault(key, value, low, high)));
        let counts = [
            ("training.epochs", u64::from(training.epochs), 1, 100_000),
            ("training.examples_max", training.examples_max, 1, 1 << 50),
            ("training.batch_size", training.batch_size as u64, 2, 65_536),
            ("training.uniform_negatives", training.uniform_negatives as u64, 0, 1 << 20),
            ("evaluation.queries_max", self.evaluation.queries_max as u64, 1, 1 << 40),
            ("vocabulary.min_count", self.vocabulary.min_count, 1, 1 << 40),
            ("vocabulary.size_max", self.vocabulary.size_max as u64, 1, 1 << 31),
        ];
        faults.extend(counts.into_iter().filter_map(|(key, value, low, high)| range_fault(key, value, low, high)));
        if faults.is_empty() { Ok(()) } else { Err(InvalidConfig(faults)) }
    }

    /// The part that the evaluation needs.
    pub fn evaluate(&self) -> EvaluateConfig {
        EvaluateConfig { seed: self.seed, split: self.split.clone(), evaluation: self.evaluation.clone() }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self::from_toml("").expect("the embedded defaults are valid, which a test proves")
    }
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        TrainConfig::default().evaluate()
    }
}

fn range_fault<T: PartialOrd + std::fmt::Display>(key: &str, value: T, low: T, high: T) -> Option<String> {
    (!(&low..=&high).contains(&&value)).then(|| format!("{key}: is between {low} and {high}, found {value}"))
}

fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => overlay(inner, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_defaults_are_valid() {
        assert_eq!(TrainConfig::default().model.embedding_dim, 64);
    }

    #[test]
    fn a_file_states_only_what_differs() {
        let config =
            TrainConfig::from_toml("[training]\nepochs = 3\n[model.dims.features]\n\"item.genres\" = 8").unwrap();
        assert_eq!(config.training.epochs, 3);
        assert_eq!(config.training.batch_size, TrainConfig::default().training.batch_size);
        assert_eq!(config.model.dims.features["item.genres"], 8);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = "[training]\nepochs = 0\ntemperature = nan\n[model]\nembedding_dim = 0\n[split]\ntest_share = 1.0";
        let InvalidConfig(faults) = TrainConfig::from_toml(text).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(TrainConfig::from_toml("[training]\nepoch = 3").unwrap_err().to_string().contains("epoch"));
    }
}
