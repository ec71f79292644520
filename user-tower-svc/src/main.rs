//! The user tower's server. See `user-tower-svc --help` and `config.toml`.

use std::process::ExitCode;

use clap::Parser;
use pagoda_server::{ServerArgs, process};
use user_tower_svc::{app, config::Config};

const EXAMPLES: &str = "\
Examples:
  user-tower-svc --set store.url=/var/lib/pagoda --set peers.index=http://index:7103
  PAGODA_LISTEN__ADDRESS=0.0.0.0:7101 user-tower-svc --config user-tower.toml
  user-tower-svc --print-config";

/// The online entrance of Pagoda: from a user to the candidates of recall.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    process::main::<Config, _, _, _>(&args.server, |config, process| async move {
        let (listener, shutdown) = process.into_parts();
        app::run(config, listener, shutdown).await
    })
}
