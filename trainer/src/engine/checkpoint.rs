//! Checkpoints: the state of a run as one file, from which another process goes on as if nothing had happened.
//!
//! The file is written beside its place and renamed, so that a killed writer leaves the one before; it names the run that it is of and
//! carries a digest of its content.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use pagoda_model::two_tower::TwoTower;
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    ledger::Ledger,
    record::Curves,
    snapshot::{Snapshot, weights},
    stepper::Stepper,
};
use crate::{error::TrainError, resume::other_run};

const FILE: &str = "checkpoint.safetensors";
const STATE: &str = "state";
const OBSERVED: &str = "ledger.observed";
const DIGEST_BYTES: u64 = 32;
const NUMBER_BYTES: usize = 4;
/// Numbers on their way between memory and the file.
const NUMBERS_AT_ONCE: usize = 1 << 16;

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
struct State<'a> {
    run: Cow<'a, str>,
    progressed: Cow<'a, Progressed>,
    weight_steps: u64,
}

/// A run as it is to be kept. Its numbers are not copied: there may be no room for them twice.
pub(super) struct Checkpoint<'a> {
    progressed: &'a Progressed,
    weight_steps: u64,
    tensors: BTreeMap<String, Numbers<'a>>,
}

/// The numbers of a tensor.
enum Numbers<'a> {
    Floats(Cow<'a, [f32]>),
    Counts(&'a [u32]),
}

/// A checkpoint that was kept. Its numbers are read one tensor at a time.
pub(super) struct Kept<R> {
    state: State<'static>,
    tensors: Metadata,
    /// Where the numbers begin.
    start: u64,
    file: R,
}

impl CheckpointStore {
    /// In a directory, which is made. `run` is everything that a run depends on; `stage` tells several fits of one run apart. What is there
    /// must be of this run, and wanted: hours may be in it.
    pub(crate) fn open(dir: &Path, stage: &str, run: &impl Serialize, resume: bool) -> Result<Self, TrainError> {
        fs::create_dir_all(dir).map_err(|e| fault(dir, &e))?;
        let run = serde_json::to_string(run).map_err(|e| fault(dir, &e))?;
        let store = Self { path: path(dir, stage), run, resume, resumed_at: OnceLock::new() };
        let Some(file) = store.file()? else { return Ok(store) };
        if !resume {
            let there = "it is of a run that did not end; go on with --resume, or remove it to begin anew";
            return Err(fault(&store.path, &there));
        }
        let kept = Kept::read(file).map_err(|e| fault(&store.path, &e))?;
        if kept.state.run != store.run {
            return Err(fault(&store.path, &other_run(&kept.state.run, &store.run)));
        }
        Ok(store)
    }

    /// Removes the checkpoint of a stage from a directory, and what a writer that was killed left of one.
    pub(crate) fn remove(dir: &Path, stage: &str) -> Result<(), TrainError> {
        let path = path(dir, stage);
        [beside(&path), path].iter().try_for_each(|path| match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fault(path, &e)),
            _ => Ok(()),
        })
    }

    /// The last checkpoint of this run, if there is one that is wanted.
    pub(super) fn read(&self) -> Result<Option<Kept<File>>, TrainError> {
        let Some(file) = self.file()?.filter(|_| self.resume) else { return Ok(None) };
        let mut kept = Kept::read(file).map_err(|e| fault(&self.path, &e))?;
        kept.verify().map_err(|e| fault(&self.path, &e))?;
        self.resumed_at.get_or_init(|| kept.state.progressed.step);
        Ok(Some(kept))
    }

    /// The step of the checkpoint that was read; None without one.
    pub(crate) fn resumed_at(&self) -> Option<u64> {
        self.resumed_at.get().copied()
    }

    /// Replaces the last checkpoint.
    pub(super) fn write(&self, checkpoint: &Checkpoint<'_>) -> Result<(), TrainError> {
        let beside = beside(&self.path);
        let write = || {
            let mut file = File::create(&beside)?;
            checkpoint.write(&self.run, &mut file)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        };
        write().map_err(|e| fault(&self.path, &e))
    }

    fn file(&self) -> Result<Option<File>, TrainError> {
        match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some).map_err(|e| fault(&self.path, &e)),
        }
    }
}

impl<'a> Checkpoint<'a> {
    /// All there is of a run.
    pub(super) fn of(
        model: &'a TwoTower,
        stepper: &'a Stepper<'_>,
        progressed: &'a Progressed,
        best: Option<&'a Snapshot>,
    ) -> Result<Self, TrainError> {
        let mut tensors = BTreeMap::new();
        let mut put = |name: String, values: Cow<'a, [f32]>| drop(tensors.insert(name, Numbers::Floats(values)));
        for (i, table) in model.tables.iter().enumerate() {
            put(format!("model.table.{i}"), Cow::Borrowed(&table.values));
        }
        for (i, weight) in weights(model).iter().enumerate() {
            put(format!("model.weight.{i}"), Cow::Owned(weight.flatten_all()?.to_vec1()?));
        }
        for (kind, parts) in best.iter().flat_map(|best| [("table", &best.tables), ("weight", &best.weights)]) {
            for (i, values) in parts.iter().enumerate() {
                put(format!("best.{kind}.{i}"), Cow::Borrowed(values));
            }
        }
        let (moments, weight_steps) = stepper.weights.state();
        for (i, [first, second]) in moments.iter().enumerate() {
            put(format!("moment1.{i}"), Cow::Borrowed(first));
            put(format!("moment2.{i}"), Cow::Borrowed(second));
        }
        for (i, state) in stepper.rows.states().iter().enumerate() {
            put(format!("rows.{i}"), Cow::Borrowed(state));
        }
        put("cache".to_owned(), Cow::Borrowed(stepper.cache.values()));
        tensors.insert(OBSERVED.to_owned(), Numbers::Counts(progressed.ledger.observed()));
        Ok(Self { progressed, weight_steps, tensors })
    }

    /// The digest of what follows, then safetensors with the state in their metadata.
    fn write(&self, run: &str, to: &mut (impl Write + Seek)) -> io::Result<()> {
        let header = self.header(run)?;
        to.seek(SeekFrom::Start(DIGEST_BYTES))?;
        let mut digest = Sha256::new();
        let mut put = |bytes: &[u8]| {
            digest.update(bytes);
            to.write_all(bytes)
        };
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        self.tensors.values().try_for_each(|numbers| numbers.visit_bytes(&mut put))?;
        to.rewind()?;
        to.write_all(&digest.finalize())
    }

    fn header(&self, run: &str) -> io::Result<Vec<u8>> {
        let (run, progressed) = (Cow::Borrowed(run), Cow::Borrowed(self.progressed));
        let state = serde_json::to_string(&State { run, progressed, weight_steps: self.weight_steps })?;
        let mut end = 0;
        let infos = self.tensors.iter().map(|(name, numbers)| {
            let (dtype, len) = numbers.shape();
            let start = end;
            end += len * NUMBER_BYTES;
            (name.clone(), TensorInfo { dtype, shape: vec![len], data_offsets: (start, end) })
        });
        let infos = infos.collect();
        let metadata = Metadata::new(Some(HashMap::from([(STATE.to_owned(), state)])), infos);
        let mut header = serde_json::to_vec(&metadata.map_err(io::Error::other)?)?;
        // Numbers are aligned.
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }
}

impl Numbers<'_> {
    fn shape(&self) -> (Dtype, usize) {
        match self {
            Self::Floats(floats) => (Dtype::F32, floats.len()),
            Self::Counts(counts) => (Dtype::U32, counts.len()),
        }
    }

    fn visit_bytes(&self, visit: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(NUMBERS_AT_ONCE * NUMBER_BYTES);
        let (_, len) = self.shape();
        for start in (0..len).step_by(NUMBERS_AT_ONCE) {
            let part = start..len.min(start + NUMBERS_AT_ONCE);
            bytes.clear();
            match self {
                Self::Floats(floats) => bytes.extend(floats[part].iter().flat_map(|x| x.to_le_bytes())),
                Self::Counts(counts) => bytes.extend(counts[part].iter().flat_map(|x| x.to_le_bytes())),
            }
            visit(&bytes)?;
        }
        Ok(())
    }
}

impl<R: Read + Seek> Kept<R> {
    /// Reads what comes before the numbers; whether it is whole is for [`Self::verify`] to say.
    fn read(mut file: R) -> Result<Self, String> {
        let mut len = [0; 8];
        file.seek(SeekFrom::Start(DIGEST_BYTES)).map_err(|e| e.to_string())?;
        file.read_exact(&mut len).map_err(|_| "expected a checkpoint, found a stump")?;
        let (len, mut header) = (u64::from_le_bytes(len), Vec::new());
        file.by_ref().take(len).read_to_end(&mut header).map_err(|e| e.to_string())?;
        let tensors: Metadata = serde_json::from_slice(&header).map_err(|e| format!("it has no header: {e}"))?;
        let state = tensors.metadata().as_ref().and_then(|m| m.get(STATE)).ok_or("it has no state")?;
        let state = serde_json::from_str(state).map_err(|e| format!("its state cannot be read: {e}"))?;
        Ok(Self { state, tensors, start: DIGEST_BYTES + size_of::<u64>() as u64 + header.len() as u64, file })
    }

    /// Whether every byte is as it was written.
    fn verify(&mut self) -> Result<(), String> {
        let (mut stated, mut digest) = ([0; DIGEST_BYTES as usize], Sha256::new());
        let mut bytes = vec![0; NUMBERS_AT_ONCE * NUMBER_BYTES];
        let mut digested = || -> io::Result<()> {
            self.file.rewind()?;
            self.file.read_exact(&mut stated)?;
            loop {
                match self.file.read(&mut bytes)? {
                    0 => return Ok(()),
                    count => digest.update(&bytes[..count]),
                }
            }
        };
        digested().map_err(|e| e.to_string())?;
        let whole = digest.finalize().as_slice() == stated;
        if whole { Ok(()) } else { Err("its content does not have the digest it states".into()) }
    }

    /// Puts everything back; what is returned is for the rest of the run.
    pub(super) fn restore(
        &mut self,
        model: &mut TwoTower,
        stepper: &mut Stepper<'_>,
    ) -> Result<Progressed, TrainError> {
        self.snapshot("model", model)?.restore(model)?;
        let (moments, steps) = stepper.weights.state_mut();
        for (i, [first, second]) in moments.iter_mut().enumerate() {
            *first = self.floats(&format!("moment1.{i}"), first.len())?;
            *second = self.floats(&format!("moment2.{i}"), second.len())?;
        }
        *steps = self.state.weight_steps;
        for (i, state) in stepper.rows.states_mut().iter_mut().enumerate() {
            *state = self.floats(&format!("rows.{i}"), state.len())?;
        }
        stepper.cache.restore(self.numbers("cache", Dtype::F32, f32::from_le_bytes)?);
        stepper.temperature.restore(self.state.progressed.temperature);
        let mut progressed = self.state.progressed.clone().into_owned();
        progressed.ledger.restore_observed(self.numbers(OBSERVED, Dtype::U32, u32::from_le_bytes)?);
        Ok(progressed)
    }

    /// The best model so far, with its validation and step.
    pub(super) fn best(
        &mut self,
        best: Option<(f64, u64)>,
        model: &TwoTower,
    ) -> Result<Option<(f64, u64, Snapshot)>, TrainError> {
        let Some((recall, step)) = best else { return Ok(None) };
        Ok(Some((recall, step, self.snapshot("best", model)?)))
    }

    /// A model of the shapes of another.
    fn snapshot(&mut self, name: &str, like: &TwoTower) -> Result<Snapshot, TrainError> {
        let mut of = |kind: &str, lens: Vec<usize>| {
            let tensors = lens.into_iter().enumerate().map(|(i, len)| self.floats(&format!("{name}.{kind}.{i}"), len));
            tensors.collect::<Result<Vec<_>, _>>()
        };
        let tables = of("table", like.tables.iter().map(|table| table.values.len()).collect())?;
        let weights = of("weight", weights(like).iter().map(|weight| weight.elem_count()).collect())?;
        Ok(Snapshot { tables, weights })
    }

    fn floats(&mut self, name: &str, len: usize) -> Result<Vec<f32>, TrainError> {
        let floats = self.numbers(name, Dtype::F32, f32::from_le_bytes)?;
        if floats.len() == len { Ok(floats) } else { Err(missing(&format!("{len} numbers of `{name}`"))) }
    }

    fn numbers<T>(
        &mut self,
        name: &str,
        dtype: Dtype,
        number: fn([u8; NUMBER_BYTES]) -> T,
    ) -> Result<Vec<T>, TrainError> {
        let info = self.tensors.info(name).filter(|info| info.dtype == dtype);
        let (start, end) = info.ok_or_else(|| missing(&format!("`{name}`")))?.data_offsets;
        let mut numbers = Vec::with_capacity((end - start) / NUMBER_BYTES);
        let mut bytes = vec![0; NUMBERS_AT_ONCE * NUMBER_BYTES];
        let mut read = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(self.start + start as u64))?;
            for at in (start..end).step_by(bytes.len()) {
                let part = &mut bytes[..(end - at).min(NUMBERS_AT_ONCE * NUMBER_BYTES)];
                self.file.read_exact(part)?;
                numbers.extend(part.as_chunks().0.iter().map(|&bytes| number(bytes)));
            }
            Ok(())
        };
        read().map_err(|e| fault(Path::new(FILE), &e))?;
        Ok(numbers)
    }
}

fn path(dir: &Path, stage: &str) -> PathBuf {
    dir.join(format!("{stage}-{FILE}"))
}

/// Where a file is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

fn missing(expected: &str) -> TrainError {
    fault(Path::new(FILE), &format!("expected {expected}, found other ones"))
}

fn fault(path: &Path, description: &impl ToString) -> TrainError {
    TrainError::Checkpoint { file: path.display().to_string(), description: description.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const FLOATS: [f32; 2] = [1.5, -2.0];

    fn progressed() -> Progressed {
        let mut ledger = Ledger::default();
        ledger.restore_observed(vec![7, u32::MAX]);
        Progressed { step: 7, cached_items: vec![3], best: Some((0.1, 4)), ledger, ..Progressed::default() }
    }

    fn checkpoint(progressed: &Progressed) -> Checkpoint<'_> {
        let floats = |floats| Numbers::Floats(Cow::Borrowed(floats));
        let tensors = [("cache", floats(&FLOATS[..])), ("rows.0", floats(&[]))]
            .into_iter()
            .chain([(OBSERVED, Numbers::Counts(progressed.ledger.observed()))])
            .map(|(name, numbers)| (name.to_owned(), numbers));
        Checkpoint { progressed, weight_steps: 7, tensors: tensors.collect() }
    }

    #[test]
    fn a_checkpoint_reads_back_and_is_of_one_run() {
        let dir = tempfile::tempdir().unwrap();
        let open = |run: &str, resume| CheckpointStore::open(dir.path(), "fit", &run, resume);
        let store = open("a", true).unwrap();
        assert!(store.read().unwrap().is_none());
        store.write(&checkpoint(&progressed())).unwrap();
        let mut kept = store.read().unwrap().unwrap();
        assert_eq!(kept.state.progressed.step, 7);
        assert_eq!(kept.floats("cache", 2).unwrap(), FLOATS);
        assert_eq!(kept.floats("rows.0", 0).unwrap(), [0.0; 0]);
        assert_eq!(kept.numbers(OBSERVED, Dtype::U32, u32::from_le_bytes).unwrap(), [7, u32::MAX]);
        assert!(kept.floats("cache", 3).unwrap_err().to_string().contains("expected 3 numbers of `cache`"));
        assert!(kept.floats("moment1.0", 0).is_err());
        assert!(open("a", false).unwrap_err().to_string().contains("--resume"));
        assert!(open("b", true).unwrap_err().to_string().contains("another run"));
        fs::write(beside(&store.path), "half of one").unwrap();
        CheckpointStore::remove(dir.path(), "fit").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(open("b", false).unwrap().read().unwrap().is_none());
    }

    #[test]
    fn any_changed_bit_and_any_cut_is_found() {
        let mut bytes = Cursor::new(Vec::new());
        checkpoint(&progressed()).write("run", &mut bytes).unwrap();
        let bytes = bytes.into_inner();
        let read = |bytes: &[u8]| Kept::read(Cursor::new(bytes)).and_then(|mut kept| kept.verify());
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
        read(&bytes).unwrap();
        assert!(safetensors::SafeTensors::deserialize(&bytes[DIGEST_BYTES as usize..]).is_ok());
    }
}
