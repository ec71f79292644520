//! Users and items: a table's rows as entities with raw features.

use std::collections::HashSet;

use bytes::Bytes;
use pagoda_model::{
    Entity, FeatureValue, ItemId, RawFeatures,
    features::{too_many_to_filter_by, validate},
    schema::{EntitySchema, Feature, FeatureKind},
};

use crate::{
    bad_rows::{BadRows, Limits, RowCounter, shown},
    decode::{self, Cell, Wanted},
    error::DatasetError,
    source::{Column, Row, Source},
};

/// The rows of a users' or items' table that are not bad, in the table's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityTable {
    /// The entities.
    pub entities: Vec<Entity>,
    /// Their titles, one each; None where the table has none.
    pub titles: Vec<Option<String>>,
    /// The rows left out.
    pub bad_rows: BadRows,
}

/// Reads a table of users or items from memory; the file name's extension says the format.
pub fn read_entities(
    file_name: &str,
    bytes: Bytes,
    schema: &EntitySchema,
    limits: &Limits,
) -> Result<EntityTable, DatasetError> {
    read_source(&Source::memory(file_name, bytes)?, schema, limits)
}

pub(crate) fn read_source(
    source: &Source,
    schema: &EntitySchema,
    limits: &Limits,
) -> Result<EntityTable, DatasetError> {
    let mut table = EntityTable::default();
    let (_, bad_rows) = visit_rows(source, schema, limits, &mut |entity, title| {
        table.entities.push(entity);
        table.titles.push(title);
    })?;
    table.bad_rows = bad_rows;
    Ok(table)
}

/// The ids alone, of the rows that [`read_source`] keeps.
pub(crate) fn read_ids(
    source: &Source,
    schema: &EntitySchema,
    limits: &Limits,
) -> Result<HashSet<String>, DatasetError> {
    visit_rows(source, schema, limits, &mut |_, _| ()).map(|(ids, _)| ids)
}

/// Visits the entities of good rows, with their titles; their ids, and the rows left out.
fn visit_rows(
    source: &Source,
    schema: &EntitySchema,
    limits: &Limits,
    visit: &mut dyn FnMut(Entity, Option<String>),
) -> Result<(HashSet<String>, BadRows), DatasetError> {
    let features: Vec<&Feature> = schema.features.iter().filter(|f| wanted(&f.kind).is_some()).collect();
    let columns = columns(schema, &features);
    let mut ids = HashSet::new();
    let mut counter = RowCounter::new(&source.name, limits);
    source.read(&columns, limits, &mut |row| {
        let number = row.number;
        let outcome = read_row(row, &columns, &features).and_then(|(entity, title)| {
            let of_entity = |fault: String| format!("{} {}: {fault}", schema.id, shown(&entity.id));
            validate(schema, &entity).map_err(|e| of_entity(e.to_string()))?;
            check_filterable(&features, &entity).map_err(of_entity)?;
            if !ids.insert(entity.id.clone()) {
                return Err(format!("column `{}`: the id {} is used twice", schema.id, shown(&entity.id)));
            }
            visit(entity, title);
            Ok(())
        });
        counter.count(number, outcome)
    })?;
    Ok((ids, counter.finish()?))
}

/// A column's content for a feature's kind; None for the id, which is the entity's own.
pub(crate) const fn wanted(kind: &FeatureKind) -> Option<Wanted> {
    match kind {
        FeatureKind::Id { .. } => None,
        FeatureKind::Categorical | FeatureKind::Text { .. } => Some(Wanted::Text),
        FeatureKind::CategoricalList | FeatureKind::Sequence { .. } => Some(Wanted::Texts),
        FeatureKind::Numeric { .. } => Some(Wanted::Number),
        FeatureKind::Dense { .. } => Some(Wanted::Numbers),
    }
}

/// The id's column first, then the title's if there is one, then the features'.
fn columns(schema: &EntitySchema, features: &[&Feature]) -> Vec<Column> {
    let id = Column::new(&schema.id, Wanted::Id, true);
    let title = Column::new(schema.title.as_deref().unwrap_or_default(), Wanted::Text, schema.title.is_some());
    let feature = |f: &&Feature| {
        let is_sequence = matches!(f.kind, FeatureKind::Sequence { .. });
        wanted(&f.kind).map(|wanted| Column::new(&f.name, wanted, !is_sequence))
    };
    [id, title].into_iter().chain(features.iter().filter_map(feature)).collect()
}

fn read_row(row: Row<'_>, columns: &[Column], features: &[&Feature]) -> Result<(Entity, Option<String>), String> {
    let mut cells = row.cells?.into_iter();
    let mut next = || cells.next().unwrap_or(Cell::Absent);
    let id = read_id(&next(), &columns[0].name)?;
    let title = decode::text(&next()).map_err(|e| at(&columns[1].name, &e))?.map(|t| t.into_owned());
    let mut values = RawFeatures::new();
    for feature in features {
        if let Some(value) = read_value(next(), &feature.kind).map_err(|e| at(&feature.name, &e))? {
            values.insert(feature.name.clone(), value);
        }
    }
    Ok((Entity { id, features: values }, title))
}

/// A list that cannot be filtered by whole is a fault; a text that is too long is none, see [`too_many_to_filter_by`].
fn check_filterable(features: &[&Feature], entity: &Entity) -> Result<(), String> {
    for feature in features.iter().filter(|feature| feature.filterable) {
        if let Some(fault) = entity.features.get(&feature.name).and_then(too_many_to_filter_by) {
            return Err(at(&feature.name, &fault));
        }
    }
    Ok(())
}

pub(crate) fn read_id(cell: &Cell<'_>, column: &str) -> Result<String, String> {
    let text = decode::text(cell).map_err(|e| at(column, &e))?.unwrap_or_default();
    match ItemId::new(&*text) {
        Ok(_) => Ok(text.into_owned()),
        Err(invalid) => Err(at(column, &format!("{invalid} (found {})", shown(&text)))),
    }
}

fn read_value(cell: Cell<'_>, kind: &FeatureKind) -> Result<Option<FeatureValue>, String> {
    Ok(match kind {
        FeatureKind::Id { .. } => None,
        FeatureKind::Categorical | FeatureKind::Text { .. } => {
            decode::text(&cell)?.map(|t| FeatureValue::Text(t.into_owned()))
        }
        FeatureKind::CategoricalList | FeatureKind::Sequence { .. } => decode::texts(cell)?.map(FeatureValue::Texts),
        FeatureKind::Numeric { .. } => decode::number(&cell)?.map(FeatureValue::Number),
        FeatureKind::Dense { dim } => decode::floats(&cell, *dim)?.map(FeatureValue::Floats),
    })
}

pub(crate) fn at(column: &str, fault: &str) -> String {
    format!("column `{column}`: {fault}")
}
