//! An incremental refresh: what is new or changed is upserted, what is gone is deleted.

use std::collections::HashSet;

use futures::TryStreamExt;

use super::{
    Basis,
    embed::embedded,
    progress::Progress,
    refresher::{Plan, Refresher},
};
use crate::{
    catalog::{self, Catalog, Difference},
    error::ItemTowerError,
    index_client::DELETE_IDS_MAX,
};

/// An incremental refresh, which passes no gates, deletes at most one in so many of the items that the index has,
const DELETED_ONE_IN: u64 = 2;
/// or so many.
const DELETED_MAX: u64 = 100;

impl Refresher {
    /// Makes the current generation equal to the catalog, as far as catalogs go: items upserted by others stay.
    pub(super) async fn update(&self, plan: &Plan, progress: &Progress) -> Result<(), ItemTowerError> {
        let catalog = self.catalogs.read(&plan.catalog).await?;
        progress.read(&catalog);
        // As the generation declares, whatever the catalog says by now: that is for the next full refresh.
        let declared = plan.index.declared_in(plan.model.version().space);
        progress.undeclared(plan.filterable.beyond(&declared));
        let difference = self.difference(plan, catalog).await?;
        refuse_emptying(plan, self.gone_for_certain(plan, &difference).await?)?;
        let id = progress.now().id;
        self.journal.require_newest(id).await?;
        progress.written(plan.index.lsn);
        let mut batches = std::pin::pin!(embedded(plan.model.clone(), difference.changed, declared, self.settings));
        while let Some(batch) = batches.try_next().await? {
            let count = batch.len();
            self.journal.require_newest(id).await?;
            let lsn = self.index.upsert(plan.model.version(), batch).await?;
            progress.embedded(count);
            progress.written(lsn);
        }
        for ids in difference.gone.chunks(DELETE_IDS_MAX) {
            self.journal.require_newest(id).await?;
            let lsn = self.index.delete(ids.to_vec()).await?;
            progress.deleted(ids.len());
            progress.written(lsn);
        }
        Ok(())
    }

    /// Against the catalog that the index is known to equal, if there is one; else against nothing, with the ids of every
    /// catalog that it may hold something of.
    async fn difference(&self, plan: &Plan, catalog: Catalog) -> Result<Difference, ItemTowerError> {
        match plan.basis()? {
            Basis::Equal(version) => {
                let previous = self.catalogs.read(&self.catalogs.entry(version).await?).await?;
                Ok(Difference::between(&previous.items, catalog.items))
            }
            Basis::AmongThese(versions) => {
                let mut ids = HashSet::new();
                for version in versions {
                    ids.extend(self.ids(version).await?.unwrap_or_default());
                }
                Ok(Difference::from_anything(ids.iter().map(String::as_str), catalog.items))
            }
        }
    }

    /// How many items are gone that were handed over: where a generation is current by force, of its catalog alone, since what is deleted beside is but
    /// what earlier ones may have left.
    async fn gone_for_certain(&self, plan: &Plan, difference: &Difference) -> Result<usize, ItemTowerError> {
        let forced: Vec<u64> = plan.history.forced(plan.lineage()).collect();
        if forced.is_empty() {
            return Ok(difference.gone.len());
        }
        let mut ids = HashSet::new();
        for version in forced {
            ids.extend(self.ids(version).await?.unwrap_or_default());
        }
        Ok(difference.gone.iter().filter(|id| ids.contains(*id)).count())
    }

    /// The ids of a catalog. None for one that cannot be read: it was never handed over.
    pub(super) async fn ids(&self, version: u64) -> Result<Option<Vec<String>>, ItemTowerError> {
        match self.catalogs.read(&self.catalogs.entry(version).await?).await {
            Ok(catalog) => Ok(Some(catalog.items.into_iter().map(|item| item.id).collect())),
            Err(ItemTowerError::CatalogRefused { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// A catalog that came out nearly empty is a mistake more often than not.
fn refuse_emptying(plan: &Plan, gone: usize) -> Result<(), ItemTowerError> {
    let (gone, held) = (gone as u64, plan.index.item_count_of(plan.model.version().space));
    if gone <= DELETED_MAX.max(held / DELETED_ONE_IN) {
        return Ok(());
    }
    let why = format!(
        "it lacks {gone} items that were handed over before, and the index has {held}: an incremental refresh does not delete that many, a full \
         one publishes what passes the index's gates"
    );
    Err(catalog::refused(&plan.catalog, why))
}
