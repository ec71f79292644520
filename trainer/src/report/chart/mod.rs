//! Charts as inline SVG whose colours come from the page's style sheet, so that they follow light, dark and print.
//!
//! Drawn about as wide as a phone, and laid side by side on wider screens: text keeps its size. A library that draws SVG (plotters) bakes
//! colours and fonts into every element and names nothing for screen readers.

mod axis;
mod dots;
mod lines;
mod scatter;

use maud::{Markup, html};

pub(super) use dots::{Dot, DotRow, Labels, dots};
pub(super) use lines::{LineChart, lines};
pub(super) use scatter::scatter;

/// The width of every chart, in units that are pixels on a phone.
const WIDTH: f64 = 360.0;
/// How many looks of a series there are before dashes set them apart.
const LOOKS: usize = 6;

/// A line or a set of dots with a name.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// The chart under its title, with a description for those who do not see it.
fn figure(title: &str, description: &str, height: f64, body: &Markup) -> Markup {
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" {
                title { (title) }
                desc { (description) }
                (body)
            }
        }
    }
}

/// The names of several series and how they look.
pub(super) fn legend(names: &[&str]) -> Markup {
    html! {
        ul.legend {
            @for (at, name) in names.iter().enumerate() {
                li { svg viewBox="0 0 22 14" aria-hidden="true" {
                    line class=(look(at)) x1="1" x2="21" y1="7" y2="7" {}
                    (marker(at, 11.0, 7.0, None))
                } (name) }
            }
        }
    }
}

/// Charts side by side: two and two where three and three would leave one alone.
pub(super) fn charts(charts: &[Markup]) -> Markup {
    let pairs = charts.len() % 3 == 1 || charts.len() == 2;
    html! { div class=(if pairs { "charts pairs" } else { "charts" }) { @for chart in charts { (chart) } } }
}

/// `recall_at_k` over k, as it is and as a multiple of one of the series.
pub(super) fn recall_charts(series: &[Series<'_>], base: usize, ticks: &[f64]) -> Markup {
    let chart =
        |title: &str, series: &[Series<'_>]| lines(&LineChart { title, x_label: "k", series, x_ticks: Some(ticks) });
    let mut drawn = vec![chart("recall_at_k", series)];
    if let Some(of) = series.get(base).filter(|_| series.len() > 1) {
        drawn.push(chart(&format!("recall_at_k, as a multiple of {}", of.name), &multiples(series, &of.points)));
    }
    let names: Vec<&str> = series.iter().map(|series| series.name).collect();
    html! { (legend(&names)) (charts(&drawn)) }
}

/// Values divided by the base's at the same x, where that is above 0.
fn multiples<'a>(series: &[Series<'a>], base: &[(f64, f64)]) -> Vec<Series<'a>> {
    let at = |x: f64| base.iter().find(|p| p.0 == x && p.1 > 0.0).map(|p| p.1);
    let points = |points: &[(f64, f64)]| points.iter().filter_map(|&(x, y)| Some((x, y / at(x)?))).collect();
    series.iter().map(|series| Series { name: series.name, points: points(&series.points) }).collect()
}

/// The classes of a series.
fn look(at: usize) -> String {
    format!("s{}{}", at % LOOKS, if at < LOOKS { "" } else { " dashed" })
}

/// A mark whose shape tells series apart without colours.
fn marker(at: usize, x: f64, y: f64, tip: Option<&str>) -> Markup {
    let path = match at % LOOKS {
        0 => "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
        1 => "M-3.5,-3.5h7v7h-7z",
        2 => "M0,-4.6L4.4,3.4H-4.4z",
        3 => "M0,-5L5,0L0,5L-5,0z",
        4 => "M0,4.6L4.4,-3.4H-4.4z",
        _ => "M-1.6,-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
    };
    html! {
        path class=(format!("mark {}", look(at))) d=(path) transform=(format!("translate({x:.1} {y:.1})")) {
            @if let Some(tip) = tip { title { (tip) } }
        }
    }
}

/// Faint lines and numbers under a plot, at the ticks of its horizontal axis.
fn grid_x(axis: &axis::Axis, top: f64, bottom: f64) -> Markup {
    html! {
        @for (at, text) in axis.ticks() {
            line.grid x1=(px(at)) x2=(px(at)) y1=(px(top)) y2=(px(bottom)) {}
            text.tick x=(px(at)) y=(px(bottom + 15.0)) text-anchor="middle" { (text) }
        }
    }
}

/// The same to the left of a plot.
fn grid_y(axis: &axis::Axis, left: f64, right: f64) -> Markup {
    html! {
        @for (at, text) in axis.ticks() {
            line.grid x1=(px(left)) x2=(px(right)) y1=(px(at)) y2=(px(at)) {}
            text.tick x=(px(left - 7.0)) y=(px(at + 4.0)) text-anchor="end" { (text) }
        }
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}
