//! [`Recorded`]: the refresh that began last, as far as the journal tells, whichever process ran it.

use std::time::{SystemTime, UNIX_EPOCH};

use pagoda_commit_log::Lsn;

use super::{Record, RefreshId};

/// A refresh by its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its id.
    pub id: RefreshId,
    /// How it began.
    pub start: Record,
    /// How it ended. None: it goes on, or its process was killed.
    pub end: Option<Record>,
}

impl Recorded {
    /// Takes in the next record: it may begin a later refresh, or end this one.
    pub(super) fn apply(recorded: &mut Option<Self>, lsn: Lsn, record: &Record) {
        match record {
            Record::Started { .. } => *recorded = Some(Self { id: RefreshId(lsn), start: record.clone(), end: None }),
            Record::Built { .. } => {}
            Record::Succeeded { refresh, .. } | Record::Failed { refresh, .. } | Record::Cancelled { refresh, .. } => {
                let ended = recorded.as_mut().filter(|recorded| recorded.id.0 == *refresh);
                ended.into_iter().for_each(|ended| ended.end = Some(record.clone()));
            }
        }
    }
}

/// What a record's time is taken from, in milliseconds since 1970: for people, nothing follows from it.
pub(super) fn now_ms() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use pagoda_model::{ModelVersion, SpaceId};

    use super::{super::Mode, *};

    #[test]
    fn the_last_to_begin_is_told_with_its_own_end() {
        let model_version = ModelVersion { space: SpaceId(7), revision: 0 };
        let start = |catalog_version| Record::Started { mode: Mode::Full, catalog_version, model_version, at_ms: None };
        let end = |refresh| Record::Cancelled { refresh: Lsn(refresh), nothing_written: true, at_ms: None };
        let newest = |records: &[Record]| {
            let mut newest = None;
            (1..).zip(records).for_each(|(lsn, record)| Recorded::apply(&mut newest, Lsn(lsn), record));
            newest.map(|newest| (newest.id.0.0, newest.end))
        };
        assert_eq!(newest(&[]), None);
        assert_eq!(newest(&[start(1), end(1)]), Some((1, Some(end(1)))));
        assert_eq!(newest(&[start(1), start(2), end(1)]), Some((2, None)), "another one's end");
        assert_eq!(newest(&[start(1), start(2), end(1), end(2)]), Some((2, Some(end(2)))));
    }
}
