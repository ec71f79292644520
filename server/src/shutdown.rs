//! When to stop: SIGTERM, SIGINT, or, if asked for, the end of standard input.

use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

/// Resolves when the process should stop.
pub async fn requested(stop_with_stdin: bool) {
    let reason = tokio::select! {
        () = received(SignalKind::terminate()) => "SIGTERM",
        () = received(SignalKind::interrupt()) => "SIGINT",
        () = stdin_closed(), if stop_with_stdin => "end of standard input",
    };
    tracing::info!(reason, "stopping");
}

async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(error) => {
            tracing::warn!(%error, ?kind, "cannot listen for a signal");
            std::future::pending().await
        }
    }
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 256];
    while !matches!(stdin.read(&mut ignored).await, Ok(0) | Err(_)) {}
}
