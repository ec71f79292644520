//! The page of a comparison.

use maud::{Markup, html};

use super::{
    chart::{Dot, DotRow, Labels, Series, charts, dots, recall_charts},
    comparison::{ComparisonReport, Recipe, Spread},
    format::{NONE, metric, metric_order, recall_k, seconds},
    page::{configuration, document, heading, section, table, text, warnings},
    sections::negatives,
};

/// The whole page.
pub(super) fn page(report: &ComparisonReport) -> Markup {
    let seeds: Vec<String> = report.seeds.iter().map(u64::to_string).collect();
    let facts = [
        ("Created", report.created.clone()),
        ("Recipes", report.recipes.len().to_string()),
        ("Seeds", seeds.join(", ")),
    ];
    let parts = [
        warnings(&report.warnings),
        section("Recipes", "", recipes(&report.recipes)),
        section(
            "Result",
            "Mean over the seeds; below it the least and the greatest, and the sample's standard deviation. The best mean of each column is bold.",
            result(report),
        ),
        section(
            "Spread",
            "A grey dot is one seed, the mark their mean, the line reaches from the least to the greatest.",
            spread(report),
        ),
        section("recall_at_k over k", "Means over the seeds.", recall(report)),
        section("Negatives", "Of each recipe's first seed.", sources(&report.recipes)),
        section("Configuration", "What the recipes share.", configuration(&report.config_toml)),
    ];
    document(&report.title, &heading("Comparison", &report.title, &facts), &parts)
}

fn recipes(recipes: &[Recipe]) -> Option<Markup> {
    (!recipes.is_empty()).then(|| {
        html! { dl.recipes { @for recipe in recipes { div {
            dt { (text(&recipe.name)) }
            dd {
                (text(&recipe.description))
                @for failure in &recipe.failures { span.small { "No result of " (text(failure)) } }
                @if let Some(config) = configuration(&recipe.config_toml) { (config) }
            }
        } } } }
    })
}

fn result(report: &ComparisonReport) -> Option<Markup> {
    let head = html! {
        tr {
            th scope="col" { "Recipe" }
            @for name in &report.metrics { th.number scope="col" { (name) } }
            th.number scope="col" { "Time a seed" }
        }
    };
    let body = html! {
        @for (at, recipe) in report.recipes.iter().enumerate() {
            tr {
                th scope="row" { (text(&recipe.name)) }
                @for name in &report.metrics {
                    td.number.best[report.best(name) == Some(at)] { (cell(recipe.spread(name))) }
                }
                td.number { (Spread::of(&recipe.seconds).map_or(NONE.into(), |spread| seconds(spread.mean))) }
            }
        }
        @if !report.popularity.is_empty() {
            tr {
                th scope="row" { "popularity" span.small { "for scale" } }
                @for name in &report.metrics {
                    td.number { (report.popularity.get(name).map_or(NONE.into(), |&value| metric(value))) }
                }
                td.number { (NONE) }
            }
        }
    };
    (!report.recipes.is_empty()).then(|| table(&head, &body))
}

fn cell(spread: Option<Spread>) -> Markup {
    html! {
        @if let Some(spread) = spread {
            (metric(spread.mean))
            span.small { (metric(spread.min)) " to " (metric(spread.max)) }
            span.small { "sd " (spread.standard_deviation.map_or(NONE.into(), metric)) }
        } @else { (NONE) }
    }
}

fn spread(report: &ComparisonReport) -> Option<Markup> {
    let shown =
        || report.metrics.iter().filter(|name| report.recipes.iter().any(|recipe| recipe.spread(name).is_some()));
    shown().next()?;
    Some(charts(&shown().map(|name| chart(report, name)).collect::<Vec<_>>()))
}

fn chart(report: &ComparisonReport, name: &str) -> Markup {
    let best = report.best(name);
    let rows = report.recipes.iter().enumerate().map(|(at, recipe)| row(recipe, &report.seeds, name, best == Some(at)));
    dots(name, &rows.collect::<Vec<_>>(), Labels::Above)
}

fn row(recipe: &Recipe, seeds: &[u64], name: &str, strong: bool) -> DotRow {
    let figures = recipe.figures.get(name).map_or(&[][..], Vec::as_slice);
    let single = |(&value, seed): (&f64, &u64)| Dot { series: None, value, tip: format!("seed {seed}") };
    let mut dots: Vec<Dot> = figures.iter().zip(seeds).map(single).collect();
    let spread = recipe.spread(name);
    dots.extend(spread.map(|spread| Dot { series: Some(0), value: spread.mean, tip: "mean".into() }));
    let note = match spread {
        None => NONE.to_owned(),
        Some(Spread { mean, standard_deviation: None, .. }) => metric(mean),
        Some(Spread { mean, standard_deviation: Some(deviation), .. }) => {
            format!("{} ± {}", metric(mean), metric(deviation))
        }
    };
    let whisker = spread.map(|spread| (spread.min, spread.max));
    DotRow { label: recipe.name.clone(), note, dots, whisker, strong }
}

fn recall(report: &ComparisonReport) -> Option<Markup> {
    let mut names: Vec<&str> =
        report.recipes.iter().flat_map(|recipe| recipe.figures.keys().map(String::as_str)).collect();
    names.sort_by_key(|name| metric_order(name));
    names.dedup();
    let ticks: Vec<f64> = names.iter().filter_map(|name| recall_k(name)).collect();
    let series: Vec<Series<'_>> = report.recipes.iter().map(|recipe| recall_curve(recipe, &names)).collect();
    (ticks.len() > 1).then(|| recall_charts(&series, 0, &ticks))
}

fn recall_curve<'a>(recipe: &'a Recipe, names: &[&str]) -> Series<'a> {
    let points = names.iter().filter_map(|name| Some((recall_k(name)?, recipe.spread(name)?.mean))).collect();
    Series { name: &recipe.name, points }
}

fn sources(recipes: &[Recipe]) -> Option<Markup> {
    recipes.iter().any(|recipe| !recipe.negatives.is_empty()).then(|| {
        html! {
            @for recipe in recipes {
                @if let Some(table) = negatives(&recipe.negatives) { h3 { (text(&recipe.name)) } (table) }
            }
        }
    })
}
