//! Expected against observed, on logarithmic axes, with the diagonal on which they agree.

use maud::{Markup, html};

use super::{WIDTH, axis::Axis, figure, grid_x, grid_y, px};

const HEIGHT: f64 = 330.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = HEIGHT - 40.0;

/// Draws pairs of (expected, observed); pairs without two positive numbers cannot be placed.
pub(in super::super) fn scatter(title: &str, x_label: &str, y_label: &str, points: &[(f64, f64)]) -> Markup {
    let placed = |p: &&(f64, f64)| [p.0, p.1].iter().all(|value| value.is_finite() && *value > 0.0);
    let drawn: Vec<&(f64, f64)> = points.iter().filter(placed).collect();
    let both = || drawn.iter().flat_map(|p| [p.0, p.1]);
    let x = Axis::logarithmic(both(), (LEFT, WIDTH - 16.0));
    let y = Axis::logarithmic(both(), (BOTTOM, 12.0));
    let (low, high) = x.bounds();
    let description =
        format!("{x_label} against {y_label}, points: {}; the diagonal is where they agree.", drawn.len());
    figure(
        title,
        &description,
        HEIGHT,
        &html! {
            (grid_x(&x, 12.0, BOTTOM))
            (grid_y(&y, LEFT, WIDTH - 16.0))
            line.diagonal x1=(px(x.at(low))) y1=(px(y.at(low))) x2=(px(x.at(high))) y2=(px(y.at(high))) {}
            @for p in &drawn { circle.point cx=(px(x.at(p.0))) cy=(px(y.at(p.1))) r="3" {} }
            text.label x=(px((LEFT + WIDTH) / 2.0)) y=(px(HEIGHT - 6.0)) text-anchor="middle" { (x_label) }
            text.label transform=(format!("translate(11 {:.1}) rotate(-90)", BOTTOM / 2.0)) text-anchor="middle" { (y_label) }
        },
    )
}
