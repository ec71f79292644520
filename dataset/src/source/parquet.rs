//! Tables as Parquet. The types are those that the file itself declares, whatever Arrow schema is embedded.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    file::reader::ChunkReader,
};

use super::{Column, Row, Visit, arrow_column::ArrowColumn};
use crate::{bad_rows::Limits, decode::Cell, error::DatasetError};

const BATCH_ROWS: usize = 8192;

pub(super) fn read<R: ChunkReader + 'static>(
    name: &str,
    input: R,
    columns: &[Column],
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<(), DatasetError> {
    let mut batches = guarded(name, || batches(name, input, columns, limits))?;
    let mut number = 0;
    while let Some(batch) =
        guarded(name, || batches.next().transpose().map_err(|e| DatasetError::malformed(name, e.to_string())))?
    {
        visit_batch(name, &batch, columns, &mut number, visit)?;
    }
    Ok(())
}

/// The decoder panics on some damaged files; this makes an error of it.
fn guarded<T>(name: &str, decode: impl FnOnce() -> Result<T, DatasetError>) -> Result<T, DatasetError> {
    let broken = |_| Err(DatasetError::malformed(name, "expected Parquet, found a damaged file"));
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(broken)
}

fn batches<R: ChunkReader + 'static>(
    name: &str,
    input: R,
    columns: &[Column],
    limits: &Limits,
) -> Result<parquet::arrow::arrow_reader::ParquetRecordBatchReader, DatasetError> {
    let malformed = |e: parquet::errors::ParquetError| DatasetError::malformed(name, format!("expected Parquet: {e}"));
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options).map_err(malformed)?;
    let rows = builder.metadata().file_metadata().num_rows();
    if u64::try_from(rows).map_or(true, |rows| rows > limits.rows_max) {
        return Err(DatasetError::malformed(name, format!("expected at most {} rows, found {rows}", limits.rows_max)));
    }
    let places = find_columns(name, builder.schema(), columns)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), places);
    builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(malformed)
}

fn find_columns(name: &str, schema: &arrow_schema::Schema, columns: &[Column]) -> Result<Vec<usize>, DatasetError> {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut places = Vec::new();
    for column in columns {
        match column.place(&names) {
            Some(place) => places.push(place),
            None if column.required => return Err(column.missing(name, &names)),
            None => {}
        }
    }
    Ok(places)
}

fn visit_batch(
    name: &str,
    batch: &RecordBatch,
    columns: &[Column],
    number: &mut u64,
    visit: &mut Visit<'_>,
) -> Result<(), DatasetError> {
    let typed: Vec<Option<ArrowColumn<'_>>> =
        columns.iter().map(|column| typed(name, batch, column)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        *number += 1;
        let cells =
            typed.iter().map(|column| column.as_ref().map_or(Cell::Absent, |column| column.cell(row))).collect();
        visit(Row { number: *number, cells: Ok(cells) })?;
    }
    Ok(())
}

fn typed<'b>(name: &str, batch: &'b RecordBatch, column: &Column) -> Result<Option<ArrowColumn<'b>>, DatasetError> {
    let Some(array) = column.names().find_map(|name| batch.column_by_name(name)) else { return Ok(None) };
    let wrong_type = || DatasetError::WrongType {
        file: name.to_owned(),
        column: column.name.clone(),
        expected: column.wanted.described(),
        found: array.data_type().to_string(),
    };
    ArrowColumn::new(array, column.wanted).map(Some).ok_or_else(wrong_type)
}
