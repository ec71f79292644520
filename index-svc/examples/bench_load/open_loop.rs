//! [`OpenLoop`]: searches at random times that do not wait for answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp;
use serde_json::{Value, json};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    Fault,
    target::{Target, Wanted},
};

/// What takes longer counts as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// A call that was answered.
#[derive(Clone)]
pub(crate) struct Call {
    /// When it was to be sent, since the beginning.
    pub(crate) intended: Duration,
    /// From then until its answer.
    latency: Duration,
    is_ok: bool,
}

/// A load that goes on until it is finished.
pub(crate) struct OpenLoop {
    began: Instant,
    stop: Arc<AtomicBool>,
    pacer: thread::JoinHandle<Vec<JoinHandle<Call>>>,
}

impl OpenLoop {
    /// Begins, with so many calls a second on average, at times that are independent of one another (a Poisson process of a fixed seed). The times
    /// are kept by a thread of its own, since the runtime's timers are whole milliseconds.
    pub(crate) fn start(target: &Target, wanted: &Wanted, rate: f64) -> Self {
        let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let (handle, target, wanted, stopped) = (Handle::current(), target.clone(), wanted.clone(), stop.clone());
        let pacer = thread::spawn(move || pace(&handle, &target, &wanted, rate, (began, &stopped)));
        Self { began, stop, pacer }
    }

    /// Time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sends no further calls, and waits for the answers.
    pub(crate) async fn finish(self) -> Result<Vec<Call>, Fault> {
        self.stop.store(true, Ordering::Relaxed);
        let pacer = tokio::task::spawn_blocking(|| self.pacer.join()).await?;
        let under_way = pacer.map_err(|_| "the load ended in a panic")?;
        let mut calls = Vec::with_capacity(under_way.len());
        for call in under_way {
            calls.push(call.await?);
        }
        Ok(calls)
    }
}

fn pace(
    handle: &Handle,
    target: &Target,
    wanted: &Wanted,
    rate: f64,
    (began, stop): (Instant, &AtomicBool),
) -> Vec<JoinHandle<Call>> {
    let mut gaps = ChaCha8Rng::seed_from_u64(7);
    let exponential = Exp::new(rate).expect("a rate above 0");
    let (mut intended, mut calls) = (Duration::ZERO, Vec::new());
    for number in 0.. {
        intended += Duration::from_secs_f64(gaps.sample(exponential));
        if let Some(wait) = intended.checked_sub(began.elapsed()) {
            thread::sleep(wait);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (target, wanted) = (target.clone(), wanted.clone());
        calls.push(handle.spawn(async move {
            let is_ok = target.search(number, &wanted).await.is_ok();
            Call { intended, latency: began.elapsed().saturating_sub(intended), is_ok }
        }));
    }
    calls
}

/// Counts, and latencies of those that did not fail.
pub(crate) fn summary(calls: &[Call]) -> Value {
    let answered: Vec<_> = calls.iter().filter(|call| call.is_ok).map(|call| call.latency).collect();
    let mut found = latencies(&answered);
    found["calls"] = calls.len().into();
    found["failed"] = (calls.len() - answered.len()).into();
    found
}

/// Percentiles, in milliseconds.
pub(crate) fn latencies(all: &[Duration]) -> Value {
    let mut us = Histogram::<u64>::new_with_bounds(1, LATENCY_US_MAX, 3).expect("bounds and digits that are possible");
    all.iter().for_each(|latency| us.saturating_record(latency.as_micros() as u64));
    let ms = |quantile| us.value_at_quantile(quantile) as f64 / 1e3;
    json!({"p50_ms": ms(0.5), "p90_ms": ms(0.9), "p99_ms": ms(0.99), "max_ms": us.max() as f64 / 1e3})
}
