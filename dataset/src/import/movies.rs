//! What the MovieLens forms share: rated films.

use pagoda_model::{
    Entity, FeatureValue, RawFeatures, Schema,
    schema::{EntitySchema, FeatureKind, InteractionSchema, NumericScale, Split},
};

use super::{
    ImportOptions, Imported,
    builder::{LogBuilder, NewRow, catalog, side},
};
use crate::{
    bad_rows::{BadRows, shown},
    entities::EntityTable,
    write::DatasetTables,
};

const VIEW: u8 = 0;
const LIKE: u8 = 1;

/// Ratings as they are read: which of them are positives is known when the highest is.
#[derive(Default)]
pub(super) struct Ratings {
    log: LogBuilder,
    ratings: Vec<f64>,
}

/// The fields of a rating, as text.
pub(super) struct RatingFields<'a> {
    pub(super) user: &'a str,
    pub(super) item: &'a str,
    pub(super) rating: &'a str,
    pub(super) timestamp: i64,
}

impl Ratings {
    pub(super) fn push(&mut self, fields: &RatingFields<'_>) -> Result<(), String> {
        let rating: f64 = fields
            .rating
            .trim()
            .parse()
            .ok()
            .filter(|r: &f64| (0.0..=1e6).contains(r))
            .ok_or_else(|| format!("column `rating`: expected a number from 0, found {}", shown(fields.rating)))?;
        let RatingFields { user, item, timestamp, .. } = *fields;
        self.log.push(&NewRow { user, item, timestamp: Some(timestamp), event: VIEW, test: false })?;
        self.ratings.push(rating);
        Ok(())
    }

    /// Ratings at or above the threshold become `like`, the others `view`.
    pub(super) fn finish(
        self,
        films: EntityTable,
        users: (EntitySchema, Option<EntityTable>),
        options: &ImportOptions,
    ) -> Imported {
        let highest = self.ratings.iter().copied().fold(0.0, f64::max);
        let threshold = options.positive_rating.unwrap_or(0.7 * highest);
        let mut log = self.log.finish(vec!["view".to_owned(), "like".to_owned()]);
        for (row, rating) in log.rows.iter_mut().zip(self.ratings) {
            row.event = if rating >= threshold { LIKE } else { VIEW };
        }
        let items = catalog(films, &log);
        let schema = Schema { user: users.0, item: film_schema(), interactions: interaction_schema() };
        let tables = DatasetTables { schema, users: users.1, items, log };
        let positive_rule = format!("ratings from {threshold} on are positives, the highest is {highest}");
        Imported { tables, positive_rule, positive_rating: Some(threshold), bad_rows: BadRows::default() }
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

fn interaction_schema() -> InteractionSchema {
    let events = [("view".to_owned(), 0.0), ("like".to_owned(), 1.0)].into();
    InteractionSchema { events, split: Split::Temporal, ..InteractionSchema::default() }
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
