//! One column of a Parquet batch as cells.

use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, PrimitiveArray, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    types::{
        ArrowPrimitiveType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType,
    },
};
use arrow_schema::{DataType, TimeUnit};

use crate::decode::{self, Cell, Wanted};

/// A column whose type is known to hold what is wanted.
pub(super) enum ArrowColumn<'a> {
    Text(&'a StringArray),
    Boolean(&'a BooleanArray),
    /// Whole numbers, or times already in seconds.
    Integers(Vec<Option<i64>>),
    Unsigned(&'a UInt64Array),
    Numbers(Vec<Option<f64>>),
    /// Lists of texts.
    Texts(&'a ListArray),
    /// Lists of numbers.
    Floats(&'a ListArray),
}

impl<'a> ArrowColumn<'a> {
    /// None where the array's type cannot hold what is wanted.
    pub(super) fn new(array: &'a ArrayRef, wanted: Wanted) -> Option<Self> {
        match wanted {
            Wanted::Id | Wanted::Text => text(array).or_else(|| whole(array)),
            Wanted::Number => whole(array).or_else(|| numbers(array).map(Self::Numbers)),
            Wanted::Time => times(array).map(Self::Integers).or_else(|| Self::new(array, Wanted::Number)),
            Wanted::Texts => list(array).filter(|l| holds(l.values(), Wanted::Text)).map(Self::Texts),
            Wanted::Numbers => list(array).filter(|l| holds(l.values(), Wanted::Number)).map(Self::Floats),
        }
    }

    /// The cell of a row of the batch.
    pub(super) fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Text(array) if array.is_valid(row) => Cell::Text(array.value(row)),
            Self::Boolean(array) if array.is_valid(row) => Cell::Text(if array.value(row) { "true" } else { "false" }),
            Self::Integers(values) => values[row].map_or(Cell::Absent, Cell::Integer),
            Self::Unsigned(array) if array.is_valid(row) => unsigned(array.value(row)),
            Self::Numbers(values) => values[row].map_or(Cell::Absent, Cell::Number),
            Self::Texts(array) if array.is_valid(row) => texts_of(&array.value(row)),
            Self::Floats(array) if array.is_valid(row) => numbers_of(&array.value(row)),
            _ => Cell::Absent,
        }
    }
}

fn text(array: &ArrayRef) -> Option<ArrowColumn<'_>> {
    let texts = array.as_any().downcast_ref().map(ArrowColumn::Text);
    texts.or_else(|| array.as_any().downcast_ref().map(ArrowColumn::Boolean))
}

fn whole(array: &ArrayRef) -> Option<ArrowColumn<'_>> {
    let integers = integers(array).map(ArrowColumn::Integers);
    integers.or_else(|| array.as_any().downcast_ref().map(ArrowColumn::Unsigned))
}

fn unsigned(number: u64) -> Cell<'static> {
    i64::try_from(number).map_or(Cell::Unsigned(number), Cell::Integer)
}

fn list(array: &ArrayRef) -> Option<&ListArray> {
    array.as_any().downcast_ref()
}

fn holds(values: &ArrayRef, wanted: Wanted) -> bool {
    ArrowColumn::new(values, wanted).is_some()
}

fn texts_of(values: &ArrayRef) -> Cell<'static> {
    if let Some(texts) = values.as_any().downcast_ref::<StringArray>() {
        return Cell::Texts(texts.iter().flatten().map(str::to_owned).collect());
    }
    if let Some(unsigned) = values.as_any().downcast_ref::<UInt64Array>() {
        return Cell::Texts(unsigned.iter().flatten().map(|n| n.to_string()).collect());
    }
    match integers(values) {
        Some(integers) => Cell::Texts(integers.into_iter().flatten().map(|n| n.to_string()).collect()),
        None => Cell::Invalid(format!("a list of {}", values.data_type())),
    }
}

fn numbers_of(values: &ArrayRef) -> Cell<'static> {
    let Some(column) = ArrowColumn::new(values, Wanted::Number) else {
        return Cell::Invalid(format!("a list of {}", values.data_type()));
    };
    let number = |row| decode::number(&column.cell(row)).ok().flatten().unwrap_or(f64::NAN);
    Cell::Numbers((0..values.len()).map(number).collect())
}

fn numbers(array: &ArrayRef) -> Option<Vec<Option<f64>>> {
    let any = array.as_any();
    if let Some(array) = any.downcast_ref::<Float64Array>() {
        return Some(array.iter().collect());
    }
    any.downcast_ref::<Float32Array>().map(|array| array.iter().map(|x| x.map(f64::from)).collect())
}

fn integers(array: &ArrayRef) -> Option<Vec<Option<i64>>> {
    macro_rules! widened {
        ($($array:ty),*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<$array>() {
                return Some(array.iter().map(|n| n.map(i64::from)).collect());
            })*
        };
    }
    widened!(Int64Array, Int32Array, Int16Array, Int8Array, UInt32Array, UInt16Array, UInt8Array);
    None
}

/// Times and dates in whole seconds.
fn times(array: &ArrayRef) -> Option<Vec<Option<i64>>> {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => scaled::<TimestampSecondType>(array, 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => scaled::<TimestampMillisecondType>(array, 1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => scaled::<TimestampMicrosecondType>(array, 1_000_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => scaled::<TimestampNanosecondType>(array, 1_000_000_000),
        DataType::Date32 => {
            let days = array.as_any().downcast_ref::<Date32Array>()?;
            Some(days.iter().map(|d| d.map(|d| i64::from(d) * 86_400)).collect())
        }
        _ => None,
    }
}

fn scaled<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, units_per_second: i64) -> Option<Vec<Option<i64>>> {
    let array = array.as_any().downcast_ref::<PrimitiveArray<T>>()?;
    Some(array.iter().map(|t| t.map(|t| t.div_euclid(units_per_second))).collect())
}
