//! [`TrainConfig`]: every choice of a run. The defaults are `train.toml`, embedded; [`Preset`]s are what differs for known protocols.

mod preset;
mod validation;

use std::collections::BTreeMap;

use pagoda_dataset::shown;
use pagoda_model::two_tower::Architecture;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use preset::{Preset, UnknownPreset};

/// The commented defaults, as a person reads them.
const DEFAULTS: &str = include_str!("../../train.toml");

/// Every choice of a training run; see `train.toml` for each key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The source of all randomness.
    pub seed: u64,
    /// How test and validation interactions are told from training ones.
    pub split: SplitConfig,
    /// The sizes of the model.
    pub model: Architecture,
    /// Which texts get rows.
    pub vocabulary: VocabularyConfig,
    /// The objectives by name; none: one of all positive events.
    pub objectives: BTreeMap<String, ObjectiveConfig>,
    /// The fitting.
    pub training: TrainingConfig,
    /// What is minimised.
    pub loss: LossConfig,
    /// Where negatives come from.
    pub negatives: NegativesConfig,
    /// The evaluation at the end.
    pub evaluation: EvaluationConfig,
    /// How often state is kept.
    pub checkpoint: CheckpointConfig,
}

/// How test and validation interactions are told from training ones; which kind of split it is, the schema says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// The newest share of positives that is test, under a temporal split.
    pub test_share: f64,
    /// The share of the others that is validation.
    pub validation_share: f64,
}

/// Which texts get rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularyConfig {
    /// Texts that occur less often share the out-of-vocabulary rows.
    pub min_count: u64,
    /// The most texts of one vocabulary.
    pub size_max: usize,
    /// Out-of-vocabulary rows of each vocabulary of ids.
    pub oov_rows: usize,
}

/// One objective: which events are its positives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Events of the schema.
    pub events: Vec<String>,
    /// Its share in the loss, and its default weight at serving.
    #[serde(default = "one")]
    pub weight: f32,
}

/// What an example is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Examples {
    /// One positive and what its user's history was then.
    Interactions,
    /// A user's sequence, every position of it predicting the next.
    Sequences,
}

/// How embedding rows are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOptimizer {
    /// Row-wise Adagrad: one number of state a row.
    Adagrad,
    /// Lazy Adam: two numbers of state for every number, moved only when its row is used.
    Adam,
}

/// The fitting; see `train.toml` for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "train.toml says what each key means, in one place")]
pub struct TrainingConfig {
    pub examples: Examples,
    pub epochs: u32,
    pub examples_max: u64,
    pub batch_size: usize,
    pub row_optimizer: RowOptimizer,
    pub row_learning_rate: f32,
    pub tower_learning_rate: f64,
    pub weight_decay: f64,
    pub warmup_share: f64,
    pub final_learning_rate_share: f64,
    pub gradient_norm_max: f64,
    pub dropout: f64,
    pub id_dropout: f64,
    pub history_dropout: f64,
    pub patience: u32,
    pub validations_per_epoch: u32,
    pub refit: bool,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Softmax cross-entropy of the positive among the sampled negatives.
    Softmax,
    /// Pointwise binary cross-entropy.
    BinaryCrossEntropy,
    /// Bayesian personalised ranking (Rendle et al., UAI 2009).
    Bpr,
    /// The triplet loss of embedding-based retrieval (Huang et al., KDD 2020).
    Margin,
    /// The cosine contrastive loss of SimpleX (Mao et al., CIKM 2021).
    CosineContrastive,
}

/// The loss; see `train.toml` for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "train.toml says what each key means, in one place")]
pub struct LossConfig {
    pub kind: LossKind,
    pub temperature: f32,
    pub temperature_learned: bool,
    pub temperature_floor: f32,
    pub margin: f32,
    pub negative_weight: f32,
}

/// How scores are corrected for how often an item is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogQ {
    /// Not at all.
    None,
    /// All columns, the positive's among them (Yi et al., RecSys 2019).
    Standard,
    /// The negatives alone, with a stop-gradient weight ("Correcting the LogQ Correction", RecSys 2025).
    Corrected,
}

/// Where negatives come from; see `train.toml` for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "train.toml says what each key means, in one place")]
pub struct NegativesConfig {
    pub in_batch: f64,
    pub uniform: f64,
    pub popularity: f64,
    pub popularity_power: f64,
    pub cache: f64,
    pub hard: f64,
    pub exposed: f64,
    pub count: usize,
    pub log_q: LogQ,
    pub hard_file: String,
    pub hard_warmup_share: f64,
    pub hard_ramp_share: f64,
}

/// What is evaluated beside the model and popularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Cosine nearest items of the history's items (Sarwar et al., WWW 2001).
    ItemKnn,
    /// The closed-form linear item model (Steck, WWW 2019).
    Ease,
}

/// The evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// At most so many queries, drawn by the seed.
    pub queries_max: usize,
    /// What is evaluated beside the model and popularity.
    pub baselines: Vec<Baseline>,
    /// The largest catalog of which EASE is made.
    pub ease_items_max: usize,
}

/// How often state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Seconds between checkpoints.
    pub every_seconds: u64,
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
    /// The objectives by name, for figures of each; of a model with others there are none.
    pub objectives: BTreeMap<String, ObjectiveConfig>,
}

/// Every fault of a configuration, each naming its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad training configuration:\n  {}", .0.join("\n").replace('\n', "\n  "))]
pub struct InvalidConfig(pub Vec<String>);

impl TrainConfig {
    /// The commented file of every key and its default.
    pub const fn defaults_toml() -> &'static str {
        DEFAULTS
    }

    /// Reads a file that states what differs from the defaults, and validates the whole.
    pub fn from_toml(text: &str) -> Result<Self, InvalidConfig> {
        Self::layered(&[text])
    }

    /// Reads several files, each stating what differs from those before it, and validates the whole.
    pub fn layered(texts: &[&str]) -> Result<Self, InvalidConfig> {
        let (mut table, mut faults) = (parse(DEFAULTS)?, Vec::new());
        for text in texts {
            overlay(&mut table, parse(text)?, "", &mut faults);
        }
        match table.try_into::<Self>() {
            Ok(config) => {
                faults.extend(validation::faults(&config));
                if faults.is_empty() { Ok(config) } else { Err(InvalidConfig(faults)) }
            }
            Err(error) => {
                faults.extend(unreadable(&error).0);
                Err(InvalidConfig(faults))
            }
        }
    }

    /// Reports every fault at once.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let faults = validation::faults(self);
        if faults.is_empty() { Ok(()) } else { Err(InvalidConfig(faults)) }
    }

    /// What each objective weighs, in the order of their names; none without objectives.
    pub(crate) fn objective_weights(&self) -> Vec<f32> {
        self.objectives.values().map(|objective| objective.weight).collect()
    }

    /// The part that the evaluation needs.
    pub fn evaluate(&self) -> EvaluateConfig {
        EvaluateConfig {
            seed: self.seed,
            split: self.split.clone(),
            evaluation: self.evaluation.clone(),
            objectives: self.objectives.clone(),
        }
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

const fn one() -> f32 {
    1.0
}

fn parse(text: &str) -> Result<Table, InvalidConfig> {
    text.parse().map_err(|e| unreadable(&e))
}

fn unreadable(error: &toml::de::Error) -> InvalidConfig {
    InvalidConfig(vec![error.to_string().trim().to_owned()])
}

/// Lays a file over the ones before. Keys that nothing has and values of another type are faults, and left out.
fn overlay(base: &mut Table, over: Table, path: &str, faults: &mut Vec<String>) {
    for (key, value) in over {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if !base.contains_key(&key) {
            match (path, &value) {
                ("objectives", Value::Table(_)) => drop(base.insert(key.clone(), Value::Table(objective()))),
                ("objectives" | "model.dims.features", _) => drop(base.insert(key.clone(), value.clone())),
                _ => {
                    let known: Vec<&str> = base.keys().map(String::as_str).collect();
                    faults.push(format!("{at}: unknown key, expected one of {}", known.join(", ")));
                    continue;
                }
            }
        }
        match (&mut base[&key], value) {
            (Value::Table(inner), Value::Table(over)) => overlay(inner, over, &at, faults),
            (Value::Float(old), Value::Integer(value)) => *old = value as f64,
            (old, value) if old.same_type(&value) => *old = value,
            (old, value) => {
                faults.push(format!(
                    "{at}: expected {} such as {old}, found {}",
                    kind(old),
                    shown(value.as_str().unwrap_or(&value.to_string()))
                ));
            }
        }
    }
}

/// The keys of an objective; without events it is refused.
fn objective() -> Table {
    let events = ("events".to_owned(), Value::Array(Vec::new()));
    Table::from_iter([events, ("weight".to_owned(), Value::Float(1.0))])
}

/// A value's type, as messages say it.
const fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false,",
        Value::Array(_) => "a list",
        Value::Table(_) | Value::Datetime(_) => "a table",
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
    fn later_layers_win() {
        let config =
            TrainConfig::layered(&["[training]\nepochs = 3\nbatch_size = 8", "[training]\nepochs = 5"]).unwrap();
        assert_eq!((config.training.epochs, config.training.batch_size), (5, 8));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text =
            "[training]\nepochs = 0\n[loss]\ntemperature = nan\n[model]\nembedding_dim = 0\n[split]\ntest_share = 1.0";
        let error = TrainConfig::from_toml(text).unwrap_err();
        assert_eq!(error.0.len(), 4, "{error}");
        assert_eq!(error.to_string().lines().count(), 5, "{error}");
        assert!(error.to_string().contains("\n  training.epochs: is between 1 and 100000, found 0"), "{error}");
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_reported_with_all_other_faults() {
        let text = "sede = 1\n[training]\nepoch = 3\nbatch_size = \"big\"\nepochs = 0\n[trainning]\nepochs = 1\n[loss]\ntemperature = 2\n\
            [objectives.buy]\nevents = [\"buy\"]\nwight = 2\n[objectives.click]\nweight = 1";
        let InvalidConfig(faults) = TrainConfig::from_toml(text).unwrap_err();
        for (at, what) in [
            ("sede: ", "unknown key"),
            ("training.epoch: ", "unknown key, expected one of batch_size, "),
            ("training.batch_size: ", "expected a whole number such as 512, found `big`"),
            ("training.epochs: ", "found 0"),
            ("trainning: ", "unknown key"),
            ("objectives.buy.wight: ", "expected one of events, weight"),
            ("objectives.click.events: ", "at least one"),
        ] {
            assert!(
                faults.iter().any(|fault| fault.starts_with(at) && fault.contains(what)),
                "{at}{what}: {faults:#?}"
            );
        }
        assert_eq!(faults.len(), 7, "{faults:#?}");
    }

    #[test]
    fn presets_are_valid() {
        for preset in Preset::ALL {
            TrainConfig::layered(&[preset.toml()]).unwrap();
            assert_eq!(preset.name().parse(), Ok(preset));
        }
    }
}
