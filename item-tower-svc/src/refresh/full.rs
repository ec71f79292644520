//! A full refresh: all items into a new generation, which is published at the end.

use std::collections::{BTreeMap, HashSet};

use futures::TryStreamExt;
use pagoda_model::{Embedding, Side};

use super::{
    Record,
    embed::embedded,
    progress::Progress,
    refresher::{Plan, Refresher},
};
use crate::{error::ItemTowerError, index_client::BuildHeader};

impl Refresher {
    /// Embeds the catalog into a generation; returns its id and how many items it has. Nothing is searchable yet.
    pub(super) async fn build(&self, plan: &Plan, progress: &Progress) -> Result<(String, u64), ItemTowerError> {
        let catalog = self.catalogs.read(&plan.catalog).await?;
        progress.read(&catalog);
        let item_count = catalog.items.len() as u64;
        let header = BuildHeader {
            model: plan.model.version(),
            embedding_dim: plan.model.embedding_dim(),
            item_count,
            covers: plan.index.lsn,
            sample_queries: sample_queries(plan).await?,
            declared: plan.filterable.clone(),
        };
        let batches = embedded(plan.model.clone(), catalog.items, plan.filterable.clone(), self.settings);
        let built = self.index.build(header, batches.inspect_ok(|batch| progress.embedded(batch.len()))).await;
        built.map(|generation_id| (generation_id, item_count))
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
        let expected = plan.index.generation_of(plan.model.version().space);
        let published = self.index.publish(&generation_id, expected).await;
        if published.as_ref().is_err_and(ItemTowerError::is_of_gates) {
            progress.not_published(&generation_id);
        }
        let lsn = published.map_err(|error| error.about(&generation_id))?;
        progress.published(generation_id, lsn);
        Ok(())
    }

    /// Upserts what the catalog has again after an earlier refresh may have deleted it, because a catalog before lacked it: a delete holds, also in
    /// generations that are built later, until the item is upserted. What others deleted stays deleted. Reads the catalogs only where the index shows fewer
    /// items than it was handed.
    pub(super) async fn bring_back(
        &self,
        plan: &Plan,
        handed_over: u64,
        progress: &Progress,
    ) -> Result<(), ItemTowerError> {
        if self.index.status().await?.item_count_of(plan.model.version().space) >= handed_over {
            return Ok(());
        }
        let mut back = self.catalogs.read(&plan.catalog).await?.items;
        let Some(kept) = self.never_gone(plan).await? else { return Ok(()) };
        back.retain(|item| !kept.contains(&item.id));
        tracing::info!(items = back.len(), "upserting what earlier refreshes deleted");
        self.upsert_all(plan, back, plan.filterable.clone(), |_, lsn| progress.written(lsn)).await
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
