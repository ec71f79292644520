//! What a ranker thinks: a file of users, items and scores, as Parquet, CSV or JSONL.
//!
//! It is no table of a data directory: it comes from elsewhere, and may speak of users whom the log does not know.

use std::{borrow::Cow, path::Path};

use crate::{
    bad_rows::Limits,
    decode::{self, Cell, Wanted},
    entities::at,
    error::DatasetError,
    source::{Column, Row, Source},
    unknown_items::{KnownItems, LeftOut, read_known},
};

/// Each column has two names, of which a file has one: the plain one, and the one of our own tables.
const USER: [&str; 2] = ["user", "user_id"];
const ITEM: [&str; 2] = ["item", "item_id"];
const SCORE: &str = "score";

/// One row: how much a ranker thinks of an item for a user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRow<'a> {
    /// The user's id.
    pub user: &'a str,
    /// The item's id.
    pub item: &'a str,
    /// Finite; higher is better.
    pub score: f32,
}

/// Reads the columns `user` (or `user_id`), `item` (or `item_id`) and `score` of a file, row by row, in the file's order. Rows of unknown items are left
/// out and counted. What `visit` refuses is a bad row, and so is one without an id or a finite score.
pub fn read_scores(
    path: &Path,
    limits: &Limits,
    items: KnownItems<'_>,
    visit: &mut dyn FnMut(ScoreRow<'_>) -> Result<(), String>,
) -> Result<LeftOut, DatasetError> {
    let source = Source::file(path)?;
    let columns = [
        Column::of_either(USER, Wanted::Id),
        Column::of_either(ITEM, Wanted::Id),
        Column::new(SCORE, Wanted::Number, true),
    ];
    read_known(&source, &columns, limits, items, &mut |row, knows| {
        read_row(row, &mut |row| if knows(row.item) { visit(row) } else { Ok(()) })
    })
}

fn read_row(row: Row<'_>, visit: &mut dyn FnMut(ScoreRow<'_>) -> Result<(), String>) -> Result<(), String> {
    let cells = row.cells?;
    let [user, item, score] = cells.as_slice() else { return Err("too few columns".to_owned()) };
    let (user, item) = (id(user, &USER)?, id(item, &ITEM)?);
    visit(ScoreRow { user: &user, item: &item, score: finite(score, SCORE)? })
}

fn id<'c>(cell: &Cell<'c>, names: &[&str]) -> Result<Cow<'c, str>, String> {
    let column = names.join("` or `");
    let id = decode::text(cell).map_err(|e| at(&column, &e))?;
    id.ok_or_else(|| at(&column, &format!("expected {}, found nothing", Wanted::Id.described())))
}

/// A score, which is finite in single precision too.
pub(crate) fn finite(cell: &Cell<'_>, column: &str) -> Result<f32, String> {
    let number = decode::number(cell).map_err(|e| at(column, &e))?;
    let number = number.ok_or_else(|| at(column, "expected a number, found nothing"))?;
    Some(number as f32)
        .filter(|score| score.is_finite())
        .ok_or_else(|| at(column, &format!("expected a number of single precision, found `{number}`")))
}
