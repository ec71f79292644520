//! The page of one run.

use maud::{Markup, html};

use super::{
    chart::{Dot, DotRow, Labels, LineChart, Series, charts, dots, legend, lines, recall_charts, scatter},
    format::{NONE, count, gain, metric, percent, recall_k, seconds},
    page::{bar, configuration, document, heading, section, table, text, warnings},
    run::{Curve, RankerMetrics, RunReport, SliceRow, UserExample},
    sections::{metric_names, negatives},
};

/// The whole page.
pub(super) fn page(report: &RunReport) -> Markup {
    let facts = [
        ("Model version", report.model_version.clone()),
        ("Created", report.created.clone()),
        ("Seed", report.seed.to_string()),
        ("Queries", count(report.queries)),
        ("Time", seconds(report.seconds())),
    ];
    let parts = [
        warnings(&report.warnings),
        section(
            "Result",
            "Over the full catalog, items already seen removed. The best of each column is bold.",
            result(report),
        ),
        section("Training", "", curves(&report.curves)),
        section(
            "Slices",
            "The same metric over parts of the queries; beside each, how many queries it has.",
            slices(report),
        ),
        section(
            "Negatives",
            "What the loss met, source by source. False negatives are estimated from positives that come later in the training log, where they are known and masked.",
            negatives(&report.negatives),
        ),
        section(
            "Calibration of the sampler",
            "How often items were drawn as negatives, against the configured mixture. Points off the diagonal make the log_q correction wrong.",
            calibration(report),
        ),
        section("Users", "Test users drawn by the seed, and what the model recalls for them.", users(&report.users)),
        section("Time", "", stages(report)),
        section("Configuration", "", configuration(&report.config_toml)),
    ];
    document(&report.title, &heading("Training run", &report.title, &facts), &parts)
}

fn result(report: &RunReport) -> Option<Markup> {
    let names = metric_names(&report.rankers);
    let curves: Vec<Series<'_>> = report.rankers.iter().map(recall_curve).collect();
    let mut ticks: Vec<f64> = names.iter().filter_map(|name| recall_k(name)).collect();
    ticks.dedup();
    (!names.is_empty()).then(|| {
        html! {
            (tiles(&report.rankers, &names))
            (metrics_table(&report.rankers, &names))
            @if ticks.len() > 1 {
                (recall_charts(&curves, 1, &ticks))
            }
        }
    })
}

/// Ranks by k.
fn recall_curve(ranker: &RankerMetrics) -> Series<'_> {
    let mut points: Vec<(f64, f64)> =
        ranker.metrics.iter().filter_map(|(name, &value)| Some((recall_k(name)?, value))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Series { name: &ranker.ranker, points }
}

/// The model's first metrics, large, each beside the best baseline.
fn tiles(rankers: &[RankerMetrics], names: &[&str]) -> Markup {
    let Some((model, baselines)) = rankers.split_first() else { return html! {} };
    let shown = names.iter().filter(|name| !name.starts_with("coverage")).take(4);
    html! {
        div.tiles {
            @for name in shown {
                @if let Some(&value) = model.metrics.get(*name) {
                    div.tile { span.name { (name) } strong { (metric(value)) } (against(value, name, baselines)) }
                }
            }
        }
    }
}

fn against(value: f64, name: &str, baselines: &[RankerMetrics]) -> Markup {
    let known = baselines.iter().filter_map(|ranker| Some((ranker.ranker.as_str(), *ranker.metrics.get(name)?)));
    let best = known.max_by(|a, b| a.1.total_cmp(&b.1));
    html! {
        @if let Some((ranker, other)) = best {
            span.against {
                @if let Some(gain) = gain(value, other) {
                    span class=(if value >= other { "up" } else { "down" }) { (gain) } " on " (ranker) " "
                } @else { (ranker) " " }
                (metric(other))
            }
        }
    }
}

fn metrics_table(rankers: &[RankerMetrics], names: &[&str]) -> Markup {
    let value = |ranker: &RankerMetrics, name: &str| ranker.metrics.get(name).copied();
    let best = |name: &str| rankers.iter().filter_map(|r| value(r, name)).max_by(f64::total_cmp);
    let head = html! { tr { th scope="col" { "Ranker" } @for name in names { th.number scope="col" { (name) } } } };
    let body = html! {
        @for ranker in rankers {
            tr {
                th scope="row" { (text(&ranker.ranker)) }
                @for name in names {
                    @let found = value(ranker, name);
                    td.number.best[found.is_some() && found == best(name)] { (found.map_or(NONE.into(), metric)) }
                }
            }
        }
    };
    table(&head, &body)
}

fn curves(curves: &[Curve]) -> Option<Markup> {
    let drawn = curves.iter().filter(|curve| !curve.points.is_empty()).map(|curve| {
        let series = [Series { name: &curve.name, points: curve.points.clone() }];
        lines(&LineChart { title: &curve.name, x_label: "step", series: &series, x_ticks: None })
    });
    let drawn: Vec<Markup> = drawn.collect();
    (!drawn.is_empty()).then(|| charts(&drawn))
}

fn slices(report: &RunReport) -> Option<Markup> {
    let names = metric_names(&report.rankers);
    let shown = names.iter().find(|name| recall_k(name).is_some()).or(names.first())?;
    let rankers: Vec<&str> = report.rankers.iter().map(|ranker| ranker.ranker.as_str()).collect();
    let groups = report.groups();
    let chart = |(group, rows): &(&str, Vec<&SliceRow>)| {
        let rows: Vec<DotRow> = rows.iter().map(|row| slice_row(row, shown, &rankers)).collect();
        dots(&format!("{shown} by {group}"), &rows, Labels::Beside)
    };
    (!groups.is_empty()).then(|| {
        html! {
            (legend(&rankers))
            (charts(&groups.iter().map(chart).collect::<Vec<_>>()))
            details { summary { "All metrics of all slices" } (slices_table(report, &names)) }
        }
    })
}

/// A ranker keeps its look, whichever rankers a slice has.
fn slice_row(row: &SliceRow, name: &str, rankers: &[&str]) -> DotRow {
    let dot = |ranker: &RankerMetrics| {
        let series = rankers.iter().position(|known| *known == ranker.ranker);
        let value = *ranker.metrics.get(name)?;
        Some(Dot { series, value, tip: format!("{} {}", ranker.ranker, metric(value)) })
    };
    // The model is drawn last, over the others.
    let dots: Vec<Dot> = row.rankers.iter().rev().filter_map(dot).collect();
    let values = || dots.iter().map(|dot| dot.value).filter(|value| value.is_finite());
    let whisker = values().next().map(|first| (values().fold(first, f64::min), values().fold(first, f64::max)));
    DotRow { label: row.name.clone(), note: count(row.queries), dots, whisker, strong: false }
}

fn slices_table(report: &RunReport, names: &[&str]) -> Markup {
    let head = html! {
        tr {
            th scope="col" { "Slice" }
            th.number scope="col" { "Queries" }
            th scope="col" { "Ranker" }
            @for name in names { th.number scope="col" { (name) } }
        }
    };
    let body = html! {
        @for row in &report.slices {
            @for ranker in &row.rankers {
                tr {
                    th scope="row" { (text(&row.group)) ": " (text(&row.name)) }
                    td.number { (count(row.queries)) }
                    td { (text(&ranker.ranker)) }
                    @for name in names { td.number { (ranker.metrics.get(*name).map_or(NONE.into(), |&value| metric(value))) } }
                }
            }
        }
    };
    table(&head, &body)
}

fn calibration(report: &RunReport) -> Option<Markup> {
    let points: Vec<(f64, f64)> =
        report.calibration.iter().map(|p| (p.expected_frequency, p.observed_frequency)).collect();
    let chart = || scatter("Frequency per draw", "expected", "observed", &points);
    (!points.is_empty()).then(|| charts(&[chart()]))
}

fn users(users: &[UserExample]) -> Option<Markup> {
    (!users.is_empty()).then(|| html! { div.users { @for example in users { (user(example)) } } })
}

fn user(example: &UserExample) -> Markup {
    let hits = example.recalled.iter().filter(|item| item.hit).count();
    html! {
        article {
            h3 { "User " (text(&example.user)) }
            p.about { (hits) " of " (example.relevant_count) " relevant items among the first " (example.recalled.len()) }
            h4 { "History, newest first" }
            (titles(&example.history))
            h4 { "Relevant" }
            (titles(&example.relevant))
            h4 { "Recalled" }
            ol {
                @for item in &example.recalled {
                    li.hit[item.hit] {
                        span.title { (text(&item.title)) @if item.hit { span.badge { "hit" } } }
                        span.score { (format!("{:.3}", item.score)) }
                    }
                }
            }
        }
    }
}

fn titles(titles: &[String]) -> Markup {
    html! {
        @if titles.is_empty() { p.about { "None" } }
        @else { ul.titles { @for title in titles { li { (text(title)) } } } }
    }
}

fn stages(report: &RunReport) -> Option<Markup> {
    let all = report.seconds();
    let head =
        html! { tr { th scope="col" { "Stage" } th.number scope="col" { "Time" } th.number scope="col" { "Share" } } };
    let body = html! {
        @for (stage, spent) in &report.stages {
            tr { th scope="row" { (text(stage)) } td.number { (seconds(*spent)) } td { (bar(spent / all, &percent(spent / all))) } }
        }
    };
    (!report.stages.is_empty()).then(|| table(&head, &body))
}
