//! MovieLens 1M's form, which MovieTweetings shares: fields between `::`.

use std::path::Path;

use pagoda_model::{
    Entity, FeatureValue, UserId,
    schema::{EntitySchema, FeatureKind},
};

use super::{
    ImportOptions, Imported,
    builder::{HISTORY_LENGTHS, required_file, side, users_by_history},
    lines::read_lines,
    movies::push_film,
    ratings::{RatingFields, Ratings},
};
use crate::{
    bad_rows::{BadRows, Limits, shown},
    decode::{self, Cell},
    entities::EntityTable,
    error::DatasetError,
};

const RATING_LINE: &str = "user::item::rating::timestamp";
const FILM_LINE: &str = "id::title::genre|genre";
const USER_LINE: &str = "id::gender::age::occupation::zip";

pub(super) fn read(dir: &Path, options: &ImportOptions) -> Result<Imported, DatasetError> {
    let path = required_file(dir, "ratings.dat", &format!("lines of {RATING_LINE}"))?;
    let limits = &options.limits;
    let mut ratings = Ratings::default();
    let bad_rows = read_lines(&path, limits, |line| push_rating(&mut ratings, line, limits))?;
    let films = read_films(&dir.join("movies.dat"), limits)?;
    let (user_schema, users) = read_users(&dir.join("users.dat"), limits)?;
    let bad_rows =
        bad_rows.and(films.bad_rows.clone()).and(users.as_ref().map_or_else(BadRows::default, |u| u.bad_rows.clone()));
    Ok(Imported { bad_rows, ..ratings.finish(films, (user_schema, users), options) })
}

fn push_rating(ratings: &mut Ratings, line: &str, limits: &Limits) -> Result<(), String> {
    let [user, item, rating, timestamp] = fields(line, RATING_LINE)?;
    let timestamp = decode::timestamp(&Cell::Raw(timestamp), limits.timestamp_max)?;
    ratings.push(&RatingFields { user, item, rating, timestamp })
}

fn read_films(path: &Path, limits: &Limits) -> Result<EntityTable, DatasetError> {
    let mut films = EntityTable::default();
    if path.is_file() {
        let mut ids = std::collections::HashSet::new();
        films.bad_rows = read_lines(path, limits, |line| {
            // Some forks leave out the genres of a film that has none.
            let line = if line.matches("::").count() == 1 { &format!("{line}::") } else { line };
            let [id, title, genres] = fields(line, FILM_LINE)?;
            if !ids.insert(id.to_owned()) {
                return Err(format!("the id {} is used twice", shown(id)));
            }
            push_film(&mut films, id, title, genres)
        })?;
    }
    Ok(films)
}

fn read_users(path: &Path, limits: &Limits) -> Result<(EntitySchema, Option<EntityTable>), DatasetError> {
    if !path.is_file() {
        return Ok((users_by_history(HISTORY_LENGTHS[0]), None));
    }
    let mut users = EntityTable::default();
    users.bad_rows = read_lines(path, limits, |line| {
        let [id, gender, age, occupation, _zip] = fields(line, USER_LINE)?;
        UserId::new(id).map_err(|e| e.to_string())?;
        let named = [("gender", gender), ("age", age), ("occupation", occupation)];
        let features = named.map(|(name, text)| (name.to_owned(), FeatureValue::Text(text.to_owned()))).into();
        users.entities.push(Entity { id: id.to_owned(), features });
        users.titles.push(None);
        Ok(())
    })?;
    Ok((user_schema(), Some(users)))
}

fn user_schema() -> EntitySchema {
    let features = vec![
        ("gender", FeatureKind::Categorical),
        ("age", FeatureKind::Categorical),
        ("occupation", FeatureKind::Categorical),
        ("history", FeatureKind::Sequence { max_length: 50 }),
    ];
    side("user_id", None, features)
}

fn fields<'l, const N: usize>(line: &'l str, form: &str) -> Result<[&'l str; N], String> {
    let fields: Vec<&str> = line.split("::").collect();
    fields.try_into().map_err(|_| format!("expected {form}, found {}", shown(line)))
}
