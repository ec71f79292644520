//! Figures over steps, or over k.

use maud::{Markup, html};

use super::{super::format::power, Series, WIDTH, axis::Axis, figure, grid_x, grid_y, look, marker, px};

const HEIGHT: f64 = 216.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = HEIGHT - 36.0;
/// More points than that are averaged: a chart has no more pixels.
const POINTS_MAX: usize = 240;
/// Up to so many points are marked.
const MARKED_MAX: usize = 24;

/// What is drawn.
pub(in super::super) struct LineChart<'a> {
    pub(in super::super) title: &'a str,
    pub(in super::super) x_label: &'a str,
    pub(in super::super) series: &'a [Series<'a>],
    /// The values of x that are labelled, on a logarithmic axis; none: a linear one.
    pub(in super::super) x_ticks: Option<&'a [f64]>,
}

/// Draws it.
pub(in super::super) fn lines(chart: &LineChart<'_>) -> Markup {
    let series: Vec<Vec<(f64, f64)>> = chart.series.iter().map(|series| drawable(&series.points)).collect();
    let points = || series.iter().flatten();
    let pixels = (LEFT + 6.0, WIDTH - 14.0);
    let x = match chart.x_ticks {
        Some(ticks) => Axis::through(ticks, pixels),
        None => Axis::within(chart.series.iter().flat_map(|series| &series.points).map(|p| p.0), pixels),
    };
    let y = Axis::linear(points().map(|p| p.1), (BOTTOM, 10.0));
    figure(
        chart.title,
        &description(chart, &series),
        HEIGHT,
        &html! {
            (grid_y(&y, LEFT, WIDTH - 8.0))
            (grid_x(&x, BOTTOM, BOTTOM + 3.0))
            text.label x=(px((LEFT + WIDTH) / 2.0)) y=(px(HEIGHT - 4.0)) text-anchor="middle" { (chart.x_label) }
            @for (at, points) in series.iter().enumerate() {
                polyline class=(format!("line {}", look(at))) points=(path(points, &x, &y)) {}
                @if points.len() <= MARKED_MAX {
                    @for &(px, py) in points {
                        (marker(at, x.at(px), y.at(py), Some(&format!("{}: {}", chart.series[at].name, brief(py)))))
                    }
                }
            }
        },
    )
}

fn path(points: &[(f64, f64)], x: &Axis, y: &Axis) -> String {
    points.iter().map(|&(px, py)| format!("{:.1},{:.1} ", x.at(px), y.at(py))).collect()
}

/// The finite points, neighbours averaged where there are too many.
fn drawable(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    let mean = |chunk: &[(f64, f64)]| {
        let (x, y) = chunk.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (x / chunk.len() as f64, y / chunk.len() as f64)
    };
    finite.chunks(finite.len().div_ceil(POINTS_MAX).max(1)).map(mean).collect()
}

fn description(chart: &LineChart<'_>, drawn: &[Vec<(f64, f64)>]) -> String {
    let told = chart.series.iter().zip(drawn).filter_map(|(series, points)| {
        let (first, last) = (points.first()?, points.last()?);
        let (from, to) = (brief(first.1), brief(last.1));
        Some(format!(
            "{}: from {from} at {x} {:.0} to {to} at {x} {:.0}.",
            series.name,
            first.0,
            last.0,
            x = chart.x_label
        ))
    });
    told.collect::<Vec<_>>().join(" ")
}

fn brief(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { power(value) } else { format!("{value:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_are_averaged_and_odd_ones_left_out() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), if i == 7 { f64::NAN } else { 2.0 })).collect();
        let drawn = drawable(&points);
        assert!(drawn.len() <= POINTS_MAX && drawn.iter().all(|p| p.1 == 2.0));
        assert_eq!(drawable(&[(1.0, f64::INFINITY)]), []);
    }
}
