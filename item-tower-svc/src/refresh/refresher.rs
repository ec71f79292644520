//! [`Refresher`]: one refresh from the wish to its end.

use std::sync::Arc;

use pagoda_model::bundle::ModelBundle;
use pagoda_registry::Entry;
use tokio_util::sync::CancellationToken;

use super::{Baseline, Basis, History, Journal, Mode, progress::Progress};
use crate::{
    attributes::Declared,
    catalog::{self, Catalogs, schema_difference},
    config,
    error::ItemTowerError,
    index_client::{IndexClient, IndexStatus},
    models::Models,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How much is embedded.
    pub mode: Mode,
    /// The catalog; 0 is the newest.
    pub catalog_version: u64,
    /// The digest of its record; empty: not known.
    pub catalog_digest: String,
}

/// How a refresh goes about its work.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Items that are embedded together, and sent together.
    pub batch_size: usize,
    /// Batches that are embedded at once.
    pub threads: usize,
}

/// All that a refresh needs.
#[derive(Clone, Debug)]
pub struct Refresher {
    /// Where the items come from.
    pub catalogs: Catalogs,
    /// What embeds them.
    pub models: Models,
    /// Where they go.
    pub index: IndexClient,
    /// What became of earlier refreshes.
    pub journal: Journal,
    /// How.
    pub settings: Settings,
}

/// A wish that can be fulfilled, as far as can be told beforehand.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    /// The index before anything was read: what is written there later is not contained in the catalog.
    pub(super) index: IndexStatus,
    pub(super) catalog: Entry,
    /// What the catalog declares filterable.
    pub(super) filterable: Declared,
    pub(super) model: Arc<ModelBundle>,
    pub(super) history: History,
}

impl From<&config::Refresh> for Settings {
    fn from(config: &config::Refresh) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 { cores() } else { config.threads };
        Self { batch_size: config.batch_size, threads }
    }
}

impl Plan {
    pub(super) fn baseline(&self) -> Baseline {
        Baseline { catalog_version: self.catalog.version, model: self.model.version() }
    }
}

impl Refresher {
    /// Looks at the index, then at the catalog and the model, and refuses what cannot work.
    pub(super) async fn plan(&self, wish: Wish) -> Result<Plan, ItemTowerError> {
        let model = self.models.newest_registered().await?;
        let index = self.index.status().await?;
        let catalog = self.catalogs.entry(wish.catalog_version).await?;
        if !wish.catalog_digest.is_empty() && wish.catalog_digest != catalog.digest() {
            let why = "it is another than the caller has brought, who works on another store than this service";
            return Err(catalog::refused(&catalog, why.into()));
        }
        let schema = self.catalogs.schema(&catalog).await?;
        if let Some(why) = schema_difference(&schema.item, &model.schema().item) {
            return Err(catalog::refused(&catalog, why));
        }
        let (filterable, history) = (Declared::by(&schema.item), self.journal.history().await?);
        let plan = Plan { mode: wish.mode, index, catalog, filterable, model, history };
        if plan.mode == Mode::Incremental {
            plan.check_space()?;
            self.check_gates(&plan).await?;
            plan.basis()?;
        }
        Ok(plan)
    }

    /// An incremental refresh passes no gates, so what they refused is not for it, under whichever version, unless by force it is current.
    async fn check_gates(&self, plan: &Plan) -> Result<(), ItemTowerError> {
        for version in plan.history.forced(plan.lineage()) {
            if self.catalogs.entry(version).await?.files == plan.catalog.files {
                return Ok(());
            }
        }
        for (version, generation) in plan.history.refused(plan.lineage()) {
            if self.catalogs.entry(version).await?.files == plan.catalog.files {
                let why = format!(
                    "the index's gates refused its generation {generation}, and an incremental refresh passes no gates; do a full \
                     one, or bring another catalog"
                );
                return Err(catalog::refused(&plan.catalog, why));
            }
        }
        Ok(())
    }

    /// Does the work. Cancelled at any time until it publishes.
    pub(super) async fn run(
        &self,
        plan: &Plan,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), ItemTowerError> {
        if !plan.history.is_followed_by(progress.now().id) {
            let why = "it began, or ended, while this one was planned; start it again";
            return Err(ItemTowerError::RefreshedElsewhere(why.into()));
        }
        match plan.mode {
            Mode::Full => {
                let generation_id = unless(cancel, self.build(plan, progress)).await?;
                self.publish(plan, generation_id, progress).await?;
                self.bring_back(plan, progress).await
            }
            Mode::Incremental => unless(cancel, self.update(plan, progress)).await,
        }
    }
}

impl Plan {
    /// The generation that an incremental refresh writes into, after those that it was compacted from.
    pub(super) fn lineage(&self) -> &[String] {
        self.index.lineage_of(self.model.version().space)
    }

    /// What an incremental refresh takes for granted of the index.
    pub(super) fn basis(&self) -> Result<Basis, ItemTowerError> {
        let another = || {
            let current = self.index.current_of(self.model.version().space);
            let why = format!("generation {current} is current, which is not what the last refresh left");
            ItemTowerError::FullRefreshNeeded(why)
        };
        self.history.basis(self.model.version(), self.lineage()).ok_or_else(another)
    }

    /// An incremental refresh writes into a generation of the newest model's space, so there has to be one.
    fn check_space(&self) -> Result<(), ItemTowerError> {
        let space = self.model.version().space;
        if self.index.models.iter().any(|held| held.space == space) {
            return Ok(());
        }
        let held: Vec<String> = self.index.models.iter().map(ToString::to_string).collect();
        Err(ItemTowerError::FullRefreshNeeded(format!(
            "the newest model is {}, and the index searches no generation of its space (searched are [{}])",
            self.model.version(),
            held.join(", ")
        )))
    }
}

async fn unless<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, ItemTowerError>>,
) -> Result<T, ItemTowerError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ItemTowerError::Cancelled),
        done = work => done,
    }
}
