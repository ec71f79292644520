//! `report.html`: what a run, or a comparison of recipes, found, as one self-contained page that needs no network and runs no script.
//!
//! Pure: a report is plain data, which is its JSON as well, and writing it touches nothing but the writer. It computes nothing
//! that an engineer would cite; it shows figures that others measured.

mod chart;
mod comparison;
mod comparison_page;
mod format;
mod page;
mod run;
mod run_page;
mod sections;
#[cfg(test)]
mod tests;

pub use comparison::{ComparisonReport, Recipe, Spread};
pub use run::{CalibrationPoint, Curve, RankerMetrics, RecalledItem, RunReport, SliceRow, SourceRow, UserExample};
