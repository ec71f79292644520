//! What both pages share: the document, its head, and the parts around sections.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
/// Nothing is fetched and nothing runs, whatever a title holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
/// An empty icon, so that no browser asks for one.
const ICON: &str = "data:,";

/// The document.
pub(super) fn document(title: &str, header: &Markup, sections: &[Markup]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href=(ICON);
                title { (title) " · Pagoda" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { (header) }
                main { @for section in sections { (section) } }
            }
        }
    }
}

/// A section, unless it has nothing to show.
pub(super) fn section(title: &str, about: &str, body: Option<Markup>) -> Markup {
    html! {
        @if let Some(body) = body {
            section {
                h2 { (title) }
                @if !about.is_empty() { p.about { (about) } }
                (body)
            }
        }
    }
}

/// The head of a page: its title, and facts about it.
pub(super) fn heading(kind: &str, title: &str, facts: &[(&str, String)]) -> Markup {
    html! {
        p.kind { (kind) }
        h1 { (text(title)) }
        dl.facts {
            @for (name, value) in facts {
                @if !value.is_empty() { div { dt { (name) } dd { (text(value)) } } }
            }
        }
    }
}

/// What must be known before trusting the figures.
pub(super) fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            section.warnings role="note" {
                h2 { "Warnings" }
                ul { @for warning in warnings { li { (text(warning)) } } }
            }
        }
    }
}

/// Text from data: a direction of its own, so that it cannot turn what stands around it.
pub(super) fn text(text: &str) -> Markup {
    html! { bdi { (text) } }
}

/// A table that scrolls sideways where it does not fit.
pub(super) fn table(head: &Markup, body: &Markup) -> Markup {
    html! { div.scroll tabindex="0" { table { thead { (head) } tbody { (body) } } } }
}

/// A share of a cell's width, drawn behind its number.
pub(super) fn bar(share: f64, number: &str) -> Markup {
    let width = if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    html! { span.bar { span.number { (number) } span.track { span style=(format!("width:{width:.2}%")) {} } } }
}

/// The configuration, folded.
pub(super) fn configuration(toml: &str) -> Option<Markup> {
    (!toml.is_empty()).then(|| html! { details { summary { "Configuration (TOML)" } pre { code { (toml) } } } })
}
