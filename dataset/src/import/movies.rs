//! What the MovieLens forms share: rated films.

use pagoda_model::{
    Entity, FeatureValue, RawFeatures, Schema,
    schema::{EntitySchema, FeatureKind, InteractionSchema, NumericScale, Split},
};

use super::{
    ImportOptions, Imported,
    builder::{catalog, side},
    ratings::{Rated, Ratings},
};
use crate::{
    bad_rows::{BadRows, shown},
    entities::EntityTable,
    write::DatasetTables,
};

impl Ratings {
    /// As a data set of rated films.
    pub(super) fn finish(
        self,
        films: EntityTable,
        users: (EntitySchema, Option<EntityTable>),
        options: &ImportOptions,
    ) -> Imported {
        let Rated { log, weights: events, threshold, positive_rule } = self.rated(options);
        let items = catalog(films, &log);
        let interactions = InteractionSchema { events, split: Split::Temporal, ..InteractionSchema::default() };
        let tables = DatasetTables {
            schema: Schema { user: users.0, item: film_schema(), interactions },
            users: users.1,
            items,
            log,
        };
        let (positive_rating, bad_rows) = (Some(threshold), BadRows::default());
        Imported { tables, positive_rule, positive_rating, bad_rows, ignored_columns: Vec::new() }
    }
}

fn film_schema() -> EntitySchema {
    let features = vec![
        ("item_id", FeatureKind::Id { hash_buckets: None }),
        ("genres", FeatureKind::CategoricalList),
        ("title", FeatureKind::Text { buckets: 16_384 }),
        ("year", FeatureKind::Numeric { scale: NumericScale::Standardise }),
    ];
    let mut films = side("item_id", Some("title"), features);
    films
        .features
        .iter_mut()
        .for_each(|feature| feature.filterable = ["genres", "year"].contains(&feature.name.as_str()));
    films
}

/// Adds a film to a catalog, its year taken from a title such as "Toy Story (1995)".
pub(super) fn push_film(films: &mut EntityTable, id: &str, title: &str, genres: &str) -> Result<(), String> {
    pagoda_model::ItemId::new(id).map_err(|e| format!("column `item`: {e} (found {})", shown(id)))?;
    let genres = genres.split('|').map(str::trim).filter(|g| !g.is_empty() && *g != "(no genres listed)");
    let mut features = RawFeatures::new();
    features.insert("genres".to_owned(), FeatureValue::Texts(genres.map(str::to_owned).collect()));
    if !title.is_empty() {
        features.insert("title".to_owned(), FeatureValue::Text(title.to_owned()));
    }
    if let Some(year) = year_of(title) {
        features.insert("year".to_owned(), FeatureValue::Number(year));
    }
    films.entities.push(Entity { id: id.to_owned(), features });
    films.titles.push(Some(title.to_owned()).filter(|t| !t.is_empty()));
    Ok(())
}

fn year_of(title: &str) -> Option<f64> {
    let year: u32 = title.trim_end().strip_suffix(')')?.rsplit_once('(')?.1.parse().ok()?;
    (1800..2200).contains(&year).then(|| f64::from(year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_are_taken_from_titles() {
        assert_eq!(year_of("Toy Story (1995) "), Some(1995.0));
        assert_eq!(year_of("Heat"), None);
        assert_eq!(year_of("Cube (the first)"), None);
    }
}
