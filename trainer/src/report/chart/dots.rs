//! Dots in rows, with whiskers: which of several is better, and by how much more than chance.

use maud::{Markup, html};

use super::{super::format::metric, WIDTH, axis::Axis, figure, grid_x, marker, px};

/// Characters of a label that fit beside a row.
const BESIDE_MAX: usize = 14;
/// Characters of a label that fit above one.
const ABOVE_MAX: usize = 34;

/// One row.
pub(in super::super) struct DotRow {
    pub(in super::super) label: String,
    /// To the right of the label, faint.
    pub(in super::super) note: String,
    pub(in super::super) dots: Vec<Dot>,
    /// A line from the least to the greatest.
    pub(in super::super) whisker: Option<(f64, f64)>,
    /// Whether the label stands out.
    pub(in super::super) strong: bool,
}

/// One dot.
pub(in super::super) struct Dot {
    /// Which series, and so which look; none: a small grey one.
    pub(in super::super) series: Option<usize>,
    pub(in super::super) value: f64,
    pub(in super::super) tip: String,
}

/// Where labels are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Labels {
    /// For short ones.
    Beside,
    /// For long ones.
    Above,
}

/// Draws rows over one linear axis.
pub(in super::super) fn dots(title: &str, rows: &[DotRow], labels: Labels) -> Markup {
    let (left, row_height) = if labels == Labels::Beside { (126.0, 24.0) } else { (12.0, 40.0) };
    let bottom = 6.0 + row_height * rows.len() as f64;
    let values = rows.iter().flat_map(|row| row.dots.iter().map(|dot| dot.value));
    let whiskers = rows.iter().filter_map(|row| row.whisker).flat_map(|(low, high)| [low, high]);
    let x = Axis::linear(values.chain(whiskers), (left + 8.0, WIDTH - 18.0));
    figure(
        title,
        &description(rows),
        bottom + 24.0,
        &html! {
            (grid_x(&x, 4.0, bottom))
            @for (at, row) in rows.iter().enumerate() {
                @let top = 6.0 + at as f64 * row_height;
                @let y = top + if labels == Labels::Beside { row_height / 2.0 } else { row_height - 11.0 };
                (label(row, labels, top, y, left))
                @if let Some((low, high)) = row.whisker {
                    line.whisker x1=(px(x.at(low))) x2=(px(x.at(high))) y1=(px(y)) y2=(px(y)) {}
                }
                @for dot in row.dots.iter().filter(|dot| dot.value.is_finite()) { (mark(dot, x.at(dot.value), y)) }
            }
        },
    )
}

fn label(row: &DotRow, labels: Labels, top: f64, y: f64, left: f64) -> Markup {
    let class = if row.strong { "row strong" } else { "row" };
    match labels {
        Labels::Beside => html! {
            text class=(class) x="0" y=(px(y + 4.0)) { (shortened(&row.label, BESIDE_MAX)) }
            text.note x=(px(left - 6.0)) y=(px(y + 4.0)) text-anchor="end" { (row.note) }
        },
        Labels::Above => html! {
            text class=(class) x="0" y=(px(top + 14.0)) { (shortened(&row.label, ABOVE_MAX)) }
            text.note x=(px(WIDTH)) y=(px(top + 14.0)) text-anchor="end" { (row.note) }
        },
    }
}

fn mark(dot: &Dot, x: f64, y: f64) -> Markup {
    match dot.series {
        Some(series) => marker(series, x, y, Some(&dot.tip)),
        None => html! { circle.single cx=(px(x)) cy=(px(y)) r="3" { title { (dot.tip) } } },
    }
}

fn shortened(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    text.chars().take(characters_max - 1).chain(['…']).collect()
}

fn description(rows: &[DotRow]) -> String {
    let row = |row: &DotRow| {
        let dots: Vec<String> = row.dots.iter().map(|dot| format!("{} {}", dot.tip, metric(dot.value))).collect();
        format!("{}: {}.", row.label, dots.join(", "))
    };
    rows.iter().map(row).collect::<Vec<_>>().join(" ")
}
