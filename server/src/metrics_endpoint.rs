//! The Prometheus endpoint: every GET is answered with the metrics as text.
//!
//! It binds its own listener, so that port 0 works and the port can be announced.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::{connections, stack};

/// Seconds, from a fast recall to a slow refresh.
const LATENCY_BUCKETS_S: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a scraper may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// More than one scraper is rare, and probes ask here as well; none can pile up memory.
const SCRAPES_AT_ONCE: usize = 16;
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts to record metrics and to serve them at `address`; returns the address bound.
pub async fn start(address: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let recorder = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS_S).map_err(io::Error::other)?;
    let handle = recorder.install_recorder().map_err(io::Error::other)?;
    stack::describe_metrics();
    tokio::spawn(upkeep(handle.clone()));
    tokio::spawn(accept(listener, handle));
    Ok(bound)
}

async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

async fn accept(listener: TcpListener, handle: PrometheusHandle) {
    let places = Arc::new(Semaphore::new(SCRAPES_AT_ONCE));
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let (stream, handle) = (connections::accept(&listener).await, handle.clone());
        tokio::spawn(async move {
            let _place = place;
            // Who does not take the answer is not told why.
            let _ = timeout(SCRAPE_TIMEOUT, answer(stream, &handle)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, handle: &PrometheusHandle) -> io::Result<()> {
    let mut head = [0; 1024];
    // Whatever is asked, and however much of it has arrived: the answer is the same.
    let _asked = timeout(ASK_TIMEOUT, stream.read(&mut head)).await??;
    let body = handle.render();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_holds_up_nobody_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        tokio::spawn(accept(listener, recorder.handle()));
        let mut silent = Vec::new();
        for _ in 0..2 * SCRAPES_AT_ONCE {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let began = Instant::now();
        let mut scraper = TcpStream::connect(address).await.unwrap();
        scraper.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        scraper.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(began.elapsed() < 2 * SCRAPE_TIMEOUT, "{:?}", began.elapsed());
    }
}
