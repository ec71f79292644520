//! [`Examples`]: rows or timelines of the log, shuffled anew for every epoch, without holding more than a window of it.
//!
//! An epoch visits the partitions in an order of its own. As many of them as fit are a window, whose examples are shuffled together. With one
//! partition that is a full shuffle; with several, what is in one window never meets what is in another of the same epoch, but since users
//! are spread over partitions by a hash, each window is a fair sample of users.

use std::sync::Arc;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Part, hash::mixed, log::Log, timelines::Timelines};
use crate::error::TrainError;

/// The most examples of a window, so that 32 bits number them.
const WINDOW_MAX: u64 = 1 << 31;

/// One example.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    /// Timelines of some users, without the rows that are not kept.
    pub(crate) timelines: Arc<Timelines>,
    /// The number of the example's row, or of its timeline, in them.
    pub(crate) place: usize,
}

/// The examples of a log, epoch after epoch.
pub(crate) struct Examples<'a> {
    log: &'a Log,
    keep: fn(Part) -> bool,
    unit: Unit,
    seed: u64,
    window_rows: u64,
    sizes: Vec<Size>,
    /// The only partition, where there is one.
    only: Option<Arc<Timelines>>,
    epoch: u64,
    position: u64,
    window: Option<Window>,
}

/// What an example is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Row,
    Timeline,
}

/// What is kept of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    rows: u64,
    examples: u64,
}

/// Examples of some partitions, shuffled.
struct Window {
    epoch: u64,
    /// The position of its first example in the epoch.
    first: u64,
    timelines: Vec<Arc<Timelines>>,
    /// Places among the examples of all its timelines, one after another.
    order: Vec<u32>,
}

impl<'a> Examples<'a> {
    /// The kept rows. The same seed gives the same order. A window is of so many rows at most, unless one partition has more.
    pub(crate) fn new(log: &'a Log, keep: fn(Part) -> bool, seed: u64, window_rows: u64) -> Result<Self, TrainError> {
        Self::of(log, keep, Unit::Row, seed, window_rows)
    }

    /// The timelines of kept rows, likewise.
    pub(crate) fn of_timelines(
        log: &'a Log,
        keep: fn(Part) -> bool,
        seed: u64,
        window_rows: u64,
    ) -> Result<Self, TrainError> {
        Self::of(log, keep, Unit::Timeline, seed, window_rows)
    }

    fn of(log: &'a Log, keep: fn(Part) -> bool, unit: Unit, seed: u64, window_rows: u64) -> Result<Self, TrainError> {
        let (window_rows, sizes) = (window_rows.min(WINDOW_MAX), Vec::new());
        let mut examples =
            Self { log, keep, unit, seed, window_rows, sizes, only: None, epoch: 0, position: 0, window: None };
        for partition in 0..log.partitions() {
            let timelines = examples.load(partition)?;
            examples.sizes.push(Size { rows: timelines.rows() as u64, examples: unit.count(&timelines) as u64 });
            examples.only = (log.partitions() == 1).then_some(timelines);
        }
        if examples.per_epoch() == 0 {
            return Err(TrainError::TooLittleData("expected examples to train on, found none".into()));
        }
        Ok(examples)
    }

    /// How many examples an epoch has.
    pub(crate) fn per_epoch(&self) -> u64 {
        self.sizes.iter().map(|size| size.examples).sum()
    }

    /// The epoch and the position in it of the example that comes next.
    #[cfg(test)]
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.epoch, self.position)
    }

    /// Goes to a position, as if all examples before it had been taken. What follows is the same as if they had.
    pub(crate) fn skip_to(&mut self, epoch: u64, position: u64) {
        let per_epoch = self.per_epoch();
        (self.epoch, self.position) = (epoch + position / per_epoch, position % per_epoch);
    }

    /// The next examples: each of an epoch once, then those of the next epoch.
    pub(crate) fn next(&mut self, count: usize) -> Result<Vec<Example>, TrainError> {
        let unit = self.unit;
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count {
            let position = self.position;
            let window = self.window()?;
            let from = (position - window.first) as usize;
            let taken = &window.order[from..window.order.len().min(from + count - batch.len())];
            batch.extend(taken.iter().map(|&place| window.example(place as usize, unit)));
            let taken = taken.len() as u64;
            self.skip_to(self.epoch, position + taken);
        }
        Ok(batch)
    }

    /// The window of the current position.
    fn window(&mut self) -> Result<&Window, TrainError> {
        let current = self.window.take().filter(|window| {
            let last = window.first + window.order.len() as u64;
            window.epoch == self.epoch && (window.first..last).contains(&self.position)
        });
        let window = match current {
            Some(window) => window,
            None => self.open()?,
        };
        Ok(self.window.insert(window))
    }

    fn open(&self) -> Result<Window, TrainError> {
        let mut first = 0;
        let windows = self.windows();
        for (number, partitions) in windows.iter().enumerate() {
            let count: u64 = partitions.iter().map(|&partition| self.sizes[partition].examples).sum();
            if self.position < first + count {
                let timelines: Vec<_> = partitions.iter().map(|&p| self.load(p)).collect::<Result<_, _>>()?;
                let mut order: Vec<u32> = (0..count as u32).collect();
                order.shuffle(&mut self.rng(1 + number as u64));
                return Ok(Window { epoch: self.epoch, first, timelines, order });
            }
            first += count;
        }
        unreachable!("a position is always inside of its epoch")
    }

    /// The partitions of each window of the epoch.
    fn windows(&self) -> Vec<Vec<usize>> {
        let mut partitions: Vec<usize> = (0..self.sizes.len()).collect();
        partitions.shuffle(&mut self.rng(0));
        let mut windows: Vec<Vec<usize>> = Vec::new();
        let mut rows = 0;
        for partition in partitions {
            let more = self.sizes[partition].rows;
            match windows.last_mut() {
                Some(window) if rows + more <= self.window_rows => {
                    window.push(partition);
                    rows += more;
                }
                _ => {
                    windows.push(vec![partition]);
                    rows = more;
                }
            }
        }
        windows
    }

    fn rng(&self, stream: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(mixed(&[self.seed, self.epoch, stream]))
    }

    fn load(&self, partition: usize) -> Result<Arc<Timelines>, TrainError> {
        match &self.only {
            Some(timelines) => Ok(Arc::clone(timelines)),
            None => Ok(Arc::new(self.log.load(partition)?.retain(self.keep))),
        }
    }
}

impl Unit {
    fn count(self, timelines: &Timelines) -> usize {
        match self {
            Self::Row => timelines.rows(),
            Self::Timeline => timelines.len(),
        }
    }
}

impl Window {
    fn example(&self, mut place: usize, unit: Unit) -> Example {
        for timelines in &self.timelines {
            let count = unit.count(timelines);
            if place < count {
                return Example { timelines: Arc::clone(timelines), place };
            }
            place -= count;
        }
        unreachable!("a window's order has no places but its own")
    }
}
