//! What the running services export, and the table of docs/metrics.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::UNIX_EPOCH,
};

use crate::harness::{DEADLINE, Place, Up, poll};

/// One metric, in the table or exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    meaning: String,
}

type Metrics = BTreeMap<String, Metric>;

#[test]
fn what_is_exported_is_what_the_table_says() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    place.ok(&["recall", "--user", "u1"]);
    let table = table();
    for (service, address) in &up.metrics {
        let expected: Metrics = table.iter().filter(|(name, _)| is_of(name, service)).map(owned).collect();
        // Calls are counted once they have been answered.
        let found = poll("the metrics", || Some(exported(*address)).filter(|found| found.len() >= expected.len()));
        assert_eq!(found, expected, "{service}");
    }
    up.stop();
}

#[test]
fn refreshes_are_counted_whichever_process_ran_them() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let few = ["--users", "400", "--items", "100", "--impressions", "5000", "--seed", "7"];
    place.ok(&[["generate", "--out", "few"].as_slice(), &few].concat());
    place.refused(&["refresh", "--full", "--data", "few"]);
    let peers = format!("peers.index=http://{}", up.index);
    let job = ["refresh", "--set", "store.url=store", "--set", &peers];
    assert!(!place.command("item-tower-svc").args(job).status().unwrap().success(), "its catalog was refused");
    let address = up.metrics.iter().find(|(service, _)| *service == "item_tower").unwrap().1;
    let ended = |mode, outcome| {
        let labels = [("mode", mode), ("outcome", outcome)];
        value(address, "item_refreshes_total", &labels).unwrap()
    };
    poll("the counts", || (ended("full", "refused") == 1.0).then_some(()));
    assert_eq!(
        (ended("full", "succeeded"), ended("full", "failed"), ended("incremental", "succeeded")),
        (1.0, 0.0, 0.0)
    );

    assert!(place.command("item-tower-svc").args(job).args(["--catalog", "1"]).status().unwrap().success());
    poll("the job's count", || (ended("incremental", "succeeded") == 1.0).then_some(()));
    for mode in ["full", "incremental"] {
        let last =
            |name: &str| value(address, &format!("item_refresh_last_success_{name}"), &[("mode", mode)]).unwrap();
        let age = UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - last("timestamp_seconds");
        assert!((0.0..DEADLINE.as_secs_f64()).contains(&age), "{mode}: {age}");
        assert!(last("items") == 500.0 && last("duration_seconds") < DEADLINE.as_secs_f64(), "{mode}");
    }
}

#[test]
fn alerts_are_on_metrics_that_there_are() {
    let table = table();
    let rules = document("operations.md");
    let rules = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = rules.flat_map(|rule| rule.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let named: BTreeSet<&str> = words.filter(|word| word.contains('_')).collect();
    assert!(named.len() >= 5, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !table.contains_key(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Whether a service exports a metric: its own, by their prefix, or one of all services.
fn is_of(name: &str, service: &str) -> bool {
    match name.split('_').next() {
        Some("index") => service == "index",
        Some("item") => service == "item_tower",
        _ => true,
    }
}

fn owned((name, metric): (&String, &Metric)) -> (String, Metric) {
    (name.clone(), metric.clone())
}

/// Rows of five columns whose first is a metric: name, type, labels, unit, meaning.
fn table() -> Metrics {
    let text = document("metrics.md");
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let metrics = rows.filter(|cells| cells.len() == 7 && cells[1].starts_with('`'));
    let read = |cells: Vec<&str>| {
        assert!(!cells[4].is_empty(), "a unit is missing: {cells:?}");
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), Metric { kind: cells[2].into(), labels, meaning: cells[5].into() })
    };
    metrics.map(read).collect()
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

fn exported(address: SocketAddr) -> Metrics {
    let mut metrics = Metrics::new();
    for line in scrape(address).lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, meaning] => metrics.entry((*name).into()).or_default().meaning = (*meaning).into(),
            ["#", "TYPE", name, kind] => metrics.entry((*name).into()).or_default().kind = (*kind).into(),
            _ => note_labels(line, &mut metrics),
        }
    }
    metrics
}

/// `name{label="value",...} number`; of a histogram the name has an ending, and its buckets a label of their own.
fn note_labels(line: &str, metrics: &mut Metrics) {
    let Some((series, _)) = line.rsplit_once(' ') else { return };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let endings = ["_bucket", "_sum", "_count"].iter().filter_map(|ending| name.strip_suffix(ending));
    let name = endings.into_iter().find(|stem| metrics.contains_key(*stem)).unwrap_or(name);
    let metric = metrics.get_mut(name).unwrap_or_else(|| panic!("no TYPE before {line}"));
    let names = labels.split(',').filter_map(|label| label.split_once('=').map(|(label, _)| label.to_owned()));
    metric.labels.extend(names.filter(|label| label != "le"));
}

/// What a metric stands at, with these labels; None where it is not exported.
pub(crate) fn value(address: SocketAddr, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let text = scrape(address);
    let mut series = text.lines().filter_map(|line| line.rsplit_once(' '));
    let is_wanted = |series: &str| {
        series.split('{').next() == Some(name)
            && labels.iter().all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
    };
    series.find(|(series, _)| is_wanted(series)).map(|(_, value)| value.parse().unwrap())
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.split_once("\r\n\r\n").unwrap().1.to_owned()
}
