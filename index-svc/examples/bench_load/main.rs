//! The client of `make bench-index`: fills, asks and loads an index server, as requests of one line of JSON each tell it; `bench/index_service.py` says which.
//!
//!     bench_load FOLDER DIM ADDRESS        with the vectors of bench/index_data.py
//!
//! Calls under load are sent at random times that were drawn before, whether earlier ones are answered or not, and their latency counts from those
//! times. One thread sends and receives, another keeps the times: what the client takes from the server's processors is small.

mod catalog;
mod open_loop;
mod target;
mod visible;

use std::{
    error::Error,
    io::{BufRead, Write, stdin, stdout},
    path::PathBuf,
    time::{Duration, Instant},
};

use pagoda_proto::index::v1::{GetIndexStatusRequest, PublishGenerationRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use open_loop::{Call, OpenLoop, summary};
use target::{Target, Wanted};

type Fault = Box<dyn Error>;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// Waits until the server answers and holds so many spaces.
    Ready {
        spaces: usize,
        within_s: f64,
    },
    Build {
        kind: i32,
    },
    Publish {
        generation_id: String,
    },
    /// One call after the other; `rows` asks for what was found.
    Search {
        #[serde(flatten)]
        wanted: Wanted,
        first: usize,
        count: usize,
        #[serde(default)]
        rows: bool,
    },
    /// So many at once, each followed by the next.
    Throughput {
        #[serde(flatten)]
        wanted: Wanted,
        seconds: f64,
        concurrency: usize,
    },
    Load {
        #[serde(flatten)]
        wanted: Wanted,
        rate: f64,
        seconds: f64,
    },
    /// Under load, publishes one after the other.
    Publications {
        #[serde(flatten)]
        wanted: Wanted,
        rate: f64,
        before_s: f64,
        after_s: f64,
        generation_ids: Vec<String>,
    },
    /// Upserts fresh items, deletes some of the others.
    Fill {
        upserts: usize,
        delete_one_in: usize,
    },
    /// Under load, writes items and looks for them.
    Visible {
        #[serde(flatten)]
        wanted: Wanted,
        rate: f64,
        count: usize,
    },
}

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("expected a folder")?);
    let dim = arguments.next().ok_or("expected a dimension")?.parse()?;
    let address = arguments.next().ok_or("expected an address")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = runtime.block_on(async { Target::open(&folder, dim, &address) })?;
    for line in stdin().lock().lines() {
        let began = Instant::now();
        let request = serde_json::from_str(&line?);
        let answer = request.map_err(Fault::from).and_then(|request| runtime.block_on(answer(&target, request)));
        let mut answer = answer.unwrap_or_else(|fault| json!({"error": fault.to_string()}));
        answer["wall_s"] = began.elapsed().as_secs_f64().into();
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}

async fn answer(target: &Target, request: Request) -> Result<Value, Fault> {
    match request {
        Request::Ready { spaces, within_s } => ready(target, spaces, within_s).await,
        Request::Build { kind } => catalog::build(target, kind).await,
        Request::Publish { generation_id } => Ok(json!({"lsn": publish(target, &generation_id).await?})),
        Request::Search { wanted, first, count, rows } => search(target, &wanted, first..first + count, rows).await,
        Request::Throughput { wanted, seconds, concurrency } => throughput(target, &wanted, seconds, concurrency).await,
        Request::Load { wanted, rate, seconds } => {
            let load = OpenLoop::start(target, &wanted, rate);
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok(summary(&load.finish().await?))
        }
        Request::Publications { wanted, rate, before_s, after_s, generation_ids } => {
            let around = [before_s, after_s].map(Duration::from_secs_f64);
            publications(target, OpenLoop::start(target, &wanted, rate), around, &generation_ids).await
        }
        Request::Fill { upserts, delete_one_in } => catalog::fill(target, upserts, delete_one_in).await,
        Request::Visible { wanted, rate, count } => {
            let load = OpenLoop::start(target, &wanted, rate);
            let mut seen = visible::measure(target, count).await?;
            seen["load"] = summary(&load.finish().await?);
            Ok(seen)
        }
    }
}

async fn ready(target: &Target, spaces: usize, within_s: f64) -> Result<Value, Fault> {
    let began = Instant::now();
    loop {
        let status = target.client(0).get_index_status(GetIndexStatusRequest {}).await.map(tonic::Response::into_inner);
        match status {
            Ok(status) if status.spaces.len() >= spaces => {
                let counts = status.spaces.first().map(|space| [space.base_count, space.delta_count]);
                return Ok(json!({"lsn": status.lsn, "counts": counts}));
            }
            other if began.elapsed().as_secs_f64() > within_s => {
                return Err(format!("not ready: {other:?}").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn publish(target: &Target, generation_id: &str) -> Result<u64, Fault> {
    let request = PublishGenerationRequest { generation_id: generation_id.to_owned(), ..Default::default() };
    Ok(target.client(0).publish_generation(request).await?.into_inner().lsn)
}

async fn search(target: &Target, wanted: &Wanted, numbers: std::ops::Range<usize>, rows: bool) -> Result<Value, Fault> {
    let mut found = Vec::new();
    let (mut exhausted, calls) = (0, numbers.len());
    for number in numbers {
        let response = target.search(number, wanted).await?;
        exhausted += usize::from(response.exhausted);
        if rows {
            let ids = response.items.iter().map(|item| item.item_id.parse::<u32>());
            found.push(ids.collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(json!({"calls": calls, "exhausted": exhausted, "rows": found}))
}

async fn throughput(target: &Target, wanted: &Wanted, seconds: f64, concurrency: usize) -> Result<Value, Fault> {
    let (began, cpu) = (Instant::now(), cpu_s());
    let caller = async |first: usize| {
        let (mut calls, mut failed) = (0u64, 0u64);
        while began.elapsed().as_secs_f64() < seconds {
            let outcome = target.search(first + calls as usize * concurrency, wanted).await;
            calls += 1;
            failed += u64::from(outcome.is_err());
        }
        (calls, failed)
    };
    let counts = futures::future::join_all((0..concurrency).map(caller)).await;
    let total = |of: fn(&(u64, u64)) -> u64| counts.iter().map(of).sum::<u64>();
    let (calls, failed) = (total(|count| count.0), total(|count| count.1));
    let per_second = (calls - failed) as f64 / began.elapsed().as_secs_f64();
    Ok(json!({"calls": calls, "failed": failed, "per_second": per_second, "client_cpu_s": cpu_s() - cpu}))
}

async fn publications(
    target: &Target,
    load: OpenLoop,
    [before, after]: [Duration; 2],
    generation_ids: &[String],
) -> Result<Value, Fault> {
    let (mut quiet, mut busy, mut publish_s) = (Vec::new(), Vec::new(), Vec::new());
    // The first calls of a connection are its opening.
    tokio::time::sleep(after).await;
    for generation_id in generation_ids {
        let began = load.elapsed();
        tokio::time::sleep(before).await;
        let asked = load.elapsed();
        publish(target, generation_id).await?;
        publish_s.push((load.elapsed() - asked).as_secs_f64());
        tokio::time::sleep(after).await;
        quiet.push(began..asked);
        busy.push(asked..load.elapsed());
    }
    let calls = load.finish().await?;
    let within = |windows: &[std::ops::Range<Duration>]| {
        let inside = |call: &&Call| windows.iter().any(|window| window.contains(&call.intended));
        summary(&calls.iter().filter(inside).cloned().collect::<Vec<_>>())
    };
    let rounds: Vec<_> = quiet
        .iter()
        .zip(&busy)
        .map(|(quiet, busy)| json!([within(std::slice::from_ref(quiet)), within(std::slice::from_ref(busy))]))
        .collect();
    Ok(json!({
        "before": within(&quiet), "during": within(&busy), "rounds": rounds, "all": summary(&calls), "publish_s": publish_s,
    }))
}

/// Processor seconds of this process.
fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
