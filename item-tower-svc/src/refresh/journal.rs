//! What became of every refresh, as a log in the store: it says which catalog the index equals, if that is known.

use std::{collections::BTreeSet, sync::Arc};

use pagoda_commit_log::{Log, Lsn, Store};
use pagoda_model::ModelVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{Mode, RefreshId};
use crate::error::ItemTowerError;

/// Where the log is in the store.
const PREFIX: &str = "refreshes/log";

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// A refresh is about to begin; its id is this record's position.
    Started {
        /// How much it embeds.
        mode: Mode,
        /// The catalog it hands over.
        catalog_version: u64,
        /// The model it embeds with.
        model_version: ModelVersion,
    },
    /// It ended well.
    Succeeded {
        /// The position of its start.
        refresh: Lsn,
        /// The position in the index's log of its last write or its publication.
        lsn: Lsn,
    },
    /// It ended with an error.
    Failed {
        /// The position of its start.
        refresh: Lsn,
        /// Why.
        error: String,
    },
    /// It ended at somebody's request.
    Cancelled {
        /// The position of its start.
        refresh: Lsn,
    },
}

/// A catalog and the model whose embeddings of it the index took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The catalog.
    pub catalog_version: u64,
    /// The model.
    pub model: ModelVersion,
}

/// What the records say: a fold over them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The refresh whose start was the last record.
    just_started: Option<(Lsn, Baseline)>,
    /// What the index equals, if the last records say so: a start and, right after it, its success.
    equal: Option<Baseline>,
    /// The catalogs of all refreshes that began since the index last equalled one, that one included.
    begun: BTreeSet<u64>,
}

impl History {
    /// The catalog that the index equals in the embeddings of a model, if that is known.
    pub fn equal_catalog(&self, model: ModelVersion) -> Option<u64> {
        self.equal.filter(|baseline| baseline.model == model).map(|baseline| baseline.catalog_version)
    }

    /// The catalog that the index equals in the embeddings of whichever model, if that is known.
    pub fn known_catalog(&self) -> Option<u64> {
        self.equal.map(|baseline| baseline.catalog_version)
    }

    /// The catalogs whose items the index may hold.
    pub fn catalogs_begun(&self) -> impl Iterator<Item = u64> + '_ {
        self.begun.iter().copied()
    }

    /// Takes in the next record.
    pub fn apply(&mut self, lsn: Lsn, record: &Record) {
        self.equal = None;
        match (self.just_started.take(), record) {
            (_, &Record::Started { catalog_version, model_version, .. }) => {
                self.begun.insert(catalog_version);
                self.just_started = Some((lsn, Baseline { catalog_version, model: model_version }));
            }
            // Only a success right after its own start proves anything: else another refresh wrote at the same time.
            (Some((start, baseline)), Record::Succeeded { refresh, .. }) if start == *refresh => {
                self.equal = Some(baseline);
                self.begun = BTreeSet::from([baseline.catalog_version]);
            }
            _ => {}
        }
    }
}

/// The journal of a store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Log,
    read: Arc<Mutex<(Lsn, History)>>,
}

impl Journal {
    /// Opens the journal of a store.
    pub async fn open(store: Store) -> Result<Self, ItemTowerError> {
        Ok(Self { log: Log::open(store, PREFIX).await?, read: Arc::default() })
    }

    /// What the records say now, those of other processes included.
    pub async fn history(&self) -> Result<History, ItemTowerError> {
        let mut read = self.read.lock().await;
        for (lsn, bytes) in self.log.read_after(read.0).await? {
            let record = serde_json::from_slice(&bytes)
                .map_err(|e| ItemTowerError::Internal(format!("record {lsn} of `{PREFIX}`: {e}")))?;
            read.1.apply(lsn, &record);
            read.0 = lsn;
        }
        Ok(read.1.clone())
    }

    /// Records that a refresh begins, which gives it its id.
    pub async fn start(&self, mode: Mode, baseline: Baseline) -> Result<RefreshId, ItemTowerError> {
        let Baseline { catalog_version, model: model_version } = baseline;
        self.append(&Record::Started { mode, catalog_version, model_version }).await.map(RefreshId)
    }

    /// Records how a refresh ended.
    pub async fn end(
        &self,
        id: RefreshId,
        outcome: &Result<(), ItemTowerError>,
        lsn: Lsn,
    ) -> Result<(), ItemTowerError> {
        let refresh = id.0;
        let record = match outcome {
            Ok(()) => Record::Succeeded { refresh, lsn },
            Err(ItemTowerError::Cancelled) => Record::Cancelled { refresh },
            Err(error) => Record::Failed { refresh, error: error.to_string() },
        };
        self.append(&record).await.map(drop)
    }

    async fn append(&self, record: &Record) -> Result<Lsn, ItemTowerError> {
        let bytes = serde_json::to_vec(record).map_err(|e| ItemTowerError::Internal(e.to_string()))?;
        Ok(self.log.append(bytes.into()).await?)
    }
}

#[cfg(test)]
mod tests {
    use pagoda_model::SpaceId;

    use super::*;

    const MODEL: ModelVersion = ModelVersion { space: SpaceId(7), revision: 0 };
    const OTHER: ModelVersion = ModelVersion { space: SpaceId(8), revision: 0 };

    fn started(catalog_version: u64) -> Record {
        Record::Started { mode: Mode::Full, catalog_version, model_version: MODEL }
    }

    fn succeeded(refresh: u64) -> Record {
        Record::Succeeded { refresh: Lsn(refresh), lsn: Lsn(99) }
    }

    fn failed(refresh: u64) -> Record {
        Record::Failed { refresh: Lsn(refresh), error: "x".into() }
    }

    fn history(records: &[Record]) -> (Option<u64>, Vec<u64>) {
        let mut history = History::default();
        (1..).zip(records).for_each(|(lsn, record)| history.apply(Lsn(lsn), record));
        assert_eq!(history.equal_catalog(OTHER), None);
        (history.equal_catalog(MODEL), history.catalogs_begun().collect())
    }

    #[test]
    fn only_a_success_right_after_its_own_start_is_believed() {
        assert_eq!(history(&[]), (None, vec![]));
        assert_eq!(history(&[started(5), succeeded(1)]), (Some(5), vec![5]));
        assert_eq!(history(&[started(5), succeeded(1), started(6)]), (None, vec![5, 6]), "killed");
        assert_eq!(history(&[started(5), succeeded(1), started(6), failed(3)]), (None, vec![5, 6]));
        assert_eq!(history(&[started(5), started(6), succeeded(2), succeeded(1)]), (None, vec![6]), "interleaved");
        let recovered = [started(5), succeeded(1), started(6), failed(3), started(7), succeeded(5)];
        assert_eq!(history(&recovered), (Some(7), vec![7]));
    }

    #[tokio::test]
    async fn the_journal_is_read_by_other_processes() {
        let store = Store::open("memory://").unwrap();
        let (ours, theirs) = (Journal::open(store.clone()).await.unwrap(), Journal::open(store).await.unwrap());
        assert_eq!(theirs.history().await.unwrap(), History::default());
        let id = ours.start(Mode::Full, Baseline { catalog_version: 4, model: MODEL }).await.unwrap();
        assert_eq!(theirs.history().await.unwrap().equal_catalog(MODEL), None);
        ours.end(id, &Ok(()), Lsn(3)).await.unwrap();
        assert_eq!(theirs.history().await.unwrap().equal_catalog(MODEL), Some(4));
        let id = theirs.start(Mode::Incremental, Baseline { catalog_version: 5, model: MODEL }).await.unwrap();
        theirs.end(id, &Err(ItemTowerError::Cancelled), Lsn(3)).await.unwrap();
        assert_eq!(ours.history().await.unwrap().equal_catalog(MODEL), None);
    }
}
