//! The metrics of refreshes: what the journal says of all that ended, whichever process ran them: a job is gone before anybody asks it.

use std::collections::BTreeMap;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use pagoda_commit_log::Lsn;

use super::{Mode, Record};

const REFRESHES: &str = "item_refreshes_total";
const TIMESTAMP: &str = "item_refresh_last_success_timestamp_seconds";
const DURATION: &str = "item_refresh_last_success_duration_seconds";
const ITEMS: &str = "item_refresh_last_success_items";

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Succeeded,
    /// By the index's gates.
    Refused,
    Failed,
    Cancelled,
}

/// How refreshes ended: a fold over the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those that began and have not ended, with those that were killed.
    begun: BTreeMap<Lsn, (Mode, Option<i64>)>,
    ended: BTreeMap<(Mode, Outcome), u64>,
    last: BTreeMap<Mode, Last>,
}

/// The last refresh that succeeded, as far as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    items: Option<u64>,
}

/// Says what each of these is, and shows as zero what has not happened.
pub(crate) fn describe() {
    describe_counter!(REFRESHES, Unit::Count, "Refreshes that ended, whichever process ran them.");
    describe_gauge!(TIMESTAMP, Unit::Seconds, "When the last refresh that succeeded ended, since the Unix epoch.");
    describe_gauge!(DURATION, Unit::Seconds, "What the last refresh that succeeded took.");
    describe_gauge!(ITEMS, Unit::Count, "Items of the catalog of the last refresh that succeeded.");
    Tally::default().show();
}

impl Tally {
    /// Takes in the next record.
    pub(super) fn apply(&mut self, lsn: Lsn, record: &Record) {
        let (start, outcome) = match record {
            Record::Started { mode, at_ms, .. } => {
                self.begun.insert(lsn, (*mode, *at_ms));
                return;
            }
            Record::Built { .. } => return,
            Record::Succeeded { refresh, .. } => (refresh, Outcome::Succeeded),
            Record::Failed { refresh, refused: Some(_), .. } => (refresh, Outcome::Refused),
            Record::Failed { refresh, .. } => (refresh, Outcome::Failed),
            Record::Cancelled { refresh, .. } => (refresh, Outcome::Cancelled),
        };
        let Some((mode, started_ms)) = self.begun.remove(start) else { return };
        *self.ended.entry((mode, outcome)).or_default() += 1;
        if let Record::Succeeded { at_ms: ended_ms, items, .. } = *record {
            self.last.insert(mode, Last { started_ms, ended_ms, items });
        }
    }

    /// Shows it to who scrapes this process.
    pub(super) fn show(&self) {
        for mode in [Mode::Full, Mode::Incremental] {
            for outcome in [Outcome::Succeeded, Outcome::Refused, Outcome::Failed, Outcome::Cancelled] {
                let count = self.ended.get(&(mode, outcome)).copied().unwrap_or(0);
                counter!(REFRESHES, "mode" => mode.name(), "outcome" => outcome.name()).absolute(count);
            }
        }
        for (mode, Last { started_ms, ended_ms, items }) in &self.last {
            let took_ms = ended_ms.zip(*started_ms).map(|(ended, started)| ended - started);
            let seconds = |ms: i64| ms as f64 / 1000.0;
            let figures = [
                (TIMESTAMP, ended_ms.map(seconds)),
                (DURATION, took_ms.map(seconds)),
                (ITEMS, items.map(|n| n as f64)),
            ];
            for (name, figure) in figures.into_iter().filter_map(|(name, figure)| Some((name, figure?))) {
                gauge!(name, "mode" => mode.name()).set(figure);
            }
        }
    }
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use pagoda_model::{ModelVersion, SpaceId};

    use super::*;
    use crate::refresh::Refused;

    #[test]
    fn ends_count_by_mode_and_outcome_and_the_last_success_of_each_mode_is_kept() {
        let model_version = ModelVersion { space: SpaceId(7), revision: 0 };
        let started = |mode| Record::Started { mode, catalog_version: 5, model_version, at_ms: Some(1) };
        let succeeded = |refresh, ended_ms| Record::Succeeded {
            refresh: Lsn(refresh),
            lsn: Lsn(99),
            generation_id: None,
            at_ms: Some(ended_ms),
            items: Some(3),
        };
        let refused = Some(Refused { catalog_version: 5, generation_id: "b".into() });
        let failed = |refresh, refused| Record::Failed {
            refresh,
            error: "x".into(),
            nothing_written: true,
            refused,
            at_ms: None,
        };
        let records = [
            started(Mode::Full),
            succeeded(1, 10),
            started(Mode::Incremental),
            started(Mode::Full),
            failed(Lsn(4), refused),
            succeeded(3, 20),
            started(Mode::Full),
            started(Mode::Full),
            failed(Lsn(8), None),
        ];
        let mut tally = Tally::default();
        (1..).zip(&records).for_each(|(lsn, record)| tally.apply(Lsn(lsn), record));
        let (full, incremental) = (Mode::Full, Mode::Incremental);
        let ended = [
            ((full, Outcome::Succeeded), 1),
            ((full, Outcome::Refused), 1),
            ((full, Outcome::Failed), 1),
            ((incremental, Outcome::Succeeded), 1),
        ];
        assert_eq!(tally.ended, ended.into());
        assert_eq!(
            tally.last.iter().map(|(mode, last)| (*mode, last.ended_ms.unwrap())).collect::<Vec<_>>(),
            [(full, 10), (incremental, 20)]
        );
        assert_eq!(tally.begun, [(Lsn(7), (full, Some(1)))].into(), "it was killed");
    }
}
