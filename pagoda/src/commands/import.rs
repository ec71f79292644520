//! `pagoda import`: a data directory from a public data set or a CSV log.

use anyhow::{Error, Result, anyhow};
use pagoda_dataset::{
    DatasetError,
    import::{Format, ImportOptions, ImportReport, import},
};
use serde_json::json;

use crate::{
    cli::ImportArgs,
    output::{count, noted, say, say_json},
};

pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    let format: Format = args.format.parse()?;
    let (positive_rating, replace_schema) = (args.positive_rating, args.replace_schema);
    let options = ImportOptions { positive_rating, replace_schema, ..Default::default() };
    let report = import(format, &args.path, &args.out, &options).map_err(refused)?;
    if args.json {
        return say_json(&as_json(&report));
    }
    say(format_args!(
        "{} users, {} items, {} interactions, {} of them positive",
        count(report.users),
        count(report.items),
        count(report.interactions),
        count(report.positives)
    ));
    if let Some(rating) = report.positive_rating {
        say(format_args!("ratings from {rating} on are positive"));
    }
    if !report.ignored_columns.is_empty() {
        say(noted(&format!("columns that were not read: {}", report.ignored_columns.join(", "))));
    }
    report.bad_rows.note().iter().for_each(|text| say(noted(text)));
    Ok(())
}

/// A refusal, with what can be done about it.
fn refused(error: DatasetError) -> Error {
    match error {
        DatasetError::OtherSchema { .. } => {
            anyhow!("{error}\nto keep it, name another --out; to lose it: --replace-schema")
        }
        other => other.into(),
    }
}

fn as_json(report: &ImportReport) -> serde_json::Value {
    json!({
        "users": report.users,
        "items": report.items,
        "interactions": report.interactions,
        "positives": report.positives,
        "positive_rating": report.positive_rating,
        "ignored_columns": report.ignored_columns,
        "bad_rows": { "count": report.bad_rows.count, "first": report.bad_rows.first },
    })
}
