//! The form of LightGCN's data sets: `train.txt` and `test.txt`, a line being a user and all their items.

use std::path::Path;

use pagoda_model::{
    Schema,
    schema::{InteractionSchema, Split},
};

use super::{
    ImportOptions, Imported,
    builder::{LogBuilder, NewRow, catalog, items_by_id, required_file, users_by_history},
    lines::read_lines,
};
use crate::{
    bad_rows::{BadRows, shown},
    entities::EntityTable,
    error::DatasetError,
    write::DatasetTables,
};

const EXPECTED: &str = "lines of a user and their items, between spaces";
/// What stands in other formats, and in no id of this one.
const OF_OTHERS: [char; 6] = [',', ';', '"', '{', '}', '|'];

pub(super) fn read(dir: &Path, options: &ImportOptions) -> Result<Imported, DatasetError> {
    let train = required_file(dir, "train.txt", EXPECTED)?;
    let test = required_file(dir, "test.txt", EXPECTED)?;
    let mut log = LogBuilder::default();
    // A user may have nothing on one of the sides.
    let bad_train = read_user_lines(&train, &mut log, 0, false, options)?;
    let bad_test = read_user_lines(&test, &mut log, 0, true, options)?;
    Ok(imported(log, Split::Given, bad_train.and(bad_test)))
}

/// Adds each line's user and items, the place among the user's items as the time. A line of fewer items is a bad one, and so is one
/// that has signs of another format.
pub(super) fn read_user_lines(
    path: &Path,
    log: &mut LogBuilder,
    items_min: usize,
    test: bool,
    options: &ImportOptions,
) -> Result<BadRows, DatasetError> {
    read_lines(path, &options.limits, |line| {
        let mut words = line.split_whitespace();
        let user = words.next().unwrap_or_default();
        if line.contains(OF_OTHERS) || words.clone().count() < items_min {
            return Err(format!("expected a user and their items, between spaces, found {}", shown(line)));
        }
        words.try_for_each(|item| log.push(&NewRow { user, item, timestamp: None, event: 0, test }))
    })
}

/// Users and items of whom only the ids and the order are known.
pub(super) fn imported(log: LogBuilder, split: Split, bad_rows: BadRows) -> Imported {
    let users = users_by_history(log.history_length());
    let log = log.finish(vec!["click".to_owned()]);
    let interactions =
        InteractionSchema { events: [("click".to_owned(), 1.0)].into(), split, ..InteractionSchema::default() };
    let schema = Schema { user: users, item: items_by_id(), interactions };
    let items = catalog(EntityTable::default(), &log);
    let tables = DatasetTables { schema, users: None, items, log };
    Imported {
        tables,
        positive_rule: "every row is one".to_owned(),
        positive_rating: None,
        bad_rows,
        ignored_columns: Vec::new(),
    }
}
