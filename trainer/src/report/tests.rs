//! Both pages from data that is hostile, empty or odd.

use std::collections::BTreeMap;

use super::*;

const HOSTILE: &str = "<script>alert(1)</script>\"'&<svg onload=alert(2)></style></textarea>";

fn metrics(value: f64) -> BTreeMap<String, f64> {
    ["recall_at_20", "recall_at_100", "ndcg_at_20"].map(|name| (name.to_owned(), value)).into()
}

fn ranker(name: &str, value: f64) -> RankerMetrics {
    RankerMetrics { ranker: name.into(), metrics: metrics(value) }
}

fn source(name: &str) -> SourceRow {
    SourceRow {
        source: name.into(),
        target_share: 0.5,
        realised_share: 0.499,
        loss_share: 0.75,
        ..SourceRow::default()
    }
}

/// A report in which every text is the given one.
fn run_of(text: &str) -> RunReport {
    let rankers = vec![ranker(text, 0.25), ranker("popularity", 0.125)];
    RunReport {
        title: text.into(),
        model_version: text.into(),
        created: text.into(),
        seed: 42,
        config_toml: text.into(),
        slices: vec![SliceRow { group: text.into(), name: text.into(), queries: 1234, rankers: rankers.clone() }],
        rankers,
        queries: 5678,
        curves: vec![Curve { name: text.into(), points: vec![(0.0, 6.5), (100.0, 4.25)] }],
        negatives: vec![source(text)],
        calibration: vec![CalibrationPoint { expected_frequency: 1e-3, observed_frequency: 1.1e-3 }],
        users: vec![UserExample {
            user: text.into(),
            history: vec![text.into()],
            relevant: vec![text.into()],
            relevant_count: 9,
            recalled: vec![RecalledItem { title: text.into(), score: 0.5, hit: true }],
        }],
        stages: vec![(text.into(), 12.0)],
        warnings: vec![text.into()],
    }
}

fn comparison_of(text: &str) -> ComparisonReport {
    let figures = |values: [f64; 3]| {
        BTreeMap::from([("recall_at_20".into(), values.to_vec()), ("recall_at_50".into(), values.to_vec())])
    };
    let recipe = |name: &str, values| Recipe {
        name: name.into(),
        description: text.into(),
        figures: figures(values),
        negatives: vec![source(text)],
        seconds: vec![10.0, 12.0],
        failures: vec![text.into()],
        ..Recipe::default()
    };
    ComparisonReport {
        title: text.into(),
        created: text.into(),
        seeds: vec![1, 2, 3],
        metrics: vec!["recall_at_20".into(), text.into()],
        recipes: vec![recipe(text, [0.25, 0.375, 0.5]), recipe("other", [0.125; 3])],
        popularity: metrics(0.0625),
        config_toml: text.into(),
        warnings: vec![text.into()],
    }
}

fn html(write: impl Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// How often each tag is opened.
fn tags(html: &str) -> BTreeMap<&str, usize> {
    let mut tags = BTreeMap::new();
    for part in html.split('<').skip(1) {
        let name = part.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        *tags.entry(name).or_default() += 1;
    }
    tags
}

#[test]
fn no_text_becomes_markup() {
    let pages =
        |text: &str| [html(|out| run_of(text).write_html(out)), html(|out| comparison_of(text).write_html(out))];
    for (hostile, plain) in pages(HOSTILE).iter().zip(&pages("plain")) {
        assert_eq!(tags(hostile), tags(plain));
        assert!(!hostile.contains("<script") && hostile.contains("&lt;script&gt;"));
        assert!(!hostile.contains("\"'&<svg"));
    }
}

#[test]
fn a_page_fetches_nothing_and_describes_its_charts() {
    for page in [html(|out| run_of("run").write_html(out)), html(|out| comparison_of("runs").write_html(out))] {
        assert!(
            !page.contains("http://")
                && !page.contains("https://")
                && !page.contains("url(")
                && !page.contains("@import")
        );
        assert!(page.contains("default-src 'none'"));
        let images = page.matches("role=\"img\"").count();
        assert!(images > 1);
        assert_eq!(page.matches("<desc>").count(), images);
        assert_eq!(page.matches("<figcaption>").count(), images);
    }
}

#[test]
fn the_figures_are_on_the_page() {
    let page = html(|out| run_of("run").write_html(out));
    for shown in ["0.2500", "+100.0 %", "1,234", "5,678", "49.9 %", "75.0 %", "12 s", "1 of 9 relevant"] {
        assert!(page.contains(shown), "{shown}");
    }
    let page = html(|out| comparison_of("runs").write_html(out));
    for shown in ["0.3750", "0.2500 to 0.5000", "sd 0.1250", "0.3750 ± 0.1250", "11 s", "0.0625"] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn empty_and_odd_reports_are_pages_without_odd_numbers() {
    let mut odd = run_of("odd");
    odd.rankers[0].metrics.insert("recall_at_20".into(), f64::NAN);
    odd.curves[0].points.push((f64::NAN, f64::INFINITY));
    odd.calibration.push(CalibrationPoint { expected_frequency: 0.0, observed_frequency: f64::NAN });
    odd.stages[0].1 = 0.0;
    odd.slices[0].rankers[0].metrics.insert("recall_at_20".into(), f64::NAN);
    let mut failed = comparison_of("failed");
    failed.recipes[0].figures.insert("recall_at_20".into(), vec![f64::NAN]);
    let pages = [
        html(|out| odd.write_html(out)),
        html(|out| failed.write_html(out)),
        html(|out| RunReport::default().write_html(out)),
        html(|out| ComparisonReport::default().write_html(out)),
    ];
    for page in pages {
        assert!(page.ends_with("</html>"));
        assert!(!page.contains("NaN") && !page.contains("inf\"") && !page.contains("inf "), "{page}");
    }
}

#[test]
fn a_report_is_its_json() {
    let report = run_of("run");
    assert_eq!(serde_json::from_str::<RunReport>(&serde_json::to_string(&report).unwrap()).unwrap(), report);
    let report = comparison_of("runs");
    assert_eq!(serde_json::from_str::<ComparisonReport>(&serde_json::to_string(&report).unwrap()).unwrap(), report);
}

#[test]
fn a_run_without_a_result_is_null_and_counts_for_nothing() {
    let mut report = comparison_of("runs");
    report.recipes[0].figures.insert("recall_at_20".into(), vec![0.25, f64::NAN, 0.75]);
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains("[0.25,null,0.75]"), "{json}");
    let read: ComparisonReport = serde_json::from_str(&json).unwrap();
    assert!(read.recipes[0].figures["recall_at_20"][1].is_nan());
    let spread = read.recipes[0].spread("recall_at_20").unwrap();
    assert_eq!((spread.mean, spread.min, spread.max), (0.5, 0.25, 0.75));
    assert!(html(|out| read.write_html(out)).contains("seed 3"));
}

#[test]
fn the_best_recipe_has_the_highest_mean() {
    assert_eq!(comparison_of("runs").best("recall_at_20"), Some(0));
    assert_eq!(comparison_of("runs").best("unknown"), None);
}
