//! Sections that both pages have.

use maud::{Markup, html};

use super::{
    format::{NONE, metric_order, percent},
    page::{bar, table, text},
    run::{RankerMetrics, SourceRow},
};

/// The sources of negatives.
pub(super) fn negatives(rows: &[SourceRow]) -> Option<Markup> {
    let head = html! {
        tr {
            th scope="col" { "Source" }
            @for name in ["Target share", "Realised share", "Share of loss", "False negatives (est.)", "Masked hits"] {
                th.number scope="col" { (name) }
            }
        }
    };
    let body = html! { @for row in rows { (source(row)) } };
    (!rows.is_empty()).then(|| table(&head, &body))
}

fn source(row: &SourceRow) -> Markup {
    html! {
        tr {
            th scope="row" { (text(&row.source)) }
            @for share in [row.target_share, row.realised_share, row.loss_share] { td { (bar(share, &percent(share))) } }
            td.number { (row.estimated_false_negative_rate.map_or(NONE.into(), percent)) }
            td.number { (percent(row.hits_masked_share)) }
        }
    }
}

/// The names of all metrics, in the order of reading.
pub(super) fn metric_names(rankers: &[RankerMetrics]) -> Vec<&str> {
    let mut names: Vec<&str> = rankers.iter().flat_map(|ranker| ranker.metrics.keys().map(String::as_str)).collect();
    names.sort_by_key(|name| metric_order(name));
    names.dedup();
    names
}
