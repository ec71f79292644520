//! [`Stores`]: where the fits of a run keep their checkpoints, which run these are of, and what is told of one that goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use pagoda_model::Schema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    config::TrainConfig,
    data::{Data, mixed},
    engine::CheckpointStore,
    error::TrainError,
    mining::HardPools,
    progress::{Progress, Report, Stage},
    train::Checkpoints,
};

/// How many differences a message names.
const SHOWN: usize = 5;
const FIT: &str = "fit";
const REFIT: &str = "refit";

/// A store for each fit of a run.
pub(crate) struct Stores {
    pub(crate) fit: CheckpointStore,
    pub(crate) refit: CheckpointStore,
}

/// Tells, before the first step, from which one a fit goes on.
pub(crate) struct Resuming<'a> {
    /// None once that was told.
    pub(crate) checkpoints: Option<&'a CheckpointStore>,
    pub(crate) progress: &'a mut dyn Progress,
}

/// Everything that tells a run from others.
#[derive(Serialize)]
struct RunIdentity<'a> {
    release: &'static str,
    #[serde(flatten)]
    config: TrainConfig,
    schema: &'a Schema,
    data: DataIdentity,
}

/// What is counted of the data.
#[derive(Serialize)]
struct DataIdentity {
    users: usize,
    items: usize,
    positives: u64,
    bad_rows: u64,
    hard_negatives: usize,
    /// A hash of how often each user and each item has a positive.
    hash_of_positives: u64,
}

impl Stores {
    /// A run is told from others by its configuration and by what it learns from.
    pub(crate) fn open(
        place: &Checkpoints,
        data: &Data,
        config: &TrainConfig,
        hard: Option<&HardPools>,
    ) -> Result<Self, TrainError> {
        let mut config = config.clone();
        // How often state is kept does not change what is learned.
        config.checkpoint.every_seconds = 0;
        let counted = DataIdentity {
            users: data.users.len(),
            items: data.catalog.len(),
            positives: data.log.rows(),
            bad_rows: data.bad_rows.iter().map(|bad| bad.count).sum(),
            hard_negatives: hard.map_or(0, HardPools::len),
            hash_of_positives: hash_of_positives(data)?,
        };
        let run = RunIdentity { release: env!("CARGO_PKG_VERSION"), config, schema: &data.schema, data: counted };
        let store = |stage| CheckpointStore::open(&place.dir, stage, &run, place.resume);
        Ok(Self { fit: store(FIT)?, refit: store(REFIT)? })
    }

    /// Removes what is in a directory, of whichever run.
    pub(crate) fn remove(dir: &Path) -> Result<(), TrainError> {
        [FIT, REFIT].into_iter().try_for_each(|stage| CheckpointStore::remove(dir, stage))
    }
}

impl Progress for Resuming<'_> {
    fn report(&mut self, report: &Report) {
        if report.stage == Stage::Train
            && let Some(step) = self.checkpoints.take().and_then(CheckpointStore::resumed_at)
        {
            self.progress.report(&Report::of(Stage::Resume, step, report.total));
        }
        self.progress.report(report);
    }
}

/// A hash of how often each user and each item has a positive: other data have another.
fn hash_of_positives(data: &Data) -> Result<u64, TrainError> {
    let tally = data.tally(|_| true)?;
    let ids = data.users.iter().chain(&data.catalog).map(|entity| entity.id.len() as u64);
    let counts = tally.users.iter().chain(&tally.items).map(|&count| u64::from(count));
    let mut hash = 0;
    ids.chain(counts).chain([tally.end.unsigned_abs()]).for_each(|word| hash = mixed(&[hash, word]));
    Ok(hash)
}

/// Why a checkpoint of one run is not taken up by another; both as JSON.
pub(crate) fn other_run(then: &str, now: &str) -> String {
    let mut differences = differences(then, now);
    let more = differences.len().saturating_sub(SHOWN);
    differences.truncate(SHOWN);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    let which = match differences.as_slice() {
        [] => "the data, the configuration or the release differ".to_owned(),
        differences => differences.join("; "),
    };
    format!("it is of another run: {which}; resume with the same settings and data, or begin anew in another directory")
}

/// Each key whose value differs, with both values.
fn differences(then: &str, now: &str) -> Vec<String> {
    let [then, now] = [then, now].map(|json| serde_json::from_str::<Value>(json).unwrap_or_default());
    if !(then.is_object() && now.is_object()) {
        return Vec::new();
    }
    let [then, now] = [then, now].map(|value| {
        let mut leaves = BTreeMap::new();
        flatten("", &value, &mut leaves);
        leaves
    });
    let value = |of: &BTreeMap<String, String>, key: &String| of.get(key).cloned().unwrap_or_else(|| "nothing".into());
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let differing = keys.into_iter().filter(|key| then.get(*key) != now.get(*key));
    differing.map(|key| format!("{key} was {}, is {}", value(&then, key), value(&now, key))).collect()
}

fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            flatten(&path, value, leaves);
        }),
        other => drop(leaves.insert(path.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_with_both_values() {
        let [then, now] = [
            r#"{"seed":1,"training":{"epochs":3,"batch_size":8},"objectives":{}}"#,
            r#"{"seed":1,"training":{"epochs":5,"batch_size":8},"objectives":{"buy":{"weight":2.0}}}"#,
        ];
        let message = other_run(then, now);
        assert!(
            message.contains("objectives.buy.weight was nothing, is 2.0; training.epochs was 3, is 5"),
            "{message}"
        );
        assert!(!message.contains("batch_size") && !message.contains("seed"), "{message}");
        assert!(other_run("the digest of older releases", now).contains("or the release differ"));
    }

    #[test]
    fn of_many_differences_the_first_are_named() {
        let numbered =
            |value: u32| format!("{{{}}}", (0..9).map(|i| format!("\"k{i}\":{value}")).collect::<Vec<_>>().join(","));
        let message = other_run(&numbered(1), &numbered(2));
        assert!(message.contains("k4 was 1, is 2; and 4 more;") && !message.contains("k5"), "{message}");
    }
}
