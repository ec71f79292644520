//! The data a user brings: a directory of `schema.toml` and three tables, users, items and interactions, each as
//! Parquet, CSV or JSONL; how they are read, written, and made from
//! well-known public data sets ([`import`]).
//!
//! Beside them stand two tables that are of no data directory: a ranker's scores, and the hard negatives mined from a ranking.
//!
//! Knows nothing of training, encoding or serving. What a row says is checked here, once: bad rows are counted and
//! reported with file, row and column, and refused past a limit; so are, by a limit of their own, rows of items that the catalog does not have.

mod bad_rows;
mod dataset;
mod decode;
mod entities;
mod error;
mod hard_negatives;
mod history;
pub mod import;
mod interactions;
mod interner;
mod scores;
mod source;
mod unknown_items;
mod write;

pub use bad_rows::{BAD_ROWS_SHOWN, BadRows, Limits, shown};
pub use dataset::{Dataset, SCHEMA_FILE};
pub use entities::{EntityTable, read_entities};
pub use error::DatasetError;
pub use hard_negatives::{HardNegative, HardNegativesWriter, MINED_FROM_BYTES_MAX, read_hard_negatives};
pub use history::{UserSnapshot, history_limit, user_snapshot};
pub use interactions::{Interaction, Interactions, LogIds};
pub use scores::{ScoreRow, read_scores};
pub use unknown_items::{KnownItems, LeftOut, UnknownItems};
pub use write::{
    DatasetTables, LogRow, LogTable, write_dataset, write_dataset_with, write_entities_parquet,
    write_interactions_parquet,
};
