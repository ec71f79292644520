//! What became of every refresh, as a log in the store, and with that, what the index holds: which catalog it equals, or which it may have parts of.
//!
//! A catalog is in the registry before its refresh begins, since that is where it is read, and so the newest catalog says nothing of the index.
//! The journal does. A refresh is recorded before it writes anything and after its last write, so that one which was killed in
//! between leaves a start without an end: then the index may hold something of its catalog, and the next incremental refresh hands over everything. What an
//! incremental refresh builds on is exact whatever happened:
//!
//! - A refresh that ended before it wrote anything (gates refused its generation, the catalog was unreadable or nearly empty, it was cancelled in
//!   time) is as if it had not been. Its catalog is nobody's basis.
//! - A generation that gates refused is stored, and an operator may publish it by force, which is not recorded here. So its id is, and where the index says
//!   that it is current, its catalog counts as handed over.
//! - Where the index says that a generation is current which is neither the one that refreshes left, nor one that a full refresh was about to publish
//!   since, nor compacted from these (after a rollback, say), nothing is known of what it holds, and a full refresh is needed.
//! - Refreshes of two processes at once are not told apart in the index, so that none of them proves what it holds, and the catalogs of all count as handed
//!   over. An incremental one stops once a later one has begun; one that was planned before something else was recorded writes nothing.
//! - An incremental refresh passes no gates, so it takes no catalog whose generation gates refused, unless by force it is current.
//!
//! Users' features come after the publication, as whoever brings both does it (`pagoda refresh`): a process that dies in between leaves a newer catalog with
//! older histories, which is as good as a log that ends earlier, and doing it again ends as if nothing had happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use pagoda_commit_log::{Log, Lsn, Store};
use pagoda_model::ModelVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use super::{Mode, Recorded, Refresh, RefreshId, figures::Tally, recorded::now_ms};
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
        /// When, in milliseconds since 1970 by the clock of its process; None in records of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ms: Option<i64>,
    },
    /// A full refresh has built a generation, and is about to publish it.
    Built {
        /// The position of its start.
        refresh: Lsn,
        /// The generation.
        generation_id: String,
    },
    /// It ended well.
    Succeeded {
        /// The position of its start.
        refresh: Lsn,
        /// The position in the index's log of its last write or its publication.
        lsn: Lsn,
        /// The generation that it published or wrote into; None in records of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation_id: Option<String>,
        /// When, in milliseconds since 1970 by the clock of its process; None in records of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ms: Option<i64>,
        /// Items of its catalog; None in records of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        items: Option<u64>,
    },
    /// It ended with an error.
    Failed {
        /// The position of its start.
        refresh: Lsn,
        /// Why.
        error: String,
        /// Whether it is certain that the index got nothing of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nothing_written: bool,
        /// What gates refused, if they did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<Refused>,
        /// When, in milliseconds since 1970 by the clock of its process; None in records of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ms: Option<i64>,
    },
    /// It ended at somebody's request.
    Cancelled {
        /// The position of its start.
        refresh: Lsn,
        /// Whether it is certain that the index got nothing of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        nothing_written: bool,
        /// When, in milliseconds since 1970 by the clock of its process; None in records of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_ms: Option<i64>,
    },
}

/// A generation that was built and that gates refused to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The catalog it was built from.
    pub catalog_version: u64,
    /// The generation.
    pub generation_id: String,
}

/// A catalog and the model whose embeddings of it the index took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The catalog.
    pub catalog_version: u64,
    /// The model.
    pub model: ModelVersion,
}

/// What an incremental refresh may take for granted of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It equals this catalog.
    Equal(u64),
    /// Whatever it holds by refreshes is of these catalogs.
    AmongThese(BTreeSet<u64>),
}

/// What the records say: a fold over them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    lsn: Lsn,
    known: Known,
    /// The catalogs of the refreshes that have not ended, with those that were killed.
    open: BTreeMap<Lsn, u64>,
    /// The refresh whose start was the last record, and what was known before it.
    just_started: Option<(Lsn, Baseline, Known)>,
    /// What gates refused, by the catalogs that have not passed them since.
    refused: BTreeMap<u64, Refusals>,
    newest: Option<Recorded>,
}

/// The generations of one catalog that gates refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Refusals {
    /// The latest last.
    generations: Vec<String>,
    /// The catalogs of all refreshes that began since the first of them was built: what they wrote is laid over it.
    since: BTreeSet<u64>,
}

/// What is known of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// What it equals, if the last records say so: a start and, with nothing that others wrote in between, its success.
    equal: Option<Baseline>,
    /// The catalogs of all refreshes that began since it last equalled one, that one included.
    begun: BTreeSet<u64>,
    /// The generation that was current then; None: a record of an older version does not say.
    generation: Option<String>,
    /// The position of the success that says so.
    since: Lsn,
    /// The generations that full refreshes which began after it may have published.
    built: BTreeSet<String>,
}

impl Record {
    /// How a refresh ended, whose progress stands so; `generation_id` is what is current where it wrote.
    pub(super) fn of_end(refresh: &Refresh, outcome: &Result<(), ItemTowerError>, generation_id: Option<&str>) -> Self {
        let Refresh { id: RefreshId(start), lsn, catalog_version, .. } = *refresh;
        let refused = |generation_id: &String| Refused { catalog_version, generation_id: generation_id.clone() };
        let at_ms = now_ms();
        match outcome {
            Ok(()) => {
                let (generation_id, items) = (generation_id.map(str::to_owned), Some(refresh.items_read));
                Self::Succeeded { refresh: start, lsn, generation_id, at_ms, items }
            }
            Err(error @ ItemTowerError::Cancelled) => {
                Self::Cancelled { refresh: start, nothing_written: refresh.wrote_nothing(error), at_ms }
            }
            Err(error) => Self::Failed {
                refresh: start,
                error: error.to_string(),
                nothing_written: refresh.wrote_nothing(error),
                refused: refresh.refused_generation_id.as_ref().map(refused),
                at_ms,
            },
        }
    }
}

impl History {
    /// What an incremental refresh with a model may take for granted, when the current generation of its space has this lineage (itself, after those that it
    /// was compacted from; empty where the index does not say). None: nothing.
    pub fn basis(&self, model: ModelVersion, lineage: &[String]) -> Option<Basis> {
        let Known { equal, begun, .. } = &self.known;
        let is_as_left = lineage.is_empty() || self.known.is_left_by_refreshes(lineage);
        if is_as_left && let Some(equal) = equal.filter(|equal| equal.model == model) {
            return Some(Basis::Equal(equal.catalog_version));
        }
        let is_forced = self.forced(lineage).next().is_some();
        let since = self.refused.values().filter(|refusals| refusals.has_one_of(lineage)).flat_map(|r| &r.since);
        let among_these = || begun.iter().chain(since).copied().chain(self.forced(lineage)).collect();
        (is_as_left || is_forced).then(|| Basis::AmongThese(among_these()))
    }

    /// The catalogs of which gates refused a generation of this lineage: an operator has published it by force.
    pub fn forced<'h>(&'h self, lineage: &'h [String]) -> impl Iterator<Item = u64> + 'h {
        self.refused.iter().filter(|(_, refusals)| refusals.has_one_of(lineage)).map(|(catalog, _)| *catalog)
    }

    /// The catalogs whose items the index may hold, but for generations that were published by force.
    pub fn catalogs_begun(&self) -> impl Iterator<Item = u64> + '_ {
        self.known.begun.iter().copied()
    }

    /// The catalogs whose generations gates refused, with the latest of these, but for those with one of this lineage.
    pub fn refused<'h>(&'h self, lineage: &'h [String]) -> impl Iterator<Item = (u64, &'h str)> {
        let refused = self.refused.iter().filter(|(_, refusals)| !refusals.has_one_of(lineage));
        refused.filter_map(|(catalog, refusals)| Some((*catalog, refusals.generations.last()?.as_str())))
    }

    /// Whether a refresh began with nothing recorded between this history and its start.
    pub fn is_followed_by(&self, id: RefreshId) -> bool {
        id.0 == self.lsn.next()
    }

    /// The refresh that began last, whichever process ran it.
    pub fn newest(&self) -> Option<&Recorded> {
        self.newest.as_ref()
    }

    /// Takes in the next record.
    pub fn apply(&mut self, lsn: Lsn, record: &Record) {
        Recorded::apply(&mut self.newest, lsn, record);
        if let Record::Failed { refused: Some(Refused { catalog_version, generation_id }), .. } = record {
            let refusals = self.refused.entry(*catalog_version).or_default();
            refusals.generations.retain(|generation| generation != generation_id);
            refusals.generations.push(generation_id.clone());
        }
        self.lsn = lsn;
        match *record {
            Record::Started { catalog_version, model_version, .. } => {
                self.start(lsn, Baseline { catalog_version, model: model_version });
            }
            Record::Built { refresh, ref generation_id } => self.build(refresh, generation_id),
            Record::Succeeded { refresh, ref generation_id, .. } => self.succeed(refresh, generation_id.clone()),
            Record::Failed { refresh, nothing_written, .. } | Record::Cancelled { refresh, nothing_written, .. } => {
                self.fail(refresh, nothing_written);
            }
        }
    }

    fn start(&mut self, lsn: Lsn, baseline: Baseline) {
        let before = self.known.clone();
        self.known.equal = None;
        self.known.begun.insert(baseline.catalog_version);
        for refusals in self.refused.values_mut() {
            refusals.since.insert(baseline.catalog_version);
        }
        self.open.insert(lsn, baseline.catalog_version);
        self.just_started = Some((lsn, baseline, before));
    }

    fn build(&mut self, refresh: Lsn, generation_id: &str) {
        if refresh > self.known.since {
            self.known.built.insert(generation_id.to_owned());
        }
        self.just_started.take_if(|(start, ..)| *start != refresh);
    }

    /// Only a success right after its own start proves anything: else another refresh may have written at the same time.
    fn succeed(&mut self, refresh: Lsn, generation: Option<String>) {
        let Some((_, baseline, _)) = self.just_started.take_if(|(start, ..)| *start == refresh) else {
            return self.may_have_written(refresh);
        };
        self.open.remove(&refresh);
        // It passed the gates, or its generation is current by force.
        self.refused.retain(|catalog, _| *catalog != baseline.catalog_version);
        let begun = BTreeSet::from([baseline.catalog_version]);
        self.known = Known { equal: Some(baseline), begun, generation, since: self.lsn, built: BTreeSet::new() };
    }

    fn fail(&mut self, refresh: Lsn, nothing_written: bool) {
        if !nothing_written {
            return self.may_have_written(refresh);
        }
        self.open.remove(&refresh);
        if let Some((.., before)) = self.just_started.take_if(|(start, ..)| *start == refresh) {
            self.known = before;
        }
    }

    /// Something of its catalog may be in the index, also where others succeeded since it began.
    fn may_have_written(&mut self, refresh: Lsn) {
        self.just_started = None;
        self.known.equal = None;
        self.known.begun.extend(self.open.remove(&refresh));
    }
}

impl Known {
    /// Whether what is current is what refreshes left, or may have left when they were killed.
    fn is_left_by_refreshes(&self, lineage: &[String]) -> bool {
        self.generation.as_ref().is_none_or(|left| lineage.contains(left))
            || lineage.iter().any(|generation| self.built.contains(generation))
    }
}

impl Refusals {
    fn has_one_of(&self, lineage: &[String]) -> bool {
        self.generations.iter().any(|generation| lineage.contains(generation))
    }
}

/// The journal of a store. Clones are the same.
#[derive(Clone, Debug)]
pub struct Journal {
    log: Log,
    read: Arc<Mutex<Read>>,
}

/// What was read of the journal.
#[derive(Debug, Default)]
struct Read {
    lsn: Lsn,
    history: History,
    tally: Tally,
}

impl Journal {
    /// Opens the journal of a store.
    pub async fn open(store: Store) -> Result<Self, ItemTowerError> {
        Ok(Self { log: Log::open(store, PREFIX).await?, read: Arc::default() })
    }

    /// What the records say now, those of other processes included.
    pub async fn history(&self) -> Result<History, ItemTowerError> {
        Ok(self.read_on().await?.history.clone())
    }

    async fn read_on(&self) -> Result<MutexGuard<'_, Read>, ItemTowerError> {
        let mut read = self.read.lock().await;
        for (lsn, bytes) in self.log.read_after(read.lsn).await? {
            let record = serde_json::from_slice(&bytes)
                .map_err(|e| ItemTowerError::Internal(format!("record {lsn} of `{PREFIX}`: {e}")))?;
            read.history.apply(lsn, &record);
            read.tally.apply(lsn, &record);
            read.lsn = lsn;
        }
        read.tally.show();
        Ok(read)
    }

    /// Reads on again and again, so that the metrics of refreshes are those of all processes.
    pub async fn follow(&self, every: Duration) -> Infallible {
        loop {
            // Where the store is away, who looks for models says so.
            drop(self.read_on().await);
            tokio::time::sleep(every).await;
        }
    }

    /// Records that a refresh begins, which gives it its id.
    pub async fn start(&self, mode: Mode, baseline: Baseline) -> Result<RefreshId, ItemTowerError> {
        let Baseline { catalog_version, model: model_version } = baseline;
        let started = Record::Started { mode, catalog_version, model_version, at_ms: now_ms() };
        self.append(&started).await.map(RefreshId)
    }

    /// Refuses to go on once another refresh has begun after this one, so that no more than what is on its way is written beside it.
    pub async fn require_newest(&self, id: RefreshId) -> Result<(), ItemTowerError> {
        match self.read_on().await?.history.newest().map(|newest| newest.id) {
            Some(newest) if newest != id => Err(ItemTowerError::RefreshedElsewhere(format!("{newest} began after it"))),
            _ => Ok(()),
        }
    }

    /// Records what became of a refresh; returns the position.
    pub async fn append(&self, record: &Record) -> Result<Lsn, ItemTowerError> {
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

    fn started(mode: Mode, catalog_version: u64) -> Record {
        Record::Started { mode, catalog_version, model_version: MODEL, at_ms: None }
    }

    fn full(catalog_version: u64) -> Record {
        started(Mode::Full, catalog_version)
    }

    fn incremental(catalog_version: u64) -> Record {
        started(Mode::Incremental, catalog_version)
    }

    fn succeeded(refresh: u64, generation: &str) -> Record {
        let generation_id = (!generation.is_empty()).then(|| generation.to_owned());
        Record::Succeeded { refresh: Lsn(refresh), lsn: Lsn(99), generation_id, at_ms: None, items: None }
    }

    fn built(refresh: u64, generation: &str) -> Record {
        Record::Built { refresh: Lsn(refresh), generation_id: generation.to_owned() }
    }

    fn failed(refresh: u64, nothing_written: bool) -> Record {
        Record::Failed { refresh: Lsn(refresh), error: "x".into(), nothing_written, refused: None, at_ms: None }
    }

    fn refused(refresh: u64, catalog_version: u64, generation: &str) -> Record {
        let refused = Some(Refused { catalog_version, generation_id: generation.into() });
        Record::Failed { refresh: Lsn(refresh), error: "x".into(), nothing_written: true, refused, at_ms: None }
    }

    fn history(records: &[Record]) -> History {
        let mut history = History::default();
        (1..).zip(records).for_each(|(lsn, record)| history.apply(Lsn(lsn), record));
        history
    }

    /// What is known when an index that says nothing of lineages is refreshed.
    fn basis(records: &[Record]) -> Basis {
        history(records).basis(MODEL, &[]).unwrap()
    }

    fn among(catalogs: &[u64]) -> Basis {
        Basis::AmongThese(catalogs.iter().copied().collect())
    }

    fn line(generations: &[&str]) -> Vec<String> {
        generations.iter().map(|&generation| generation.to_owned()).collect()
    }

    #[test]
    fn only_a_success_right_after_its_own_start_is_believed() {
        assert_eq!(basis(&[]), among(&[]));
        assert_eq!(basis(&[full(5), succeeded(1, "")]), Basis::Equal(5));
        assert_eq!(history(&[full(5), succeeded(1, "")]).basis(OTHER, &[]), Some(among(&[5])));
        assert_eq!(basis(&[full(5), succeeded(1, ""), full(6)]), among(&[5, 6]), "killed");
        assert_eq!(basis(&[full(5), succeeded(1, ""), full(6), failed(3, false)]), among(&[5, 6]));
        assert_eq!(basis(&[full(5), full(6), succeeded(2, ""), succeeded(1, "")]), among(&[5, 6]), "interleaved");
        let recovered = [full(5), succeeded(1, ""), full(6), failed(3, false), full(7), succeeded(5, "")];
        assert_eq!(basis(&recovered), Basis::Equal(7));
    }

    #[test]
    fn a_refresh_that_goes_on_beside_one_that_succeeded_is_not_forgotten() {
        let beside = [incremental(8), full(7), succeeded(2, "a")];
        assert_eq!(basis(&beside), Basis::Equal(7));
        let ended = |end: Record| basis(&[beside.as_slice(), &[end]].concat());
        assert_eq!(ended(failed(1, false)), among(&[7, 8]));
        assert_eq!(ended(succeeded(1, "a")), among(&[7, 8]));
        assert_eq!(ended(failed(1, true)), Basis::Equal(7), "it wrote nothing");
        assert_eq!(basis(&[incremental(8), full(7), failed(1, true), succeeded(2, "a")]), Basis::Equal(7));
        assert_eq!(basis(&[incremental(8), full(7), failed(1, false), succeeded(2, "a")]), among(&[7, 8]));
    }

    #[test]
    fn whether_something_was_recorded_before_a_start_is_told() {
        let before = history(&[full(5), succeeded(1, "a")]);
        assert!(before.is_followed_by(RefreshId(Lsn(3))));
        assert!(!before.is_followed_by(RefreshId(Lsn(4))));
        assert!(History::default().is_followed_by(RefreshId(Lsn(1))));
    }

    #[test]
    fn a_refresh_that_wrote_nothing_is_as_if_it_had_not_been() {
        let ended = [full(5), succeeded(1, "a"), full(6)];
        let cancelled = Record::Cancelled { refresh: Lsn(3), nothing_written: true, at_ms: None };
        for end in [failed(3, true), refused(3, 6, "b"), cancelled] {
            let history = history(&[ended.as_slice(), &[end]].concat());
            assert_eq!(history.basis(MODEL, &line(&["a"])), Some(Basis::Equal(5)));
            assert_eq!(history.catalogs_begun().collect::<Vec<_>>(), [5]);
        }
        let interleaved = [full(5), full(6), failed(2, true), succeeded(1, "a")];
        assert_eq!(basis(&interleaved), among(&[5]), "the first did not end right after its start");
    }

    #[test]
    fn another_generation_than_was_left_is_no_basis() {
        let left = [full(4), succeeded(1, "a"), full(5), succeeded(3, "b"), incremental(6), succeeded(5, "b")];
        let history = history(&left);
        assert_eq!(history.basis(MODEL, &line(&["b"])), Some(Basis::Equal(6)));
        assert_eq!(history.basis(MODEL, &line(&["b", "compacted", "again"])), Some(Basis::Equal(6)));
        assert_eq!(history.basis(MODEL, &line(&["a"])), None, "rolled back");
        let killed = [left.as_slice(), &[incremental(7)]].concat();
        assert_eq!(self::history(&killed).basis(MODEL, &line(&["a"])), None, "rolled back");
        assert_eq!(self::history(&killed).basis(MODEL, &line(&["b"])), Some(among(&[6, 7])));
    }

    #[test]
    fn after_a_full_refresh_was_killed_what_it_built_and_what_was_left_before_are_a_basis_and_nothing_else() {
        let left = [full(4), succeeded(1, "a"), full(6), built(3, "b"), succeeded(3, "b"), full(7)];
        let before = history(&left);
        assert_eq!(before.basis(MODEL, &line(&["b"])), Some(among(&[6, 7])), "it was killed before it published");
        assert_eq!(before.basis(MODEL, &line(&["a"])), None, "rolled back");
        assert_eq!(before.basis(MODEL, &line(&["c"])), None, "somebody else's");
        let built = [left.as_slice(), &[built(6, "c")]].concat();
        for (generation, expected) in [("c", Some(among(&[6, 7]))), ("b", Some(among(&[6, 7]))), ("a", None)] {
            assert_eq!(history(&built).basis(MODEL, &line(&[generation])), expected, "{generation}");
        }
        let failed = [built.as_slice(), &[failed(6, false)]].concat();
        assert_eq!(history(&failed).basis(MODEL, &line(&["c"])), Some(among(&[6, 7])), "its publication timed out");
        let replaced = [failed.as_slice(), &[incremental(8), succeeded(9, "b")]].concat();
        assert_eq!(history(&replaced).basis(MODEL, &line(&["b"])), Some(Basis::Equal(8)));
        assert_eq!(history(&replaced).basis(MODEL, &line(&["c"])), None, "it was published after all");
    }

    #[test]
    fn what_was_built_by_a_refresh_that_began_before_the_last_success_is_no_basis() {
        let records = [full(6), succeeded(1, "b"), full(7), incremental(8), succeeded(4, "b"), built(3, "c")];
        assert_eq!(history(&records).basis(MODEL, &line(&["b"])), Some(Basis::Equal(8)));
        assert_eq!(history(&records).basis(MODEL, &line(&["c"])), None, "what was written since lies over it");
    }

    #[test]
    fn a_refused_generation_that_is_current_by_force_counts_as_handed_over() {
        let records = [full(4), succeeded(1, "a"), full(5), refused(3, 5, "b"), incremental(6), succeeded(5, "a")];
        let history = history(&records);
        let refused = |line: &[String]| history.refused(line).map(|(catalog, _)| catalog).collect::<Vec<_>>();
        assert_eq!((history.basis(MODEL, &line(&["a"])), refused(&line(&["a"]))), (Some(Basis::Equal(6)), vec![5]));
        let forced = line(&["b", "compacted"]);
        assert_eq!((history.basis(MODEL, &forced), refused(&forced)), (Some(among(&[5, 6])), vec![]));
        let built_on = [records.as_slice(), &[incremental(7), succeeded(7, "compacted")]].concat();
        assert_eq!(self::history(&built_on).basis(MODEL, &forced), Some(Basis::Equal(7)));
    }

    #[test]
    fn a_catalog_that_was_refused_twice_is_handed_over_by_force_of_either_generation() {
        let records = [full(4), succeeded(1, "a"), full(5), refused(3, 5, "b"), full(5), refused(5, 5, "c")];
        let history = history(&records);
        for forced in ["b", "c"] {
            assert_eq!(history.refused(&line(&[forced])).count(), 0, "{forced}");
            assert_eq!(history.basis(MODEL, &line(&[forced])), Some(among(&[4, 5])), "{forced}");
        }
        assert_eq!(history.refused(&line(&["a"])).collect::<Vec<_>>(), [(5, "c")]);
    }

    #[test]
    fn whatever_was_written_since_a_generation_was_refused_is_laid_over_it_when_it_is_current_again() {
        let forced = [full(4), succeeded(1, "a"), full(5), refused(3, 5, "b"), incremental(6), succeeded(5, "b")];
        let replaced = [forced.as_slice(), &[full(7), succeeded(7, "c")]].concat();
        let history = history(&replaced);
        assert_eq!(history.basis(MODEL, &line(&["c"])), Some(Basis::Equal(7)));
        assert_eq!(history.basis(MODEL, &line(&["b"])), Some(among(&[5, 6, 7])), "rolled back to it");
        assert_eq!(history.basis(MODEL, &line(&["a"])), None, "rolled back");
    }

    #[test]
    fn a_catalog_that_passes_the_gates_later_is_not_refused_any_more() {
        let records = [full(5), refused(1, 5, "b"), full(5), succeeded(3, "c")];
        assert_eq!(history(&records[..2]).refused(&[]).collect::<Vec<_>>(), [(5, "b")]);
        assert_eq!(history(&records).refused(&[]).count(), 0);
    }

    #[test]
    fn records_of_older_versions_are_read() {
        let read = |json: &str| serde_json::from_str::<Record>(json).unwrap();
        assert_eq!(read(r#"{"record":"succeeded","refresh":1,"lsn":99}"#), succeeded(1, ""));
        assert_eq!(read(r#"{"record":"failed","refresh":1,"error":"x"}"#), failed(1, false));
        let cancelled = Record::Cancelled { refresh: Lsn(1), nothing_written: false, at_ms: None };
        assert_eq!(read(r#"{"record":"cancelled","refresh":1}"#), cancelled);
        let begun = r#"{"record":"started","mode":"full","catalog_version":5,"model_version":{"space":"0000000000000007","revision":0}}"#;
        assert_eq!(read(begun), full(5));
    }

    #[tokio::test]
    async fn the_journal_is_read_by_other_processes() {
        let store = Store::open("memory://").unwrap();
        let (ours, theirs) = (Journal::open(store.clone()).await.unwrap(), Journal::open(store).await.unwrap());
        assert_eq!(theirs.history().await.unwrap(), History::default());
        let basis = async |journal: &Journal| journal.history().await.unwrap().basis(MODEL, &[]).unwrap();
        let id = ours.start(Mode::Full, Baseline { catalog_version: 4, model: MODEL }).await.unwrap();
        assert_eq!(basis(&theirs).await, among(&[4]));
        ours.append(&succeeded(id.0.0, "a")).await.unwrap();
        assert_eq!(basis(&theirs).await, Basis::Equal(4));
        let id = theirs.start(Mode::Incremental, Baseline { catalog_version: 5, model: MODEL }).await.unwrap();
        theirs.append(&failed(id.0.0, false)).await.unwrap();
        assert_eq!(basis(&ours).await, among(&[4, 5]));
    }
}
