//! [`Ledger`]: what negatives really came out, by source; what was expected of the sampler, and what it did.

use serde::{Deserialize, Serialize};

use super::{
    batches::Batch,
    private::PrivateNegatives,
    sources::{Drawn, Mixture, NegativeSampler, Source},
};

const SOURCES: usize = Source::ALL.len();
/// Points of the calibration, about.
const CALIBRATION_POINTS: usize = 40;

/// Pairs of a row and a negative of one batch, by [`Source::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    /// All.
    pub(super) drawn: [u64; SOURCES],
    /// Those that are known positives of the row's user, which are masked.
    pub(super) masked: [u64; SOURCES],
    /// Those of them that turn positive later than the row.
    pub(super) later: [u64; SOURCES],
}

impl Pairs {
    /// Adds those of single rows.
    pub(super) fn with_private(mut self, private: &PrivateNegatives) -> Self {
        self.drawn[Source::SHARED] = private.hard;
        self.drawn[Source::SHARED + 1] = private.exposed;
        self
    }
}

/// The negatives of a run from one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFigures {
    /// Where they come from.
    pub source: Source,
    /// The share asked for.
    pub target_share: f64,
    /// Their share of all pairs of an example and a negative that were not masked.
    pub realised_share: f64,
    /// Their share of the loss's gradient by the scores of negatives; absent if it was not measured.
    pub loss_share: Option<f64>,
    /// The share of pairs that were known positives of the user, and masked. Absent for sources of single rows, which leave out known
    /// positives before they are drawn.
    pub masked_share: Option<f64>,
    /// The share of pairs that turn positive after the example, as seen in the training log where they are known and masked: about as
    /// many do so unknown, after its end. Absent likewise.
    pub estimated_false_negative_rate: Option<f64>,
}

/// Items that the sampler was expected to draw about equally often.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// How many items.
    pub items: u64,
    /// How often one of them was expected as a column, over the run.
    pub expected: f64,
    /// How often it was one.
    pub observed: f64,
}

/// The negatives of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    drawn: [u64; SOURCES],
    masked: [u64; SOURCES],
    later: [u64; SOURCES],
    masses: [f64; SOURCES],
    /// Columns by catalog item; there may be too many for what is kept as JSON.
    #[serde(skip)]
    observed: Vec<u32>,
    /// The numbers of columns by source that the batches had.
    columns: [u64; Source::SHARED],
}

impl Ledger {
    /// Nothing was drawn yet, of a catalog of so many items.
    pub(super) fn new(catalog: usize) -> Self {
        Self { observed: vec![0; catalog], ..Self::default() }
    }

    /// How often each catalog item was a column.
    pub(super) fn observed(&self) -> &[u32] {
        &self.observed
    }

    /// Puts back what was kept.
    pub(super) fn restore_observed(&mut self, observed: Vec<u32>) {
        self.observed = observed;
    }

    /// Takes down a batch.
    pub(super) fn record(&mut self, batch: &Batch) {
        let Pairs { drawn, masked, later } = batch.pairs;
        for source in 0..SOURCES {
            self.drawn[source] += drawn[source];
            self.masked[source] += masked[source];
            self.later[source] += later[source];
        }
        for (columns, segment) in self.columns.iter_mut().zip(&batch.segments) {
            *columns += segment.len() as u64;
        }
        for &item in &batch.columns {
            self.observed[item as usize] = self.observed[item as usize].saturating_add(1);
        }
    }

    /// Takes down what the loss measured: by shared source, then of hard and exposed ones together.
    pub(super) fn record_masses(&mut self, batch: &Batch, masses: &[f64]) {
        self.masses.iter_mut().zip(&masses[..Source::SHARED]).for_each(|(sum, mass)| *sum += mass);
        let [hard, exposed] = [0, 1].map(|at| batch.pairs.drawn[Source::SHARED + at] as f64);
        if hard + exposed > 0.0 {
            let private = masses[Source::SHARED];
            self.masses[Source::SHARED] += private * hard / (hard + exposed);
            self.masses[Source::SHARED + 1] += private * exposed / (hard + exposed);
        }
    }

    /// Whether all that was drawn were known positives, so that there was nothing to tell the positives from.
    pub(super) fn has_nothing(&self) -> bool {
        self.drawn.iter().sum::<u64>() == self.masked.iter().sum::<u64>()
    }

    /// The figures of each source that was asked for.
    pub(super) fn figures(&self, mixture: &Mixture) -> Vec<SourceFigures> {
        let kept = |at: usize| (self.drawn[at] - self.masked[at]) as f64;
        let all: f64 = (0..SOURCES).map(kept).sum();
        let mass: f64 = self.masses.iter().sum();
        let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
        let asked = (0..SOURCES).filter(|&at| mixture.shares[at] > 0.0);
        let figures = asked.map(|at| SourceFigures {
            source: Source::ALL[at],
            target_share: mixture.shares[at],
            realised_share: share(kept(at), all),
            loss_share: (mass > 0.0).then(|| self.masses[at] / mass),
            masked_share: (at < Source::SHARED).then(|| share(self.masked[at] as f64, self.drawn[at] as f64)),
            estimated_false_negative_rate: (at < Source::SHARED)
                .then(|| share(self.later[at] as f64, self.drawn[at] as f64)),
        });
        figures.collect()
    }

    /// Expected and observed columns of items, in groups of items of about equal expectation, rarest first.
    pub(super) fn calibration(&self, sampler: &NegativeSampler) -> Vec<CalibrationPoint> {
        let [in_batch, uniform, popularity, cache] = self.columns.map(|n| n as usize);
        let drawn = Drawn { in_batch, uniform, popularity, cache };
        let expected =
            (0..self.observed.len()).map(|item| (sampler.expected(item as u32, &drawn), self.observed[item]));
        let mut items: Vec<(f64, u32)> = expected.filter(|&(expected, _)| expected > 0.0).collect();
        items.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = items.len().div_ceil(CALIBRATION_POINTS).max(1);
        let point = |group: &[(f64, u32)]| CalibrationPoint {
            items: group.len() as u64,
            expected: group.iter().map(|(expected, _)| expected).sum::<f64>() / group.len() as f64,
            observed: group.iter().map(|&(_, observed)| f64::from(observed)).sum::<f64>() / group.len() as f64,
        };
        items.chunks(size).map(point).collect()
    }
}
