//! The index server. See `index-svc --help` and `config.toml`.

use std::process::ExitCode;

use clap::Parser;
use index_svc::{app, config::Config};
use pagoda_server::{ServerArgs, process};

/// Ids and replies are many small allocations that are freed on other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The vector index of Pagoda: embeddings in, nearest ids out.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "failpoints")]
    index_svc::failpoint::activate();
    process::main::<Config, _, _, _>(&args.server, |config, process| async move {
        let (listener, shutdown) = process.into_parts();
        app::run(config, listener, shutdown).await
    })
}
