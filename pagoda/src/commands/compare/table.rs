//! The table of a comparison, for 80 columns.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use pagoda_trainer::report::{ComparisonReport, Recipe, Spread};

const WIDTH: u16 = 80;
/// Stands for what there is no number of.
const NONE: &str = "-";

/// Of each metric the mean, below it the least and the greatest; the best mean of a column has a star.
pub(super) fn table(report: &ComparisonReport) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    let metrics = report.metrics.iter().map(|name| name.replace("_at_", "\n_at_"));
    table.set_header(["recipe".to_owned()].into_iter().chain(metrics).chain(["hard\nshare".into(), "s".into()]));
    for (at, recipe) in report.recipes.iter().enumerate() {
        let metrics = report.metrics.iter().map(|name| cell(recipe.spread(name), report.best(name) == Some(at)));
        let aside = [hard_share(recipe), seconds(recipe)];
        table.add_row([name(recipe)].into_iter().chain(metrics).chain(aside));
    }
    if !report.popularity.is_empty() {
        let metrics =
            report.metrics.iter().map(|name| report.popularity.get(name).map_or(NONE.into(), |v| format!("{v:.4} ")));
        table.add_row(["(popularity)".to_owned()].into_iter().chain(metrics).chain([NONE, NONE].map(str::to_owned)));
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((u16::from(at > 0), 0));
        if at > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What the table has no place for: why runs failed.
pub(super) fn failures(report: &ComparisonReport) -> Vec<String> {
    let of = |recipe: &Recipe| {
        recipe.failures.iter().map(|failure| format!("no result of {}, {failure}", recipe.name)).collect::<Vec<_>>()
    };
    report.recipes.iter().flat_map(of).collect()
}

fn name(recipe: &Recipe) -> String {
    match (recipe.failures.len(), recipe.seconds.len()) {
        (0, _) => recipe.name.clone(),
        (failed, all) if failed == all => format!("{}\nfailed", recipe.name),
        (failed, all) => format!("{}\n{failed} of {all} failed", recipe.name),
    }
}

fn cell(spread: Option<Spread>, best: bool) -> String {
    let Some(Spread { mean, min, max, .. }) = spread else { return NONE.into() };
    let short = |figure: f64| format!("{figure:.4}").trim_start_matches('0').to_owned();
    format!("{mean:.4}{}\n{}-{}", if best { "*" } else { " " }, short(min), short(max))
}

/// Of the first seed, as it came out.
fn hard_share(recipe: &Recipe) -> String {
    let hard = recipe.negatives.iter().find(|row| row.source == "hard");
    hard.map_or(NONE.into(), |row| match 100.0 * row.realised_share {
        percent if percent < 9.995 => format!("{percent:.2}%"),
        percent => format!("{percent:.1}%"),
    })
}

/// The mean over the seeds.
fn seconds(recipe: &Recipe) -> String {
    Spread::of(&recipe.seconds).map_or(NONE.into(), |spread| match spread.mean {
        mean if mean < 9.95 => format!("{mean:.1}"),
        mean => format!("{mean:.0}"),
    })
}

#[cfg(test)]
mod tests {
    use pagoda_trainer::report::SourceRow;

    use super::*;

    fn recipe(name: &str, recall: f64, failures: usize) -> Recipe {
        let values = vec![recall - 0.0125, recall, recall + 0.0125];
        let metrics = ["recall_at_20", "recall_at_100", "recall_at_500", "ndcg_at_100"];
        let hard = SourceRow { source: "hard".into(), realised_share: 0.1234, ..SourceRow::default() };
        Recipe {
            name: name.into(),
            figures: metrics.map(|metric| (metric.to_owned(), values.clone())).into(),
            negatives: vec![hard],
            seconds: vec![1234.0; 3],
            failures: vec!["seed 1: training diverged".into(); failures],
            ..Recipe::default()
        }
    }

    fn report() -> ComparisonReport {
        let failed = Recipe { figures: Default::default(), negatives: Vec::new(), ..recipe("log-q-corrected", 0.0, 3) };
        ComparisonReport {
            metrics: ["recall_at_20", "recall_at_100", "recall_at_500", "ndcg_at_100"].map(str::to_owned).to_vec(),
            recipes: vec![
                recipe("ranks-500-1000", 0.25, 0),
                recipe("a name of more than fifteen characters", 0.5, 1),
                failed,
            ],
            popularity: [("recall_at_20".to_owned(), 0.75)].into(),
            ..ComparisonReport::default()
        }
    }

    #[test]
    fn the_table_fits_80_columns_and_marks_the_best() {
        let table = table(&report()).to_string();
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 80, "{widest}\n{table}");
        let lines: Vec<&str> = table.lines().collect();
        let line =
            |what: &str| *lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}\n{table}"));
        assert!(line("ranks-500-1000").contains("0.2500 ") && !line("ranks-500-1000").contains('*'), "{table}");
        assert_eq!((table.matches("0.5000*").count(), table.matches(".4875-.5125").count()), (4, 4), "{table}");
        assert_eq!((table.matches('*').count(), table.matches("12.3%").count()), (4, 2), "{table}");
        assert!(table.contains("1 of 3 failed") && line("log-q-corrected").contains("1234"), "{table}");
        assert!(line("(popularity)").contains("0.7500 ") && !line("(popularity)").contains('*'), "{table}");
        assert_eq!(lines.iter().filter(|line| line.trim_start().starts_with("failed")).count(), 1, "{table}");
    }

    #[test]
    fn a_figure_is_short_and_whole() {
        let spread = |values: &[f64]| Spread::of(values);
        assert_eq!(cell(spread(&[1.0, 0.0]), true), "0.5000*\n.0000-1.0000");
        assert_eq!(cell(None, false), "-");
        assert_eq!(failures(&report()).len(), 4);
        assert_eq!(failures(&report())[3], "no result of log-q-corrected, seed 1: training diverged");
    }
}
