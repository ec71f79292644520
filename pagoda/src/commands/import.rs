//! `pagoda import`: a data directory from a public data set or a CSV log.

use anyhow::Result;
use pagoda_dataset::import::{Format, ImportOptions, ImportReport, import};
use serde_json::json;

use crate::{
    cli::ImportArgs,
    output::{count, noted, say, say_json},
};

pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    let format: Format = args.format.parse()?;
    let options = ImportOptions { positive_rating: args.positive_rating, ..Default::default() };
    let report = import(format, &args.path, &args.out, &options)?;
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
    report.bad_rows.note().iter().for_each(|text| say(noted(text)));
    Ok(())
}

fn as_json(report: &ImportReport) -> serde_json::Value {
    json!({
        "users": report.users,
        "items": report.items,
        "interactions": report.interactions,
        "positives": report.positives,
        "positive_rating": report.positive_rating,
        "bad_rows": { "count": report.bad_rows.count, "first": report.bad_rows.first },
    })
}
