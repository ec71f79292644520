//! The rung `snapshot` of `make bench-index`: follows the log of a running server, and searches its own snapshot of it, as requests of one line of JSON
//! each ask; `bench/index_service.py` says which.
//!
//!     bench_snapshot FOLDER DIM STORE        with the vectors of bench/index_data.py

use std::{
    error::Error,
    io::{BufRead, Write, stdin, stdout},
    path::Path,
    sync::Arc,
    time::Duration,
};

use index_svc::{
    app,
    config::Config,
    filter::{Condition, Filter, Test},
    grpc::IndexService,
    item::Value as AttributeValue,
    search::{Query, search},
};
use pagoda_ann::{Matrix, Parameters, Stop};
use pagoda_commit_log::{Lsn, Store};
use serde::Deserialize;
use serde_json::{Value, json};

type Fault = Box<dyn Error>;

const SPACE: &str = "00000000000000aa";

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// Waits until a position of the log is visible.
    Reach { lsn: u64 },
    Search {
        k: usize,
        first: u32,
        count: u32,
        #[serde(default)]
        tag: Option<String>,
    },
}

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("expected a folder")?;
    let dim = arguments.next().ok_or("expected a dimension")?.parse()?;
    let store = Store::open(&arguments.next().ok_or("expected a store")?)?;
    let users = Matrix::open(&Path::new(&folder).join("users.f32"), dim)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let set = ["index.roles=[\"search\"]", "index.poll_ms=100", "search.live_recall_share=0"].map(str::to_owned).into();
    let config: Config = pagoda_server::config::load(&pagoda_server::ServerArgs { set, ..Default::default() })?;
    let index = runtime.block_on(app::build_on(store, config))?;
    for line in stdin().lock().lines() {
        let request = serde_json::from_str(&line?).map_err(Fault::from);
        let answer = request.and_then(|request| match request {
            Request::Reach { lsn } => {
                runtime.block_on(index.current().reached(Lsn(lsn), Duration::from_secs(60)))?;
                Ok(json!({"memory_mib": memory_mib()}))
            }
            Request::Search { k, first, count, tag } => searches(&index, &users, k, first..first + count, tag),
        });
        writeln!(stdout(), "{}", answer.unwrap_or_else(|fault| json!({"error": fault.to_string()})))?;
    }
    Ok(())
}

fn searches(
    index: &IndexService,
    users: &Matrix,
    k: usize,
    numbers: std::ops::Range<u32>,
    tag: Option<String>,
) -> Result<Value, Fault> {
    let snapshot = index.current().load_full();
    let any_of = |tag: String| Test::AnyOf(vec![AttributeValue::Texts(vec![tag.into()])]);
    let filter = Filter {
        all: tag.map(|tag| Condition { attribute: Arc::from("tag"), test: any_of(tag) }).into_iter().collect(),
    };
    let query = |user: u32| -> Result<Query, Fault> {
        Ok(Query {
            space: SPACE.parse()?,
            embeddings: vec![users.row(user).to_vec()],
            is_batch: false,
            k,
            exclude: Vec::new(),
            filter: filter.clone(),
            group_by: None,
            parameters: Parameters::default(),
            exact: false,
        })
    };
    let began = cpu_s();
    let mut items = 0;
    for user in numbers {
        let answer = search(&snapshot, &query(user)?, Stop::NEVER)?;
        items += answer.rankings.iter().map(|ranking| ranking.items.len()).sum::<usize>();
    }
    Ok(json!({"search_cpu_s": cpu_s() - began, "items": items}))
}

/// Processor seconds of this thread, which searches.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What this process holds that is no file's.
fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}
