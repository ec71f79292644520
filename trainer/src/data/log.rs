//! [`Log`]: the log's rows in partitions of users, in memory or in a temporary file. [`LogWriter`] makes it while the table is read.
//!
//! All rows of a user are in one partition, so that a partition can be sorted, split and learned from alone.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use pagoda_dataset::{DatasetError, Interaction};
use pagoda_model::schema::Split;

use super::{
    Part,
    hash::mixed,
    rows::{Row, settle},
    spill::Spill,
    split::{Cut, check_counts},
    timelines::Timelines,
};
use crate::{config::SplitConfig, error::TrainError};

/// Positives, then impressions without a click.
const KINDS: usize = 2;
const POSITIVES: usize = 0;
const EXPOSED: usize = 1;

/// When rows leave memory, and what they are divided into then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// So many rows stay in memory, in one partition.
    pub(crate) memory_rows: u64,
    /// About as many rows of a kind has a partition otherwise.
    pub(crate) partition_rows: u64,
    /// The most partitions.
    pub(crate) partitions_max: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { memory_rows: 8 << 20, partition_rows: 4 << 20, partitions_max: 256 }
    }
}

/// The rows of a log, by user.
#[derive(Debug)]
pub(crate) struct Log {
    store: Store,
    /// Of each partition.
    counts: Vec<[u64; 3]>,
    time_range: (i64, i64),
}

#[derive(Debug)]
enum Store {
    /// One partition, split.
    Memory([Arc<Timelines>; KINDS]),
    /// Sorted rows: each partition's positives, then each partition's impressions. How they are split, once they are.
    Spilled(Mutex<Spill>, Option<Cut>),
}

/// Takes a log row by row.
pub(crate) struct LogWriter {
    limits: LogLimits,
    memory: [Vec<Row>; KINDS],
    rows: u64,
    spill: Option<Spill>,
    time_range: (i64, i64),
    first_met: Vec<i64>,
}

impl Log {
    /// How many partitions there are; at least one.
    pub(crate) fn partitions(&self) -> usize {
        self.counts.len()
    }

    /// All positives of one partition's users. Cheap where there is one partition alone, else read from the file each time.
    pub(crate) fn load(&self, partition: usize) -> Result<Arc<Timelines>, TrainError> {
        match &self.store {
            Store::Memory([positives, _]) => Ok(Arc::clone(positives)),
            Store::Spilled(spill, cut) => {
                let mut positives = self.read(spill, POSITIVES, partition)?;
                cut.iter().for_each(|cut| cut.mark(&mut positives));
                Ok(Arc::new(positives))
            }
        }
    }

    /// All impressions without a click of one partition's users, likewise. Whether the user chose such an item at another time is not looked at.
    pub(crate) fn load_exposed(&self, partition: usize) -> Result<Arc<Timelines>, TrainError> {
        match &self.store {
            Store::Memory([_, exposed]) => Ok(Arc::clone(exposed)),
            Store::Spilled(spill, cut) => {
                let mut exposed = self.read(spill, EXPOSED, partition)?;
                if let Some(cut) = cut {
                    cut.mark_exposed(&mut exposed, &*self.load(partition)?);
                }
                Ok(Arc::new(exposed))
            }
        }
    }

    /// Visits the positives of each partition in turn.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&Timelines)) -> Result<(), TrainError> {
        (0..self.partitions()).try_for_each(|partition| {
            visit(&*self.load(partition)?);
            Ok(())
        })
    }

    /// How many positives there are.
    pub(crate) fn rows(&self) -> u64 {
        Part::ALL.map(|part| self.count(part)).iter().sum()
    }

    /// How many positives are of a part.
    pub(crate) fn count(&self, part: Part) -> u64 {
        self.counts.iter().map(|counts| counts[part as usize]).sum()
    }

    /// The first and the last timestamp of positives.
    pub(super) fn time_range(&self) -> (i64, i64) {
        self.time_range
    }

    /// Splits the log. No part may be empty.
    pub(super) fn split(&mut self, split: Split, config: &SplitConfig, seed: u64) -> Result<(), TrainError> {
        if self.rows() > 0 {
            let cut = Cut::new(self, split, config, seed)?;
            match &mut self.store {
                Store::Memory([positives, exposed]) => {
                    cut.mark(Arc::make_mut(positives));
                    cut.mark_exposed(Arc::make_mut(exposed), positives);
                }
                Store::Spilled(_, known) => *known = Some(cut),
            }
            self.recount()?;
        }
        check_counts(Part::ALL.map(|part| self.count(part)), split, config)
    }

    fn recount(&mut self) -> Result<(), TrainError> {
        let mut all = Vec::with_capacity(self.partitions());
        self.visit(|timelines| {
            let mut counts = [0; 3];
            timelines.iter().flat_map(|t| t.parts).for_each(|&part| counts[part as usize] += 1);
            all.push(counts);
        })?;
        self.counts = all;
        Ok(())
    }

    fn read(&self, spill: &Mutex<Spill>, kind: usize, partition: usize) -> Result<Timelines, DatasetError> {
        // A reader that panicked has left nothing half done.
        let mut spill = spill.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = spill.read(kind * self.partitions() + partition).map_err(fault)?;
        drop(spill);
        Ok(Timelines::of_sorted(&rows))
    }
}

impl LogWriter {
    /// Without rows yet.
    pub(super) fn new(limits: LogLimits) -> Self {
        let memory = Default::default();
        Self { limits, memory, rows: 0, spill: None, time_range: (i64::MAX, i64::MIN), first_met: Vec::new() }
    }

    /// Takes the next row of the log.
    pub(super) fn push(&mut self, row: &Interaction) -> Result<(), DatasetError> {
        let kind = if row.weight > 0.0 { POSITIVES } else { EXPOSED };
        self.note(row, kind);
        let part = if row.test { Part::Test } else { Part::Train };
        let row = Row { user: row.user, item: row.item, timestamp: row.timestamp, event: row.event, part };
        if let Some(spill) = &mut self.spill {
            return spill.push(bucket(self.limits, kind, row.user), &row).map_err(fault);
        }
        self.memory[kind].push(row);
        self.rows += 1;
        if self.rows > self.limits.memory_rows { self.spill().map_err(fault) } else { Ok(()) }
    }

    fn note(&mut self, row: &Interaction, kind: usize) {
        let item = row.item as usize;
        if self.first_met.len() <= item {
            self.first_met.resize(item + 1, i64::MAX);
        }
        self.first_met[item] = self.first_met[item].min(row.timestamp);
        if kind == POSITIVES {
            let (first, last) = self.time_range;
            self.time_range = (first.min(row.timestamp), last.max(row.timestamp));
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut spill = Spill::new(KINDS * self.limits.partitions_max)?;
        for (kind, rows) in std::mem::take(&mut self.memory).into_iter().enumerate() {
            rows.iter().try_for_each(|row| spill.push(bucket(self.limits, kind, row.user), row))?;
        }
        self.spill = Some(spill);
        Ok(())
    }

    /// The log, its items renumbered by their places in a catalog, and when each item of the catalog was first met, be it by an impression;
    /// `i64::MAX` if never.
    pub(super) fn finish(self, item_places: &[u32], catalog: usize) -> Result<(Log, Vec<i64>), TrainError> {
        let mut first_met = vec![i64::MAX; catalog];
        for (&met, &place) in self.first_met.iter().zip(item_places) {
            first_met[place as usize] = met;
        }
        let settled = |mut rows: Vec<Row>| {
            rows.iter_mut().for_each(|row| row.item = item_places[row.item as usize]);
            settle(&mut rows);
            rows
        };
        let (store, partitions) = match self.spill {
            None => (Store::Memory(self.memory.map(|rows| Arc::new(Timelines::of_sorted(&settled(rows))))), 1),
            Some(spill) => {
                let groups = groups(&spill, self.limits);
                let partitions = groups.len() / KINDS;
                let spill = settle_all(spill, &groups, settled).map_err(fault)?;
                (Store::Spilled(Mutex::new(spill), None), partitions)
            }
        };
        let mut log = Log { store, counts: vec![[0; 3]; partitions], time_range: self.time_range };
        log.recount()?;
        Ok((log, first_met))
    }
}

fn bucket(limits: LogLimits, kind: usize, user: u32) -> usize {
    kind * limits.partitions_max + (mixed(&[u64::from(user)]) % limits.partitions_max as u64) as usize
}

/// Buckets, put together to partitions of about as many rows as wanted: those of positives, then those of impressions.
fn groups(spill: &Spill, limits: LogLimits) -> Vec<Vec<usize>> {
    let mut partitions: Vec<Vec<usize>> = Vec::new();
    let mut rows = [u64::MAX; KINDS];
    for bucket in 0..limits.partitions_max {
        let more = [0, 1].map(|kind| spill.len(kind * limits.partitions_max + bucket) as u64);
        let together = [0, 1].map(|kind| rows[kind].saturating_add(more[kind]));
        if together.iter().any(|&rows| rows > limits.partition_rows) {
            (rows, _) = (more, partitions.push(Vec::new()));
        } else {
            rows = together;
        }
        partitions.iter_mut().next_back().into_iter().for_each(|partition| partition.push(bucket));
    }
    let exposed = partitions.iter().map(|buckets| buckets.iter().map(|b| b + limits.partitions_max).collect());
    let exposed: Vec<Vec<usize>> = exposed.collect();
    [partitions, exposed].concat()
}

fn settle_all(spill: Spill, groups: &[Vec<usize>], settled: impl Fn(Vec<Row>) -> Vec<Row>) -> io::Result<Spill> {
    let mut spill = spill.regroup(groups)?;
    for group in 0..groups.len() {
        let rows = settled(spill.read(group)?);
        spill.rewrite(group, &rows)?;
    }
    Ok(spill)
}

fn fault(source: io::Error) -> DatasetError {
    let file = format!("a temporary file for the log in {}", std::env::temp_dir().display());
    DatasetError::Io { file, source }
}
