//! From the wire to the domain and back. Every field at fault is collected; past here no proto type is seen.

use std::{collections::HashMap, time::UNIX_EPOCH};

use pagoda_model::{Embedding, Entity, FeatureValue, ItemId, ModelVersion, features, schema::EntitySchema};
use pagoda_proto::{
    feature::v1::{self as feature, feature_value::Value},
    index::v1 as index,
    item::v1 as proto,
};
use pagoda_server::status::Violation;

use crate::{
    attributes::{Attribute, AttributeKind, Declared},
    error::ItemTowerError,
    index_client::EmbeddedItem,
    refresh::{Mode, Record, Recorded, Refresh, State, Wish},
};

/// The most items of one call.
const ITEMS_MAX: usize = 1024;

/// The items of EmbedItems, checked against the model's schema.
pub(crate) fn items(items: Vec<feature::Entity>, schema: &EntitySchema) -> Result<Vec<Entity>, ItemTowerError> {
    let mut violations = Vec::new();
    let items = checked(items, schema, &mut violations);
    unless(violations, items)
}

/// The items of UpsertItems: as [`items`], no id twice, and what is declared can be filtered by.
pub(crate) fn distinct_items(
    items: Vec<feature::Entity>,
    schema: &EntitySchema,
    declared: &Declared,
) -> Result<Vec<Entity>, ItemTowerError> {
    let mut violations = Vec::new();
    let items = checked(items, schema, &mut violations);
    for (i, item) in items.iter().enumerate() {
        for (name, fault) in declared.faults(item) {
            let path = format!("items[{i}].features[{name:?}]{}", member(&item.features[name]));
            violations.push(Violation::new(path, fault));
        }
    }
    let mut first = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        if let Some(other) = first.insert(item.id.as_str(), i).filter(|_| !item.id.is_empty()) {
            violations.push(Violation::new(format!("items[{i}].id"), format!("the same id as that of items[{other}]")));
        }
    }
    unless(violations, items)
}

/// What StartRefresh asks for.
pub(crate) fn start_refresh(request: &proto::StartRefreshRequest) -> Result<Wish, ItemTowerError> {
    let mode = match request.mode() {
        proto::RefreshMode::Full => Mode::Full,
        proto::RefreshMode::Incremental => Mode::Incremental,
        proto::RefreshMode::Unspecified => {
            let expected = "expected REFRESH_MODE_FULL or REFRESH_MODE_INCREMENTAL";
            let violation = Violation::new("mode", format!("{expected}, found {}", request.mode));
            return Err(ItemTowerError::Invalid(vec![violation]));
        }
    };
    Ok(Wish { mode, catalog_version: request.catalog_version, catalog_digest: request.catalog_digest.clone() })
}

/// A refresh as the contract has it.
pub(crate) fn refresh(refresh: &Refresh) -> proto::Refresh {
    proto::Refresh {
        refresh_id: refresh.id.to_string(),
        mode: mode(refresh.mode).into(),
        state: state(refresh.state).into(),
        catalog_version: refresh.catalog_version,
        model_version: Some(model_version(refresh.model)),
        items_read: refresh.items_read,
        items_embedded: refresh.items_embedded,
        items_deleted: refresh.items_deleted,
        items_refused: refresh.refused.count,
        bad_rows: refresh.refused.first.clone(),
        unfilterable_texts: refresh.unfilterable.count,
        first_unfilterable: refresh.unfilterable.first.clone(),
        items_total: refresh.items_total,
        generation_id: refresh.generation_id.clone().unwrap_or_default(),
        lsn: refresh.lsn.0,
        error: refresh.error.clone().unwrap_or_default(),
        started_ms: refresh.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        elapsed_ms: refresh.elapsed().as_millis() as u64,
        undeclared_attributes: refresh.undeclared.clone(),
        refused_generation_id: refresh.refused_generation_id.clone().unwrap_or_default(),
    }
}

/// A refresh of another process, as far as its records tell.
pub(crate) fn recorded(Recorded { id, start, end }: &Recorded) -> proto::Refresh {
    let mut refresh = proto::Refresh { refresh_id: id.to_string(), ..Default::default() };
    if let Record::Started { mode: started, catalog_version, model_version: model, at_ms } = start {
        refresh.mode = mode(*started).into();
        refresh.catalog_version = *catalog_version;
        refresh.model_version = Some(model_version(*model));
        refresh.started_ms = at_ms.unwrap_or_default();
    }
    let (state, ended_ms) = match end {
        Some(Record::Succeeded { lsn, generation_id, at_ms, .. }) => {
            refresh.lsn = lsn.0;
            // An incremental one names what it wrote into.
            let published = generation_id.clone().filter(|_| refresh.mode() == proto::RefreshMode::Full);
            refresh.generation_id = published.unwrap_or_default();
            (proto::RefreshState::Succeeded, *at_ms)
        }
        Some(Record::Failed { error, refused, at_ms, .. }) => {
            refresh.error = error.clone();
            refresh.refused_generation_id = refused.as_ref().map(|r| r.generation_id.clone()).unwrap_or_default();
            (proto::RefreshState::Failed, *at_ms)
        }
        Some(Record::Cancelled { at_ms, .. }) => (proto::RefreshState::Cancelled, *at_ms),
        Some(Record::Started { .. } | Record::Built { .. }) | None => (proto::RefreshState::Unfinished, None),
    };
    refresh.state = state.into();
    let lasted = ended_ms.zip(Some(refresh.started_ms).filter(|&started| started > 0));
    refresh.elapsed_ms = lasted.map_or(0, |(ended, started)| ended.saturating_sub(started).max(0).unsigned_abs());
    refresh
}

/// An embedding as the contract has it.
pub(crate) fn embedding(embedding: Embedding) -> feature::Embedding {
    feature::Embedding { values: embedding.into() }
}

/// An item's embedding as the contract has it.
pub(crate) fn item_embedding(item: EmbeddedItem) -> index::ItemEmbedding {
    index::ItemEmbedding {
        item_id: item.id,
        embedding: Some(embedding(item.embedding)),
        attributes: item.attributes.into_iter().map(attribute).collect(),
    }
}

fn attribute((name, value): (String, Attribute)) -> index::Attribute {
    let value = match value {
        Attribute::Texts(texts) => index::attribute::Value::Texts(index::TextList { texts }),
        Attribute::Number(number) => index::attribute::Value::Number(number),
    };
    index::Attribute { name, value: Some(value) }
}

/// Declarations of attributes as the contract has them.
pub(crate) fn declarations(declared: Declared) -> Vec<index::AttributeDeclaration> {
    let declaration = |(name, kind)| {
        let kind = match kind {
            AttributeKind::Text => index::AttributeKind::Text,
            AttributeKind::Integer => index::AttributeKind::Integer,
            AttributeKind::Number => index::AttributeKind::Number,
        };
        index::AttributeDeclaration { name, kind: kind.into() }
    };
    declared.0.into_iter().map(declaration).collect()
}

/// Declarations as index-svc states them; one of a kind that a newer index knows is as good as absent.
pub(crate) fn declared_by_peer(declarations: &[index::AttributeDeclaration]) -> Declared {
    let declared = declarations.iter().filter_map(|declaration| {
        let kind = match declaration.kind() {
            index::AttributeKind::Text => AttributeKind::Text,
            index::AttributeKind::Integer => AttributeKind::Integer,
            index::AttributeKind::Number => AttributeKind::Number,
            index::AttributeKind::Unspecified => return None,
        };
        Some((declaration.name.clone(), kind))
    });
    Declared(declared.collect())
}

/// A model version as the contract has it.
pub(crate) fn model_version(version: ModelVersion) -> feature::ModelVersion {
    feature::ModelVersion { space_id: version.space.to_string(), revision: version.revision }
}

/// A model version as index-svc states it.
pub(crate) fn model_version_of_peer(version: Option<feature::ModelVersion>) -> Result<ModelVersion, ItemTowerError> {
    let version = version.ok_or_else(|| ItemTowerError::Internal("index-svc stated no model version".into()))?;
    let space = version.space_id.parse().map_err(|e| ItemTowerError::Internal(format!("index-svc stated: {e}")))?;
    Ok(ModelVersion { space, revision: version.revision })
}

fn unless<T>(violations: Vec<Violation>, value: T) -> Result<T, ItemTowerError> {
    if violations.is_empty() { Ok(value) } else { Err(ItemTowerError::Invalid(violations)) }
}

fn checked(items: Vec<feature::Entity>, schema: &EntitySchema, violations: &mut Vec<Violation>) -> Vec<Entity> {
    if !(1..=ITEMS_MAX).contains(&items.len()) {
        violations.push(Violation::new("items", format!("expected 1 to {ITEMS_MAX} items, found {}", items.len())));
        return Vec::new();
    }
    let items: Vec<Entity> = items.into_iter().map(entity).collect();
    for (i, item) in items.iter().enumerate() {
        check_item(&format!("items[{i}]"), item, schema, violations);
    }
    items
}

fn check_item(path: &str, item: &Entity, schema: &EntitySchema, violations: &mut Vec<Violation>) {
    if let Err(invalid) = ItemId::new(&item.id) {
        violations.push(Violation::new(format!("{path}.id"), invalid.to_string()));
    }
    let faults = features::validate(schema, item).err().map(|invalid| invalid.0).unwrap_or_default();
    // A fault without a feature is one of the id, which was checked above.
    for fault in faults.into_iter().filter(|fault| !fault.feature.is_empty() || item.features.contains_key("")) {
        let declared = schema.features.iter().any(|f| f.name == fault.feature);
        let member = item.features.get(&fault.feature).filter(|_| declared).map_or("", member);
        violations.push(Violation::new(format!("{path}.features[{:?}]{member}", fault.feature), fault.description));
    }
}

/// The member of the contract's FeatureValue that a value came in.
fn member(value: &FeatureValue) -> &'static str {
    match value {
        FeatureValue::Text(_) => ".text",
        FeatureValue::Number(_) => ".number",
        FeatureValue::Texts(_) => ".texts",
        FeatureValue::Floats(_) => ".floats",
    }
}

/// A value without a member is unknown, which is the same as absent.
fn entity(entity: feature::Entity) -> Entity {
    let features = entity.features.into_iter().filter_map(|(name, value)| Some((name, feature_value(value.value?))));
    Entity { id: entity.id, features: features.collect() }
}

fn feature_value(value: Value) -> FeatureValue {
    match value {
        Value::Text(text) => FeatureValue::Text(text),
        Value::Number(number) => FeatureValue::Number(number),
        Value::Texts(list) => FeatureValue::Texts(list.values),
        Value::Floats(list) => FeatureValue::Floats(list.values),
    }
}

fn mode(mode: Mode) -> proto::RefreshMode {
    match mode {
        Mode::Full => proto::RefreshMode::Full,
        Mode::Incremental => proto::RefreshMode::Incremental,
    }
}

fn state(state: State) -> proto::RefreshState {
    match state {
        State::Embedding => proto::RefreshState::Embedding,
        State::Building => proto::RefreshState::Building,
        State::Publishing => proto::RefreshState::Publishing,
        State::Succeeded => proto::RefreshState::Succeeded,
        State::Failed => proto::RefreshState::Failed,
        State::Cancelled => proto::RefreshState::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use pagoda_commit_log::Lsn;
    use pagoda_model::schema::{Feature, FeatureKind, NumericScale};

    use super::*;
    use crate::refresh::{RefreshId, Refused};

    fn schema() -> EntitySchema {
        let feature = |name: &str, kind| Feature::new(name, kind);
        let features = vec![
            feature("price", FeatureKind::Numeric { scale: NumericScale::Log }),
            feature("tags", FeatureKind::CategoricalList),
            feature("image", FeatureKind::Dense { dim: 2 }),
        ];
        EntitySchema { id: "id".into(), title: None, features }
    }

    fn item(id: &str, features: Vec<(&str, Value)>) -> feature::Entity {
        let features =
            features.into_iter().map(|(name, v)| (name.to_owned(), feature::FeatureValue { value: Some(v) }));
        feature::Entity { id: id.into(), features: features.collect() }
    }

    fn paths(result: Result<Vec<Entity>, ItemTowerError>) -> Vec<String> {
        let Err(ItemTowerError::Invalid(violations)) = result else { panic!("expected violations, found {result:?}") };
        violations.into_iter().map(|v| v.path).collect()
    }

    #[test]
    fn every_field_at_fault_is_named_by_its_path() {
        let floats = |values: &[f32]| Value::Floats(feature::FloatList { values: values.to_vec() });
        let wrong = vec![
            item("good", vec![("price", Value::Number(1.0))]),
            item("", vec![("price", Value::Number(f64::NAN)), ("colo\"ur", Value::Text("red".into()))]),
            item("a\0", vec![("tags", Value::Text("x".into())), ("image", floats(&[1.0]))]),
            item(&"x".repeat(129), vec![("image", floats(&[1.0, f32::INFINITY]))]),
        ];
        let expected = [
            "items[1].id",
            r#"items[1].features["colo\"ur"]"#,
            r#"items[1].features["price"].number"#,
            "items[2].id",
            r#"items[2].features["image"].floats"#,
            r#"items[2].features["tags"].text"#,
            "items[3].id",
            r#"items[3].features["image"].floats"#,
        ];
        assert_eq!(paths(items(wrong, &schema())), expected);
    }

    #[test]
    fn an_unknown_value_is_absent_and_all_is_kept_in_order() {
        let mut unknown = item("a", vec![("price", Value::Number(2.0))]);
        unknown.features.insert("tags".into(), feature::FeatureValue { value: None });
        let entities = items(vec![unknown, item("b", vec![])], &schema()).unwrap();
        assert_eq!(entities[0].features.keys().collect::<Vec<_>>(), ["price"]);
        assert_eq!(entities[1], Entity::of_id("b"));
    }

    #[test]
    fn counts_and_repeated_ids_are_checked() {
        assert_eq!(paths(items(vec![], &schema())), ["items"]);
        assert_eq!(paths(items(vec![item("a", vec![]); 1025], &schema())), ["items"]);
        let twice = vec![item("a", vec![]), item("b", vec![]), item("a", vec![])];
        assert!(items(twice.clone(), &schema()).is_ok());
        let distinct = |items| paths(distinct_items(items, &schema(), &Declared::default()));
        assert_eq!(distinct(twice), ["items[2].id"]);
        assert_eq!(distinct(vec![item("", vec![]); 2]), ["items[0].id", "items[1].id"]);
    }

    #[test]
    fn what_cannot_be_filtered_by_is_named_where_the_generation_declares_it() {
        let texts = |texts: Vec<String>| Value::Texts(feature::TextList { values: texts });
        let long = item("a", vec![("tags", texts(vec!["x".repeat(129)]))]);
        let many = item("b", vec![("tags", texts(vec!["x".into(); 65]))]);
        let declared = Declared([("tags".to_owned(), AttributeKind::Text)].into());
        let path = |n| format!(r#"items[{n}].features["tags"].texts"#);
        assert_eq!(paths(distinct_items(vec![long.clone(), many.clone()], &schema(), &declared)), [path(0), path(1)]);
        assert!(distinct_items(vec![long, many], &schema(), &Declared::default()).is_ok());
    }

    #[test]
    fn a_refresh_of_another_process_is_told_by_its_records() {
        let model = ModelVersion { space: pagoda_model::SpaceId(7), revision: 0 };
        let told = |mode, end| {
            let start = Record::Started { mode, catalog_version: 5, model_version: model, at_ms: Some(1000) };
            let told = recorded(&Recorded { id: RefreshId(Lsn(3)), start, end });
            assert_eq!((told.refresh_id.as_str(), told.catalog_version, told.started_ms), ("refresh-3", 5, 1000));
            told
        };
        let refused = Some(Refused { catalog_version: 5, generation_id: "b".into() });
        let failed =
            Record::Failed { refresh: Lsn(3), error: "x".into(), nothing_written: true, refused, at_ms: Some(3500) };
        let failed = told(Mode::Full, Some(failed));
        assert_eq!((failed.state(), failed.elapsed_ms), (proto::RefreshState::Failed, 2500));
        assert_eq!((failed.error.as_str(), failed.refused_generation_id.as_str()), ("x", "b"));
        let succeeded = |at_ms| Record::Succeeded {
            refresh: Lsn(3),
            lsn: Lsn(9),
            generation_id: Some("a".into()),
            at_ms,
            items: None,
        };
        let full = told(Mode::Full, Some(succeeded(Some(900))));
        assert_eq!((full.generation_id.as_str(), full.lsn, full.elapsed_ms), ("a", 9, 0), "the clock was set back");
        assert_eq!(told(Mode::Incremental, Some(succeeded(None))).generation_id, "", "it published none");
        assert_eq!(told(Mode::Full, None).state(), proto::RefreshState::Unfinished);
    }

    #[test]
    fn a_refresh_needs_a_known_mode() {
        for mode in [0, 7, -1] {
            let request = proto::StartRefreshRequest { mode, ..Default::default() };
            let Err(ItemTowerError::Invalid(violations)) = start_refresh(&request) else { panic!("mode {mode}") };
            assert_eq!(violations[0].path, "mode");
        }
        let (mode, catalog_digest) = (proto::RefreshMode::Full.into(), "d".to_owned());
        let request = proto::StartRefreshRequest { catalog_version: 3, mode, catalog_digest: catalog_digest.clone() };
        assert_eq!(start_refresh(&request).unwrap(), Wish { mode: Mode::Full, catalog_version: 3, catalog_digest });
    }
}
