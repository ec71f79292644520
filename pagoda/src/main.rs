//! The one command that a person or a job runs: generate or import data, train, serve, refresh, recall.
//!
//! The services themselves are other programs; this one starts them and talks to them over gRPC.

mod addresses;
mod channel;
mod cli;
mod clients;
mod commands;
mod output;
mod processes;
mod progress;
mod refusal;
mod settings;
mod store;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use pagoda_server::process::with_environment;
use tokio::runtime::Runtime;

/// A step of training makes and drops many tensors; the system's allocator spends a tenth of it on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if trains_or_evaluates(&command) {
        // The trainer gives each processor blocks of its own; products of small matrices shared among threads are slower.
        // And the allocator keeps what it has: a step asks again for what the one before gave back.
        with_environment(&[("MIMALLOC_PURGE_DELAY", "-1")]);
    }
    let result = Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(run(command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(output::folded(&format!("error: {}", output::told(&error))));
            ExitCode::FAILURE
        }
    }
}

const fn trains_or_evaluates(command: &Command) -> bool {
    matches!(
        command,
        Command::Demo(_)
            | Command::Train(_)
            | Command::Evaluate(_)
            | Command::Mine(_)
            | Command::Compare(_)
            | Command::CompareNegatives(_)
    )
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(args) => commands::demo::run(args).await,
        Command::Generate(args) => commands::generate::run(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Train(args) => commands::train::run(&args).await,
        Command::TrainConfig => {
            output::say(pagoda_trainer::TrainConfig::defaults_toml().trim_end());
            Ok(())
        }
        Command::Evaluate(args) => commands::evaluate::run(&args).await,
        Command::Mine(args) => commands::mine::run(&args).await,
        Command::Compare(args) => commands::compare::run(&args.recipes, &args.runs),
        Command::CompareNegatives(args) => commands::compare::run(&args.recipes, &args.runs),
        Command::Up(args) => commands::up::run(&args).await,
        Command::Refresh(args) => commands::refresh::run(&args).await,
        Command::Recall(args) => commands::recall::run(&args).await,
        Command::Status(args) => commands::status::run(&args).await,
        Command::Models(args) => commands::models::run(&args).await,
        Command::Generations(args) => commands::generations::run(&args).await,
        Command::Publish(args) => commands::publish::run(&args).await,
        Command::Rollback(args) => commands::rollback::run(&args).await,
        Command::Delete(args) => commands::delete::run(&args).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pagoda", &mut std::io::stdout());
            Ok(())
        }
    }
}
