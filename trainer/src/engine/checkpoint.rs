//! Checkpoints: the state of a run as one file, from which another process goes on as if nothing had happened.
//!
//! The file is written beside its place and renamed, so that a killed writer leaves the one before; it names the run that it is of and
//! carries a digest of its content.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use pagoda_model::two_tower::TwoTower;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ledger::Ledger, record::Curves, snapshot::Snapshot, stepper::Stepper};
use crate::{error::TrainError, resume::other_run};

const FILE: &str = "checkpoint.safetensors";
const STATE: &str = "state";
const DIGEST_BYTES: usize = 32;

/// Where a run's checkpoints are kept.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointStore {
    path: PathBuf,
    /// What tells this run from others, as JSON.
    run: String,
    /// Whether what is there is taken up.
    resume: bool,
    resumed_at: OnceLock<u64>,
}

/// What a run had come to, but for numbers of the model and its optimisers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progressed {
    pub(super) step: u64,
    pub(super) examples: u64,
    pub(super) curves: Curves,
    /// Of the steps since the last point of the curves.
    pub(super) losses: Vec<f32>,
    pub(super) ledger: Ledger,
    pub(super) cached_items: Vec<u32>,
    /// The best validation and its step.
    pub(super) best: Option<(f64, u64)>,
    pub(super) worse: u32,
    pub(super) temperature: [f64; 4],
}

#[derive(Serialize, Deserialize)]
struct State {
    run: String,
    progressed: Progressed,
    weight_steps: u64,
}

/// A checkpoint in memory.
pub(super) struct Checkpoint {
    state: State,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl CheckpointStore {
    /// In a directory, which is made. `run` is everything that a run depends on; `stage` tells several fits of one run apart.
    pub(crate) fn open(dir: &Path, stage: &str, run: &impl Serialize, resume: bool) -> Result<Self, TrainError> {
        fs::create_dir_all(dir).map_err(|e| fault(dir, &e))?;
        let run = serde_json::to_string(run).map_err(|e| fault(dir, &e))?;
        Ok(Self { path: path(dir, stage), run, resume, resumed_at: OnceLock::new() })
    }

    /// Removes the checkpoint of a stage from a directory.
    pub(crate) fn remove(dir: &Path, stage: &str) -> Result<(), TrainError> {
        let path = path(dir, stage);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fault(&path, &e)),
            _ => Ok(()),
        }
    }

    /// The last checkpoint of this run, if there is one. One that is there and not wanted is an error: hours may be in it.
    pub(super) fn read(&self) -> Result<Option<Checkpoint>, TrainError> {
        if !self.resume {
            let there = "it is of a run that did not end; go on with --resume, or remove it to begin anew";
            return if self.path.exists() { Err(fault(&self.path, &there)) } else { Ok(None) };
        }
        let bytes = match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|e| fault(&self.path, &e))?,
        };
        let checkpoint = Checkpoint::from_bytes(&bytes).map_err(|e| fault(&self.path, &e))?;
        if checkpoint.state.run != self.run {
            return Err(fault(&self.path, &other_run(&checkpoint.state.run, &self.run)));
        }
        self.resumed_at.get_or_init(|| checkpoint.state.progressed.step);
        Ok(Some(checkpoint))
    }

    /// The step of the checkpoint that was read; None without one.
    pub(crate) fn resumed_at(&self) -> Option<u64> {
        self.resumed_at.get().copied()
    }

    /// Replaces the last checkpoint.
    pub(super) fn write(&self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let bytes = checkpoint.to_bytes(&self.run).map_err(|e| fault(&self.path, &e))?;
        let beside = self.path.with_extension("tmp");
        let write = || {
            let mut file = fs::File::create(&beside)?;
            io::Write::write_all(&mut file, &bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        };
        write().map_err(|e| fault(&self.path, &e))
    }
}

impl Checkpoint {
    /// Copies all there is.
    pub(super) fn of(
        model: &TwoTower,
        stepper: &Stepper<'_>,
        progressed: Progressed,
        best: Option<&Snapshot>,
    ) -> Result<Self, TrainError> {
        let mut tensors = BTreeMap::new();
        put_snapshot(&mut tensors, "model", &Snapshot::of(model)?);
        if let Some(best) = best {
            put_snapshot(&mut tensors, "best", best);
        }
        let (moments, weight_steps) = stepper.weights.state();
        for (i, [first, second]) in moments.iter().enumerate() {
            tensors.insert(format!("moment1.{i}"), first.clone());
            tensors.insert(format!("moment2.{i}"), second.clone());
        }
        for (i, state) in stepper.rows.states().iter().enumerate() {
            tensors.insert(format!("rows.{i}"), state.clone());
        }
        tensors.insert("cache".to_owned(), stepper.cache.values().to_vec());
        Ok(Self { state: State { run: String::new(), progressed, weight_steps }, tensors })
    }

    /// Puts everything back; what is returned is for the rest of the run.
    pub(super) fn restore(&self, model: &mut TwoTower, stepper: &mut Stepper<'_>) -> Result<Progressed, TrainError> {
        let fresh = Snapshot::of(model)?;
        self.snapshot("model", &fresh)?.restore(model)?;
        let (moments, steps) = stepper.weights.state_mut();
        for (i, [first, second]) in moments.iter_mut().enumerate() {
            *first = self.tensor(&format!("moment1.{i}"), first.len())?;
            *second = self.tensor(&format!("moment2.{i}"), second.len())?;
        }
        *steps = self.state.weight_steps;
        for (i, state) in stepper.rows.states_mut().iter_mut().enumerate() {
            *state = self.tensor(&format!("rows.{i}"), state.len())?;
        }
        let cached = self.tensors.get("cache").cloned().unwrap_or_default();
        stepper.cache.restore(cached);
        stepper.temperature.restore(self.state.progressed.temperature);
        Ok(self.state.progressed.clone())
    }

    /// The best model so far, with its validation and step.
    pub(super) fn best(
        &self,
        best: Option<(f64, u64)>,
        model: &TwoTower,
    ) -> Result<Option<(f64, u64, Snapshot)>, TrainError> {
        let Some((recall, step)) = best else { return Ok(None) };
        Ok(Some((recall, step, self.snapshot("best", &Snapshot::of(model)?)?)))
    }

    fn snapshot(&self, name: &str, like: &Snapshot) -> Result<Snapshot, TrainError> {
        let of = |kind: &str, like: &[Vec<f32>]| {
            let tensors = like.iter().enumerate().map(|(i, v)| self.tensor(&format!("{name}.{kind}.{i}"), v.len()));
            tensors.collect::<Result<Vec<_>, _>>()
        };
        Ok(Snapshot { tables: of("table", &like.tables)?, weights: of("weight", &like.weights)? })
    }

    fn tensor(&self, name: &str, len: usize) -> Result<Vec<f32>, TrainError> {
        let found = self.tensors.get(name).filter(|values| values.len() == len);
        let missing = || format!("expected {len} numbers of `{name}`, found other ones");
        found.cloned().ok_or_else(|| TrainError::Checkpoint { file: FILE.to_owned(), description: missing() })
    }

    /// The digest of what follows, then safetensors with the state in their metadata.
    fn to_bytes(&self, run: &str) -> Result<Vec<u8>, String> {
        let state = State {
            run: run.to_owned(),
            progressed: self.state.progressed.clone(),
            weight_steps: self.state.weight_steps,
        };
        let state = serde_json::to_string(&state).map_err(|e| e.to_string())?;
        let bytes: BTreeMap<&String, Vec<u8>> =
            self.tensors.iter().map(|(name, v)| (name, v.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, bytes) in &bytes {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).map_err(|e| e.to_string())?;
            views.push(((*name).clone(), view));
        }
        let metadata = HashMap::from([(STATE.to_owned(), state)]);
        let content = safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())?;
        let mut all = Sha256::digest(&content).to_vec();
        all.extend(content);
        Ok(all)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (digest, content) = bytes.split_at_checked(DIGEST_BYTES).ok_or("expected a checkpoint, found a stump")?;
        if Sha256::digest(content).as_slice() != digest {
            return Err("its content does not have the digest it states".into());
        }
        let (_, metadata) = SafeTensors::read_metadata(content).map_err(|e| e.to_string())?;
        let state = metadata.metadata().as_ref().and_then(|m| m.get(STATE)).ok_or("it has no state")?;
        let state: State = serde_json::from_str(state).map_err(|e| e.to_string())?;
        let tensors = SafeTensors::deserialize(content).map_err(|e| e.to_string())?;
        let floats = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let tensors = tensors.tensors().into_iter().map(|(name, view)| (name, floats(view.data()))).collect();
        Ok(Self { state, tensors })
    }
}

fn path(dir: &Path, stage: &str) -> PathBuf {
    dir.join(format!("{stage}-{FILE}"))
}

fn put_snapshot(tensors: &mut BTreeMap<String, Vec<f32>>, name: &str, snapshot: &Snapshot) {
    for (kind, parts) in [("table", &snapshot.tables), ("weight", &snapshot.weights)] {
        for (i, values) in parts.iter().enumerate() {
            tensors.insert(format!("{name}.{kind}.{i}"), values.clone());
        }
    }
}

fn fault(path: &Path, description: &impl ToString) -> TrainError {
    TrainError::Checkpoint { file: path.display().to_string(), description: description.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let progressed = Progressed { step: 7, cached_items: vec![3], best: Some((0.1, 4)), ..Progressed::default() };
        let tensors = BTreeMap::from([("cache".to_owned(), vec![1.5_f32, -2.0]), ("rows.0".to_owned(), Vec::new())]);
        Checkpoint { state: State { run: String::new(), progressed, weight_steps: 7 }, tensors }
    }

    #[test]
    fn a_checkpoint_reads_back_and_is_of_one_run() {
        let dir = tempfile::tempdir().unwrap();
        let store = |run: &str, resume| CheckpointStore::open(dir.path(), "fit", &run, resume).unwrap();
        assert!(store("a", true).read().unwrap().is_none());
        store("a", true).write(&checkpoint()).unwrap();
        let read = store("a", true).read().unwrap().unwrap();
        assert_eq!((read.state.progressed, read.tensors), (checkpoint().state.progressed, checkpoint().tensors));
        assert!(store("a", false).read().err().unwrap().to_string().contains("--resume"));
        assert!(store("b", true).read().err().unwrap().to_string().contains("another run"));
        CheckpointStore::remove(dir.path(), "fit").unwrap();
        assert!(store("a", true).read().unwrap().is_none());
    }

    #[test]
    fn any_changed_bit_and_any_cut_is_found() {
        let bytes = checkpoint().to_bytes("run").unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(Checkpoint::from_bytes(&changed).is_err(), "byte {at}");
            assert!(Checkpoint::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(Checkpoint::from_bytes(&bytes).is_ok());
    }
}
