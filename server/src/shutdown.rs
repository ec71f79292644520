//! When to stop: SIGTERM, SIGINT, or, if asked for, the end of standard input.

use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

/// Resolves when the process should stop. Signals are heard from this call on, and not only once what it returns is awaited.
pub fn requested(stop_with_stdin: bool) -> impl Future<Output = ()> + Send {
    let terminated = received(SignalKind::terminate());
    let interrupted = received(SignalKind::interrupt());
    async move {
        let reason = tokio::select! {
            () = terminated => "SIGTERM",
            () = interrupted => "SIGINT",
            () = stdin_closed(), if stop_with_stdin => "end of standard input",
        };
        tracing::info!(reason, "stopping");
    }
}

fn received(kind: SignalKind) -> impl Future<Output = ()> + Send {
    let signals = signal(kind).inspect_err(|error| tracing::warn!(%error, ?kind, "cannot listen for a signal"));
    async move {
        match signals {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    }
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 256];
    while !matches!(stdin.read(&mut ignored).await, Ok(0) | Err(_)) {}
}
