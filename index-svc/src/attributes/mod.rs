//! Attributes of rows, laid out for filters and groups: [`Columns`] by row, and [`AttributeIndex`], which finds the rows of a value.
//!
//! A generation has an index of its attributes; the delta has columns alone, which are cheap to append to. Knows nothing of filters as
//! callers write them: it is asked with [`Predicate`](crate::filter::Predicate)s.

mod cache;
mod codec;
mod columns;
mod declarations;
mod index;
mod key;
mod postings;
mod text;

pub use self::{
    codec::ColumnsError,
    columns::{Column, Columns, NumericColumn},
    declarations::{ATTRIBUTE_BYTES_LIMIT, ATTRIBUTES_LIMIT, AttributeKind, Declarations, TEXTS_LIMIT},
    index::{AttributeIndex, Matches},
    key::Key,
    text::TextColumn,
};
