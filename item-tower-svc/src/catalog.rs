//! Catalogs of the registry: found, read, compared with the model's schema and with one another.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use pagoda_dataset::{BAD_ROWS_SHOWN, BadRows, Limits, SCHEMA_FILE, read_entities, shown};
use pagoda_model::{
    Entity, Schema,
    schema::{EntitySchema, Feature},
};
use pagoda_registry::{Entry, Kind, Registry};

use crate::{attributes::Declared, error::ItemTowerError};

/// The items of a catalog that are not refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// The items, in the table's order; no id occurs twice.
    pub items: Vec<Entity>,
    /// What was left out.
    pub refused: BadRows,
    /// What the items are searched without.
    pub unfilterable: Unfilterable,
}

/// Texts of filterable features that are too long to filter by. No filter could name one, so that their items are kept and every filter answers
/// as if they were there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfilterable {
    /// How many values have one.
    pub count: u64,
    /// The first [`BAD_ROWS_SHOWN`], such as "item `a`: feature `brand`: a filterable text has at most 128 bytes, found 300".
    pub first: Vec<String>,
}

impl Catalog {
    /// Reads an items' table; rows that a model of the schema would refuse are bad rows.
    pub fn read(file_name: &str, table: Bytes, schema: &EntitySchema) -> Result<Self, String> {
        let table = read_entities(file_name, table, schema, &Limits::default()).map_err(|e| e.to_string())?;
        if table.entities.is_empty() {
            return Err(format!("{file_name}: expected at least one item, found none"));
        }
        let unfilterable = Unfilterable::of(&table.entities, schema);
        Ok(Self { items: table.entities, refused: table.bad_rows, unfilterable })
    }
}

impl Unfilterable {
    fn of(items: &[Entity], schema: &EntitySchema) -> Self {
        let (declared, mut found) = (Declared::by(schema), Self::default());
        for item in items {
            for (feature, fault) in declared.faults(item) {
                found.count += 1;
                if found.first.len() < BAD_ROWS_SHOWN {
                    found.first.push(format!("item {}: feature `{feature}`: {fault}", shown(&item.id)));
                }
            }
        }
        found
    }
}

/// The catalogs of a registry.
#[derive(Clone, Debug)]
pub struct Catalogs {
    registry: Registry,
}

impl Catalogs {
    /// The catalogs of a registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// A catalog's entry; version 0 is the newest.
    pub async fn entry(&self, version: u64) -> Result<Entry, ItemTowerError> {
        let (entry, missing) = match version {
            0 => (self.registry.latest(Kind::Catalog).await?, "no catalog is in the store yet".to_owned()),
            n => (self.registry.get(Kind::Catalog, n).await?, format!("catalog {n} is not in the store")),
        };
        entry.ok_or(ItemTowerError::CatalogNotFound(missing))
    }

    /// A catalog's schema, without its table.
    pub async fn schema(&self, entry: &Entry) -> Result<Schema, ItemTowerError> {
        let mut small = entry.clone();
        small.files.retain(|name, _| name == SCHEMA_FILE);
        let file = self.registry.fetch(&small).await?.remove(SCHEMA_FILE);
        let file = file.ok_or_else(|| refused(entry, format!("it has no {SCHEMA_FILE}")))?;
        let text = std::str::from_utf8(&file).map_err(|e| refused(entry, format!("{SCHEMA_FILE}: {e}")))?;
        Schema::from_toml(text).map_err(|e| refused(entry, format!("{SCHEMA_FILE}: {e}")))
    }

    /// Reads a catalog with its own schema, on a thread of its own.
    pub async fn read(&self, entry: &Entry) -> Result<Catalog, ItemTowerError> {
        let schema = self.schema(entry).await?;
        let mut table = entry.clone();
        table.files.retain(|name, _| name.starts_with("items."));
        let mut files = self.registry.fetch(&table).await?;
        let file = files.pop_first().filter(|_| files.is_empty());
        let (name, bytes) = file.ok_or_else(|| refused(entry, "expected one file `items.*`".into()))?;
        let read = tokio::task::spawn_blocking(move || Catalog::read(&name, bytes, &schema.item)).await;
        let read = read.map_err(|e| ItemTowerError::Internal(format!("reading catalog {}: {e}", entry.version)))?;
        read.map_err(|why| refused(entry, why))
    }
}

/// What a catalog has that another had not, or had otherwise; and what it has no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// New or changed items, in the catalog's order.
    pub changed: Vec<Entity>,
    /// The ids that are gone, sorted.
    pub gone: Vec<String>,
}

impl Difference {
    /// From a catalog that the index is known to equal.
    pub fn between(previous: &[Entity], current: Vec<Entity>) -> Self {
        let known: HashMap<&str, &Entity> = previous.iter().map(|item| (item.id.as_str(), item)).collect();
        let gone = gone(known.keys().copied(), &current);
        let changed = current.into_iter().filter(|item| known.get(item.id.as_str()) != Some(&item)).collect();
        Self { changed, gone }
    }

    /// From what the index holds is not known, only which ids it may hold: everything counts as changed.
    pub fn from_anything<'a>(ids: impl Iterator<Item = &'a str>, current: Vec<Entity>) -> Self {
        Self { gone: gone(ids, &current), changed: current }
    }
}

fn gone<'a>(ids: impl Iterator<Item = &'a str>, current: &[Entity]) -> Vec<String> {
    let living: HashSet<&str> = current.iter().map(|item| item.id.as_str()).collect();
    let mut gone: Vec<String> = ids.filter(|id| !living.contains(id)).map(str::to_owned).collect();
    gone.sort_unstable();
    gone.dedup();
    gone
}

/// How a catalog's item side differs from the model's; `None`: not at all. What is filterable may differ.
pub fn schema_difference(catalog: &EntitySchema, model: &EntitySchema) -> Option<String> {
    let (catalog, model) = (&catalog.of_towers(), &model.of_towers());
    if catalog == model {
        return None;
    }
    let mut found = Vec::new();
    if catalog.id != model.id {
        found.push(format!("the catalog's id column is `{}`, the model's `{}`", catalog.id, model.id));
    }
    if catalog.title != model.title {
        found.push(format!("the catalog's title column is {:?}, the model's {:?}", catalog.title, model.title));
    }
    let named = |schema: &EntitySchema, name: &str| schema.features.iter().find(|f| f.name == name).cloned();
    let model_only = model.features.iter().filter(|f| named(catalog, &f.name).is_none());
    found.extend(model_only.map(|f| format!("the model's feature `{}` is not in the catalog", f.name)));
    found.extend(catalog.features.iter().filter_map(|f| feature_difference(f, named(model, &f.name).as_ref())));
    if found.is_empty() {
        found.push("the features stand in another order".into());
    }
    Some(format!("its item schema is not that of the model: {}", found.join("; ")))
}

fn feature_difference(catalog: &Feature, model: Option<&Feature>) -> Option<String> {
    match model {
        None => Some(format!("the catalog's feature `{}` is not in the model", catalog.name)),
        Some(model) if model.kind != catalog.kind => Some(format!(
            "feature `{}` is {:?} in the catalog, {:?} in the model",
            catalog.name, catalog.kind, model.kind
        )),
        Some(_) => None,
    }
}

/// A catalog that cannot be used.
pub(crate) fn refused(entry: &Entry, why: String) -> ItemTowerError {
    ItemTowerError::CatalogRefused { version: entry.version, why }
}

#[cfg(test)]
mod tests {
    use pagoda_model::{FeatureValue, features::TEXT_BYTES_LIMIT, schema::FeatureKind};

    use super::*;

    fn item(id: &str, price: f64) -> Entity {
        Entity { id: id.into(), features: [("price".to_owned(), FeatureValue::Number(price))].into() }
    }

    fn schema(features: &[(&str, FeatureKind)]) -> EntitySchema {
        let features = features.iter().map(|(name, kind)| Feature::new(*name, kind.clone())).collect();
        EntitySchema { id: "id".into(), title: None, features }
    }

    fn dense() -> EntitySchema {
        schema(&[("image", FeatureKind::Dense { dim: 2 })])
    }

    #[test]
    fn new_changed_and_gone_items_are_told_from_those_unchanged() {
        let previous = [item("same", 1.0), item("changed", 1.0), item("z", 1.0), item("gone", 1.0)];
        let current = vec![item("new", 1.0), item("same", 1.0), item("changed", 2.0)];
        let difference = Difference::between(&previous, current);
        assert_eq!(difference.changed, [item("new", 1.0), item("changed", 2.0)]);
        assert_eq!(difference.gone, ["gone", "z"]);
        assert_eq!(Difference::between(&previous, previous.to_vec()), Difference::default());
    }

    #[test]
    fn where_nothing_is_known_everything_is_changed() {
        let difference = Difference::from_anything(["b", "a", "b", "c"].into_iter(), vec![item("c", 1.0)]);
        assert_eq!(difference, Difference { changed: vec![item("c", 1.0)], gone: vec!["a".into(), "b".into()] });
    }

    #[test]
    fn every_difference_of_schemas_is_named() {
        let model = schema(&[
            ("a", FeatureKind::Categorical),
            ("b", FeatureKind::Categorical),
            ("c", FeatureKind::Id { hash_buckets: None }),
        ]);
        let mut catalog = schema(&[
            ("a", FeatureKind::CategoricalList),
            ("c", FeatureKind::Id { hash_buckets: None }),
            ("d", FeatureKind::Categorical),
        ]);
        catalog.id = "item".into();
        let named = schema_difference(&catalog, &model).unwrap();
        for part in [
            "id column is `item`",
            "feature `b` is not in the catalog",
            "`a` is CategoricalList",
            "`d` is not in the model",
        ] {
            assert!(named.contains(part), "{part} is missing in {named}");
        }
        let mut turned = model.clone();
        turned.features.reverse();
        assert!(schema_difference(&turned, &model).unwrap().contains("order"));
        assert_eq!(schema_difference(&model, &model), None);
    }

    #[test]
    fn what_is_filterable_may_differ() {
        let model = schema(&[("a", FeatureKind::Categorical)]);
        let mut catalog = model.clone();
        catalog.features[0].filterable = true;
        assert_eq!(schema_difference(&catalog, &model), None);
    }

    #[test]
    fn what_a_model_would_refuse_is_refused_and_counted_with_bad_rows() {
        let long = "x".repeat(TEXT_BYTES_LIMIT + 1);
        let rows = format!("id,image,title\na,0.5|1,short\nb,0.5|inf,short\nc,1|0,{long}\nd,1|0,\n");
        let mut schema = dense();
        schema.features.push(Feature::new("title", FeatureKind::Text { buckets: 8 }));
        let catalog = Catalog::read("items.csv", rows.into(), &schema).unwrap();
        let ids: Vec<_> = catalog.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!((ids, catalog.refused.count), (vec!["a", "d"], 2));
        assert!(catalog.refused.first[0].contains("items.csv row 2"), "{:?}", catalog.refused);
        assert!(catalog.refused.first[1].contains("items.csv row 3: id `c`: feature `title`"), "{:?}", catalog.refused);
    }

    #[test]
    fn an_item_whose_text_is_too_long_to_filter_by_is_kept_and_named() {
        let schema = schema(&[("brand", FeatureKind::Categorical), ("maker", FeatureKind::Categorical)]);
        let schema = EntitySchema {
            features: schema.features.into_iter().map(|f| if f.name == "brand" { f.filterable() } else { f }).collect(),
            ..schema
        };
        let long = "x".repeat(300);
        let rows = format!("id,brand,maker\na,short,{long}\nb,{long},short\n");
        let catalog = Catalog::read("items.csv", rows.into(), &schema).unwrap();
        assert_eq!((catalog.items.len(), catalog.refused.count, catalog.unfilterable.count), (2, 0, 1));
        assert_eq!(
            catalog.unfilterable.first,
            ["item `b`: feature `brand`: a filterable text has at most 128 bytes, found 300"]
        );
        assert_eq!(catalog.items[1].features["brand"], FeatureValue::Text(long), "the towers see it");
    }

    #[test]
    fn too_many_refused_rows_refuse_the_catalog() {
        let rows = format!("id,image\na,1|1\n{}", (0..11).map(|n| format!("x{n},1|nan\n")).collect::<String>());
        let error = Catalog::read("items.csv", rows.into(), &dense()).unwrap_err();
        assert!(error.contains("11 of 12 rows") && error.contains("items.csv"), "{error}");
    }

    #[test]
    fn an_empty_catalog_is_refused() {
        assert!(Catalog::read("items.csv", "id,image\n".into(), &dense()).unwrap_err().contains("found none"));
    }
}
