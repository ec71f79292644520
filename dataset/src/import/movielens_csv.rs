//! MovieLens's newer form: `ratings.csv` and `movies.csv`.

use std::{collections::HashSet, path::Path};

use super::{
    ImportOptions, Imported,
    builder::{HISTORY_LENGTHS, required_file, users_by_history},
    movies::push_film,
    ratings::{RatingFields, Ratings},
};
use crate::{
    bad_rows::{Limits, RowCounter, shown},
    decode::{self, Cell, Wanted},
    entities::EntityTable,
    error::DatasetError,
    source::{Column, Row, Source},
};

pub(super) fn read(dir: &Path, options: &ImportOptions) -> Result<Imported, DatasetError> {
    let path = required_file(dir, "ratings.csv", "the columns userId, movieId, rating and timestamp")?;
    let limits = &options.limits;
    let (source, mut ratings) = (Source::csv_file(&path), Ratings::default());
    let columns =
        [("userId", Wanted::Id), ("movieId", Wanted::Id), ("rating", Wanted::Number), ("timestamp", Wanted::Time)];
    let columns = columns.map(|(name, wanted)| Column::new(name, wanted, true));
    let mut counter = RowCounter::new(&source.name, limits);
    source.read(&columns, limits, &mut |row| counter.count(row.number, push_rating(&mut ratings, row, limits)))?;
    let bad_rows = counter.finish()?;
    let films = read_films(&dir.join("movies.csv"), limits)?;
    let bad_rows = bad_rows.and(films.bad_rows.clone());
    Ok(Imported { bad_rows, ..ratings.finish(films, (users_by_history(HISTORY_LENGTHS[0]), None), options) })
}

fn push_rating(ratings: &mut Ratings, row: Row<'_>, limits: &Limits) -> Result<(), String> {
    let cells = row.cells?;
    let timestamp =
        decode::timestamp(&cells[3], limits.timestamp_max).map_err(|e| crate::entities::at("timestamp", &e))?;
    let [user, item, rating] = texts(&cells)?;
    ratings.push(&RatingFields { user: &user, item: &item, rating: &rating, timestamp })
}

fn read_films(path: &Path, limits: &Limits) -> Result<EntityTable, DatasetError> {
    let mut films = EntityTable::default();
    if !path.is_file() {
        return Ok(films);
    }
    let (source, mut ids) = (Source::csv_file(path), HashSet::new());
    let columns = [("movieId", Wanted::Id), ("title", Wanted::Text), ("genres", Wanted::Texts)];
    let columns = columns.map(|(name, wanted)| Column::new(name, wanted, true));
    let mut counter = RowCounter::new(&source.name, limits);
    let mut push = |row: Row<'_>| {
        let [id, title, genres] = texts(&row.cells?)?;
        if !ids.insert(id.clone().into_owned()) {
            return Err(format!("column `movieId`: the id {} is used twice", shown(&id)));
        }
        push_film(&mut films, &id, &title, &genres)
    };
    source.read(&columns, limits, &mut |row| counter.count(row.number, push(row)))?;
    films.bad_rows = counter.finish()?;
    Ok(films)
}

/// The first cells as texts; empty where absent.
fn texts<'c, const N: usize>(cells: &[Cell<'c>]) -> Result<[std::borrow::Cow<'c, str>; N], String> {
    let texts = cells[..N]
        .iter()
        .map(|cell| Ok(decode::text(cell)?.unwrap_or_default()))
        .collect::<Result<Vec<_>, String>>()?;
    texts.try_into().map_err(|_| "too few columns".to_owned())
}
