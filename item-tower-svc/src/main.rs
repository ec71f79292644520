//! The item tower's server and its refresh job. See `item-tower-svc --help` and `config.toml`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use item_tower_svc::{
    app,
    config::Config,
    job::{self, RefreshArgs},
};
use pagoda_server::{ServerArgs, process};

/// The item tower of Pagoda: embeds items and hands them to the index. Without a command it serves gRPC.
#[derive(Parser)]
#[command(version, after_help = job::EXAMPLES)]
struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    Refresh(RefreshArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    process::with_single_threaded_math();
    match args.command {
        None => process::main::<Config, _, _, _>(&args.server, |config, process| async move {
            let (listener, shutdown) = process.into_parts();
            app::run(config, listener, shutdown).await
        }),
        Some(Command::Refresh(refresh)) => {
            process::main_of_job::<Config, _, _, _>(&args.server, |config| job::run(config, refresh))
        }
    }
}
