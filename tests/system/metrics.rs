//! What the running services export, and the table of docs/metrics.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
};

use crate::harness::{Place, Up, poll};

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
        let expected: Metrics =
            table.iter().filter(|(name, _)| *service == "index" || !name.starts_with("index_")).map(owned).collect();
        // Calls are counted once they have been answered.
        let found = poll("the metrics", || Some(exported(*address)).filter(|found| found.len() >= expected.len()));
        assert_eq!(found, expected, "{service}");
    }
    up.stop();
}

fn owned((name, metric): (&String, &Metric)) -> (String, Metric) {
    (name.clone(), metric.clone())
}

/// Rows of five columns whose first is a metric: name, type, labels, unit, meaning.
fn table() -> Metrics {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
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

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.split_once("\r\n\r\n").unwrap().1.to_owned()
}
