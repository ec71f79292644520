//! Embeds many items in batches, on threads made for blocking work.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use pagoda_model::{Entity, Side, bundle::ModelBundle};

use super::Settings;
use crate::{
    attributes::Declared,
    error::ItemTowerError,
    index_client::{EmbeddedItem, message_items_max},
};

/// The items' embeddings, in their order, batch by batch. A few batches are computed ahead of the one that is asked for.
pub(super) fn embedded(
    model: Arc<ModelBundle>,
    items: Vec<Entity>,
    declared: Declared,
    settings: Settings,
) -> impl Stream<Item = Result<Vec<EmbeddedItem>, ItemTowerError>> + Send {
    let batch_size = settings.batch_size.min(message_items_max(model.embedding_dim()));
    let items: Arc<[Entity]> = items.into();
    let declared = Arc::new(declared);
    let starts = (0..items.len()).step_by(batch_size);
    let batches = starts.map(move |start| {
        let (model, items, declared) = (model.clone(), items.clone(), declared.clone());
        let end = items.len().min(start + batch_size);
        async move {
            let embedded = tokio::task::spawn_blocking(move || embed(&model, &items[start..end], &declared)).await;
            embedded.unwrap_or_else(|e| Err(ItemTowerError::Internal(format!("embedding: {e}"))))
        }
    });
    stream::iter(batches).buffered(settings.threads)
}

fn embed(model: &ModelBundle, items: &[Entity], declared: &Declared) -> Result<Vec<EmbeddedItem>, ItemTowerError> {
    let embeddings = model.embed(Side::Item, items).map_err(|e| ItemTowerError::Internal(e.to_string()))?;
    let embedded = |(item, embedding): (&Entity, _)| EmbeddedItem {
        id: item.id.clone(),
        embedding,
        attributes: declared.of(item),
    };
    Ok(items.iter().zip(embeddings).map(embedded).collect())
}
