//! How long Recall takes, seen from a client: closed loops of one and of several callers, k = 100.

use std::time::Instant;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use pagoda_dataset::{Dataset, user_snapshot};

use super::people::recall;
use crate::{clients::Clients, output};

const K: u32 = 100;
const CALLS: usize = 2000;
const CALLERS: [usize; 2] = [1, 4];
const WARM_UP: usize = 200;

/// The latencies at one number of concurrent callers.
pub(super) struct Latencies {
    pub(super) callers: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) calls_per_s: f64,
}

/// Calls Recall for known users, one caller first, then several.
pub(super) async fn measure(data: &Dataset, clients: &Clients) -> Result<Vec<Latencies>> {
    let users: Vec<String> = user_snapshot(data)?.users.entities.into_iter().map(|u| u.id).collect();
    closed_loop(clients.clone(), users.clone(), WARM_UP).await?;
    let mut measured = Vec::new();
    for callers in CALLERS {
        let began = Instant::now();
        let loops: Vec<_> =
            (0..callers).map(|_| tokio::spawn(closed_loop(clients.clone(), users.clone(), CALLS / callers))).collect();
        let mut all = Histogram::<u64>::new(3).context("three digits are a valid precision")?;
        for histogram in loops {
            all.add(histogram.await.context("a caller ended early")??)?;
        }
        let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1000.0;
        let calls_per_s = all.len() as f64 / began.elapsed().as_secs_f64();
        measured.push(Latencies { callers, p50_ms: ms(0.5), p99_ms: ms(0.99), calls_per_s });
    }
    Ok(measured)
}

/// One caller: the next call begins when the last one ended. Microseconds a call.
async fn closed_loop(mut clients: Clients, users: Vec<String>, calls: usize) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::<u64>::new(3).context("three digits are a valid precision")?;
    for user in users.iter().cycle().take(calls) {
        let began = Instant::now();
        recall(&mut clients, user, K).await?;
        histogram.record(began.elapsed().as_micros() as u64)?;
    }
    Ok(histogram)
}

/// The latencies for a person.
pub(super) fn table(latencies: &[Latencies]) -> comfy_table::Table {
    let rows = latencies.iter().map(|l| {
        let figures = [l.p50_ms, l.p99_ms].map(|ms| format!("{ms:.2}"));
        vec![l.callers.to_string(), figures[0].clone(), figures[1].clone(), format!("{:.0}", l.calls_per_s)]
    });
    output::table(&["callers", "p50 ms", "p99 ms", "calls/s"], &[0, 1, 2, 3], rows.collect())
}
