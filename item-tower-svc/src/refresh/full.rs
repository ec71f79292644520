//! A full refresh: all items into a new generation, which is published at the end.

use std::collections::{BTreeMap, HashSet};

use futures::TryStreamExt;
use pagoda_commit_log::Lsn;
use pagoda_model::{Embedding, Side};

use super::{
    Record,
    embed::embedded,
    progress::Progress,
    refresher::{Plan, Refresher},
};
use crate::{error::ItemTowerError, index_client::BuildHeader};

impl Refresher {
    /// Embeds the catalog into a generation; returns its id. Nothing is searchable yet.
    pub(super) async fn build(&self, plan: &Plan, progress: &Progress) -> Result<String, ItemTowerError> {
        let catalog = self.catalogs.read(&plan.catalog).await?;
        progress.read(&catalog);
        let header = BuildHeader {
            model: plan.model.version(),
            embedding_dim: plan.model.embedding_dim(),
            item_count: catalog.items.len() as u64,
            covers: plan.index.lsn,
            sample_queries: sample_queries(plan).await?,
            declared: plan.filterable.clone(),
        };
        let batches = embedded(plan.model.clone(), catalog.items, plan.filterable.clone(), self.settings);
        self.index.build(header, batches.inspect_ok(|batch| progress.embedded(batch.len()))).await
    }

    /// Makes the generation current, unless another refresh has published since this one began. First it is recorded, so that whoever finds it current
    /// knows it, whatever becomes of this process.
    pub(super) async fn publish(
        &self,
        plan: &Plan,
        generation_id: String,
        progress: &Progress,
    ) -> Result<(), ItemTowerError> {
        let built = Record::Built { refresh: progress.now().id.0, generation_id: generation_id.clone() };
        self.journal.append(&built).await?;
        progress.publishing();
        let expected = plan.index.current_of(plan.model.version().space);
        let published = self.index.publish(&generation_id, expected).await;
        if published.as_ref().is_err_and(ItemTowerError::is_of_gates) {
            progress.not_published(&generation_id);
        }
        let lsn = published.map_err(|error| error.about(&generation_id))?;
        let is_rollout = plan.index.models.first().is_some_and(|last| last.space != plan.model.version().space);
        if is_rollout && lsn > plan.index.lsn.next() {
            tracing::info!(covers = %plan.index.lsn, %lsn, "what `UpsertItems` wrote in between, if it did, is in the space before alone");
        }
        progress.published(generation_id, lsn);
        Ok(())
    }

    /// Upserts what the catalog has again after an earlier refresh may have deleted it, because a catalog before lacked it: a delete holds, also in
    /// generations that are built later, until the item is upserted. What others deleted stays deleted, and so does, or is left as it is, whatever was
    /// written since the refresh began. Reads the catalogs only where something is deleted.
    pub(super) async fn bring_back(&self, plan: &Plan, progress: &Progress) -> Result<(), ItemTowerError> {
        if self.index.status().await?.tombstone_count == 0 {
            return Ok(());
        }
        let mut back = self.catalogs.read(&plan.catalog).await?.items;
        let Some(kept) = self.never_gone(plan).await? else { return Ok(()) };
        back.retain(|item| !kept.contains(&item.id));
        let mut batches = std::pin::pin!(embedded(plan.model.clone(), back, plan.filterable.clone(), self.settings));
        let mut last = Lsn::default();
        while let Some(batch) = batches.try_next().await? {
            last = last.max(self.index.revive(plan.model.version(), batch, plan.index.lsn).await?);
        }
        if last > Lsn::default() {
            tracing::info!(lsn = %last, "upserted what earlier refreshes had deleted");
            progress.written(last);
        }
        Ok(())
    }

    /// The ids that every catalog had which a refresh began to hand over since the index last equalled one, that one included; None without any.
    async fn never_gone(&self, plan: &Plan) -> Result<Option<HashSet<String>>, ItemTowerError> {
        let mut kept: Option<HashSet<String>> = None;
        for version in plan.history.catalogs_begun() {
            let Some(ids) = self.ids(version).await? else { continue };
            let ids: HashSet<String> = ids.into_iter().collect();
            kept = Some(match kept {
                Some(kept) => kept.intersection(&ids).cloned().collect(),
                None => ids,
            });
        }
        Ok(kept)
    }
}

/// Real users' embeddings, objectives weighed as the model says: the queries with which the index measures its recall.
async fn sample_queries(plan: &Plan) -> Result<Vec<Embedding>, ItemTowerError> {
    let model = plan.model.clone();
    let internal = |e: &dyn std::fmt::Display| ItemTowerError::Internal(format!("embedding the sample users: {e}"));
    let embedded = tokio::task::spawn_blocking(move || {
        let users = model.embed(Side::User, model.sample_users()).map_err(|e| internal(&e))?;
        users.iter().map(|user| model.weigh(user, &BTreeMap::new()).map_err(|e| internal(&e))).collect()
    });
    embedded.await.map_err(|e| internal(&e))?
}
