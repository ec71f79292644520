//! Upsert and Delete.

use std::collections::HashSet;

use pagoda_proto::index::v1 as proto;

use super::{BATCH_LIMIT, Violations, attributes, check_batch, check_dimension, items, model, numbered};
use crate::{
    attributes::Declarations, error::IndexError, ids::ItemId, item::Item, record::Write, request_id::RequestId,
    snapshot::Snapshot,
};

/// Where the snapshot holds the space, the dimension is checked with everything else; where it does not, whoever commits says so.
pub(crate) fn upsert_request(request: proto::UpsertRequest, snapshot: &Snapshot) -> Result<Write, IndexError> {
    let mut wrong = Violations::default();
    let model = model(&mut wrong, "model_version", request.model_version);
    let held = model.as_ref().and_then(|model| snapshot.space(model.space).ok());
    let dim = held.map(|held| held.generation().manifest.embedding_dim);
    let items = items(&mut wrong, "items", request.items, dim);
    note_duplicates(&mut wrong, "items", "item_id", &items);
    if let Some(held) = held {
        attributes::check_declared(&mut wrong, "items", &items, &held.generation().manifest.attributes);
    }
    wrong.finish(model.map(|model| Write::Upsert { model, items: items.into_iter().map(|(_, item)| item).collect() }))
}

pub(crate) fn delete_request(request: proto::DeleteRequest) -> Result<Vec<ItemId>, IndexError> {
    let mut wrong = Violations::default();
    check_batch(&mut wrong, "item_ids", request.item_ids.len());
    let ids = numbered(&request.item_ids).take(BATCH_LIMIT);
    let ids = ids.filter_map(|(n, id)| wrong.take(format!("item_ids[{n}]"), ItemId::new(id))).collect();
    wrong.finish(Some(ids))
}

pub(crate) fn request_id(request_id: &str) -> Result<Option<RequestId>, IndexError> {
    let mut wrong = Violations::default();
    let id = match request_id {
        "" => Some(None),
        id => wrong.take("request_id", id.parse()).map(Some),
    };
    wrong.finish(id)
}

/// Checks embeddings against the dimension of their space, which only the index knows.
pub(crate) fn check_dimensions(items: &[Item], dim: usize) -> Result<(), IndexError> {
    let mut wrong = Violations::default();
    for (n, item) in items.iter().enumerate() {
        check_dimension(&mut wrong, &format!("items[{n}].embedding"), item.embedding.len(), dim);
    }
    wrong.finish(Some(()))
}

/// Checks attributes against those declared in their space, which only the index knows.
pub(crate) fn check_declared(items: &[Item], declared: &Declarations) -> Result<(), IndexError> {
    let mut wrong = Violations::default();
    for (n, item) in items.iter().enumerate() {
        attributes::check_item(&mut wrong, &format!("items[{n}]"), item, declared);
    }
    wrong.finish(Some(()))
}

fn note_duplicates(wrong: &mut Violations, path: &str, field: &str, items: &[(usize, Item)]) {
    let mut seen = HashSet::new();
    for (n, Item { id, .. }) in items {
        wrong.check(seen.insert(id), &format!("{path}[{n}].{field}"), || format!("`{id}` was given before"));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            NAMED_MAX,
            tests::{item, paths, told},
        },
        *,
    };

    #[test]
    fn an_upsert_names_every_field_at_fault() {
        let items = vec![
            item("a", &[1.0, 0.0]),
            item("", &[1.0, 0.0]),
            item("b", &[1.0, 1.0]),
            item("a", &[0.0, 1.0]),
            item("c", &[]),
            item("d", &[0.0, f32::NAN]),
        ];
        let request = proto::UpsertRequest { items, ..Default::default() };
        let expected = [
            "model_version",
            "items[1].item_id",
            "items[2].embedding.values",
            "items[4].embedding.values",
            "items[5].embedding.values[1]",
            "items[3].item_id",
        ];
        assert_eq!(paths(upsert_request(request, &Snapshot::default())), expected);
    }

    #[test]
    fn empty_and_oversized_batches_are_refused() {
        assert_eq!(paths(delete_request(proto::DeleteRequest::default())), ["item_ids"]);
        let item_ids = vec!["x".to_owned(); BATCH_LIMIT + 1];
        assert_eq!(paths(delete_request(proto::DeleteRequest { item_ids, ..Default::default() })), ["item_ids"]);
    }

    #[test]
    fn of_very_many_faults_some_are_named_and_the_rest_counted() {
        let items = vec![item("a", &[f32::NAN; 100]); BATCH_LIMIT];
        let request = proto::UpsertRequest { items, ..Default::default() };
        let count = |faults: usize| format!(": {faults} faults, of which the first are told");
        let refused = told(upsert_request(request, &Snapshot::default()));
        assert_eq!((refused.len(), refused.first()), (1 + NAMED_MAX, Some(&count(1 + 100 * BATCH_LIMIT))));
        // Beyond the size of a batch none is looked at.
        let item_ids = vec![String::new(); 100 * BATCH_LIMIT];
        let refused = told(delete_request(proto::DeleteRequest { item_ids, ..Default::default() }));
        assert_eq!((refused.len(), refused.first()), (1 + NAMED_MAX, Some(&count(1 + BATCH_LIMIT))));
    }

    #[test]
    fn a_request_id_that_is_too_long_is_refused() {
        assert_eq!(paths(request_id(&"x".repeat(65))), ["request_id"]);
    }
}
