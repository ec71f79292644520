//! Tables as JSON lines: one object a line, lists as arrays.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
};

use serde_json::{Map, Number, Value};

use super::{Column, Row, Visit};
use crate::{
    bad_rows::{Limits, shown},
    decode::{Cell, Wanted},
    error::DatasetError,
};

pub(super) fn read(
    name: &str,
    reader: impl Read,
    columns: &[Column],
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<(), DatasetError> {
    let mut reader = BufReader::with_capacity(1 << 18, reader);
    let mut line = Vec::new();
    let mut seen = SeenKeys::new(columns);
    for number in 1.. {
        if read_line(name, number, &mut reader, &mut line, limits.row_bytes_max)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match parse(&line) {
            Err(fault) => visit(Row { number, cells: Err(fault) })?,
            Ok(object) => {
                seen.note(columns, &object);
                visit(Row {
                    number,
                    cells: Ok(columns
                        .iter()
                        .map(|c| cell(c.names().find_map(|name| object.get(name)), c.wanted))
                        .collect()),
                })?;
            }
        }
    }
    seen.check(name, columns)
}

/// Which columns any row had, since there is no header to ask.
struct SeenKeys {
    columns: Vec<bool>,
    keys: BTreeSet<String>,
}

impl SeenKeys {
    fn new(columns: &[Column]) -> Self {
        Self { columns: vec![false; columns.len()], keys: BTreeSet::new() }
    }

    fn note(&mut self, columns: &[Column], object: &Map<String, Value>) {
        for (seen, column) in self.columns.iter_mut().zip(columns).filter(|(seen, _)| !**seen) {
            *seen = column.names().any(|name| object.contains_key(name));
        }
        // For the message only: the keys of the first rows are enough.
        if self.keys.len() < 50 {
            self.keys.extend(object.keys().take(50).filter(|k| !self.keys.contains(*k)).cloned().collect::<Vec<_>>());
        }
    }

    fn check(&self, name: &str, columns: &[Column]) -> Result<(), DatasetError> {
        let found: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        match columns.iter().zip(&self.columns).find(|(column, seen)| column.required && !**seen) {
            Some((column, _)) => Err(column.missing(name, &found)),
            None => Ok(()),
        }
    }
}

fn read_line(
    name: &str,
    number: u64,
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<usize, DatasetError> {
    line.clear();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let count = reader.take(limit).read_until(b'\n', line).map_err(|e| DatasetError::io(name, e))?;
    if count > bytes_max && !line.ends_with(b"\n") {
        let description = format!("row {number}: a row has at most {bytes_max} bytes, found a longer one");
        return Err(DatasetError::malformed(name, description));
    }
    Ok(count)
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "expected UTF-8, found other bytes".to_owned())?;
    serde_json::from_str(text).map_err(|e| format!("expected a JSON object, found {} ({e})", shown(text.trim())))
}

fn cell(value: Option<&Value>, wanted: Wanted) -> Cell<'_> {
    match value {
        None | Some(Value::Null) => Cell::Absent,
        Some(Value::Bool(b)) => Cell::Text(if *b { "true" } else { "false" }),
        Some(Value::String(text)) => Cell::Text(text),
        Some(Value::Number(n)) => number(n),
        Some(Value::Array(values)) if wanted == Wanted::Texts => texts(values),
        Some(Value::Array(values)) => numbers(values),
        Some(Value::Object(_)) => Cell::Invalid("an object".to_owned()),
    }
}

fn number(number: &Number) -> Cell<'static> {
    let whole = number.as_i64().map(Cell::Integer).or_else(|| number.as_u64().map(Cell::Unsigned));
    whole.unwrap_or_else(|| Cell::Number(number.as_f64().unwrap_or(f64::NAN)))
}

fn texts(values: &[Value]) -> Cell<'static> {
    let whole = |value: &Value| (value.is_i64() || value.is_u64()).then(|| value.to_string());
    let text = |value: &Value| value.as_str().map(str::to_owned).or_else(|| whole(value));
    let texts: Option<_> = values.iter().map(text).collect();
    texts.map_or_else(|| Cell::Invalid("a list of other things".to_owned()), Cell::Texts)
}

fn numbers(values: &[Value]) -> Cell<'static> {
    let numbers: Option<_> = values.iter().map(Value::as_f64).collect();
    numbers.map_or_else(|| Cell::Invalid("a list of other things".to_owned()), Cell::Numbers)
}
