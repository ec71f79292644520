//! Tables as CSV with a header: comma-separated, quoted as RFC 4180 has it.

use std::io::Read;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{Column, Row, Visit, record_limit::RecordLimit};
use crate::{bad_rows::Limits, decode::Cell, error::DatasetError};

pub(super) fn read(
    name: &str,
    reader: impl Read,
    columns: &[Column],
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<(), DatasetError> {
    let mut reader = limited(reader, limits);
    let header = read_header(name, &mut reader)?;
    let places = find_columns(name, &header, columns)?;
    let mut record = ByteRecord::new();
    for number in 1.. {
        if !reader.read_byte_record(&mut record).map_err(|e| malformed(name, number, &e))? {
            break;
        }
        visit(Row { number, cells: cells(&record, &places, header.len()) })?;
    }
    Ok(())
}

pub(super) fn header(name: &str, reader: impl Read, limits: &Limits) -> Result<Vec<String>, DatasetError> {
    read_header(name, &mut limited(reader, limits))
}

fn limited<R: Read>(reader: R, limits: &Limits) -> Reader<RecordLimit<R>> {
    ReaderBuilder::new().flexible(true).from_reader(RecordLimit::new(reader, limits.row_bytes_max))
}

fn read_header(name: &str, reader: &mut Reader<impl Read>) -> Result<Vec<String>, DatasetError> {
    let header = reader.byte_headers().map_err(|e| malformed(name, 0, &e))?;
    let texts = header.iter().map(|field| {
        std::str::from_utf8(field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field)).map(|t| t.trim().to_owned())
    });
    texts.collect::<Result<_, _>>().map_err(|_| DatasetError::malformed(name, "the header is not UTF-8"))
}

fn find_columns(name: &str, header: &[String], columns: &[Column]) -> Result<Vec<Option<usize>>, DatasetError> {
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let find = |column: &Column| match column.place(&names) {
        None if column.required => Err(column.missing(name, &names)),
        place => Ok(place),
    };
    columns.iter().map(find).collect()
}

fn cells<'r>(record: &'r ByteRecord, places: &[Option<usize>], width: usize) -> Result<Vec<Cell<'r>>, String> {
    if record.len() != width {
        return Err(format!("expected {width} fields, found {}", record.len()));
    }
    Ok(places.iter().map(|place| place.and_then(|i| record.get(i)).map_or(Cell::Absent, raw)).collect())
}

fn raw(field: &[u8]) -> Cell<'_> {
    match std::str::from_utf8(field) {
        Ok(text) => Cell::Raw(text),
        Err(_) => Cell::Invalid(format!("invalid UTF-8 ({})", crate::bad_rows::shown(&String::from_utf8_lossy(field)))),
    }
}

fn malformed(name: &str, row: u64, error: &csv::Error) -> DatasetError {
    DatasetError::malformed(name, format!("row {row}: {error}"))
}
