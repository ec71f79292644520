//! A refresh as it stands, and the handle with which the work reports its progress.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use pagoda_commit_log::Lsn;
use pagoda_dataset::BadRows;
use pagoda_model::ModelVersion;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    catalog::{Catalog, Unfilterable},
    error::ItemTowerError,
};

/// A refresh's id: the position of its start in the journal, so that no two are the same, whichever processes they ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshId(pub Lsn);

/// How much a refresh embeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All items, into a new generation.
    Full,
    /// What is new or changed, into the current generation.
    Incremental,
}

/// What a refresh is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Reads and embeds the catalog.
    Embedding,
    /// All items are sent; the index builds the generation.
    Building,
    /// The generation is being published: from here on nothing is cancelled.
    Publishing,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended at somebody's request.
    Cancelled,
}

/// A refresh as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Refresh {
    /// Its id.
    pub id: RefreshId,
    /// How much it embeds.
    pub mode: Mode,
    /// What it is doing.
    pub state: State,
    /// The catalog it reads.
    pub catalog_version: u64,
    /// The model it embeds with.
    pub model: ModelVersion,
    /// Items read so far.
    pub items_read: u64,
    /// Items of the catalog; 0 while unknown.
    pub items_total: u64,
    /// Items embedded and handed to the index so far.
    pub items_embedded: u64,
    /// Items deleted from the index so far.
    pub items_deleted: u64,
    /// Rows that were left out.
    pub refused: BadRows,
    /// What items are searched without.
    pub unfilterable: Unfilterable,
    /// Filterable features that what it wrote into does not declare; a full refresh does.
    pub undeclared: Vec<String>,
    /// The generation, once published.
    pub generation_id: Option<String>,
    /// The generation that is stored and that the index's gates refused.
    pub refused_generation_id: Option<String>,
    /// The position of the last write or of the publication; 0 before.
    pub lsn: Lsn,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// When it was started.
    pub started: SystemTime,
    clock: Instant,
    took: Option<Duration>,
}

impl fmt::Display for RefreshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refresh-{}", self.0)
    }
}

impl State {
    /// Whether nothing more will happen.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl Refresh {
    /// A refresh that begins now.
    pub fn begin(id: RefreshId, mode: Mode, catalog_version: u64, model: ModelVersion) -> Self {
        Self {
            id,
            mode,
            state: State::Embedding,
            catalog_version,
            model,
            items_read: 0,
            items_total: 0,
            items_embedded: 0,
            items_deleted: 0,
            refused: BadRows::default(),
            unfilterable: Unfilterable::default(),
            undeclared: Vec::new(),
            generation_id: None,
            refused_generation_id: None,
            lsn: Lsn::default(),
            error: None,
            started: SystemTime::now(),
            clock: Instant::now(),
            took: None,
        }
    }

    /// Whether a refresh that ended so has written nothing into the index, as far as is certain.
    pub(super) fn wrote_nothing(&self, error: &ItemTowerError) -> bool {
        self.lsn == Lsn::default() && (self.state != State::Publishing || error.is_refusal())
    }

    /// The time spent so far, or in all.
    pub fn elapsed(&self) -> Duration {
        self.took.unwrap_or_else(|| self.clock.elapsed())
    }
}

/// The work's side of a refresh.
#[derive(Clone, Debug)]
pub(super) struct Progress(watch::Sender<Refresh>);

impl Progress {
    pub(super) fn new(refresh: Refresh) -> (Self, watch::Receiver<Refresh>) {
        let (sender, receiver) = watch::channel(refresh);
        (Self(sender), receiver)
    }

    pub(super) fn read(&self, catalog: &Catalog) {
        let count = catalog.items.len() as u64;
        self.0.send_modify(|refresh| {
            (refresh.items_read, refresh.items_total) = (count, count);
            refresh.refused = catalog.refused.clone();
            refresh.unfilterable = catalog.unfilterable.clone();
        });
    }

    pub(super) fn undeclared(&self, attributes: Vec<String>) {
        self.0.send_modify(|refresh| refresh.undeclared = attributes);
    }

    /// Once a full refresh has handed over all, the index builds.
    pub(super) fn embedded(&self, items: usize) {
        self.0.send_modify(|refresh| {
            refresh.items_embedded += items as u64;
            if refresh.mode == Mode::Full && refresh.items_embedded == refresh.items_total {
                refresh.state = State::Building;
            }
        });
    }

    pub(super) fn deleted(&self, items: usize) {
        self.0.send_modify(|refresh| refresh.items_deleted += items as u64);
    }

    pub(super) fn written(&self, lsn: Lsn) {
        self.0.send_modify(|refresh| refresh.lsn = lsn);
    }

    pub(super) fn publishing(&self) {
        self.0.send_modify(|refresh| refresh.state = State::Publishing);
    }

    pub(super) fn published(&self, generation_id: String, lsn: Lsn) {
        self.0.send_modify(|refresh| (refresh.generation_id, refresh.lsn) = (Some(generation_id), lsn));
    }

    pub(super) fn not_published(&self, generation_id: &str) {
        self.0.send_modify(|refresh| refresh.refused_generation_id = Some(generation_id.to_owned()));
    }

    pub(super) fn now(&self) -> Refresh {
        self.0.borrow().clone()
    }

    pub(super) fn end(&self, outcome: &Result<(), ItemTowerError>) {
        self.0.send_modify(|refresh| {
            refresh.state = match outcome {
                Ok(()) => State::Succeeded,
                Err(ItemTowerError::Cancelled) => State::Cancelled,
                Err(_) => State::Failed,
            };
            refresh.error = outcome.as_ref().err().map(ToString::to_string);
            refresh.took = Some(refresh.clock.elapsed());
        });
    }
}
