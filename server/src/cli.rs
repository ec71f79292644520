//! The flags that every one of our servers understands.

use std::path::PathBuf;

/// Flags to flatten into a server's own (`#[command(flatten)]`).
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ServerArgs {
    /// Read settings from this TOML file, over the built-in defaults.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Set one key, over the file and the environment; may be given again, e.g. `--set listen.address=127.0.0.1:0`.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Once listening, write the addresses to this file as JSON, atomically.
    #[arg(long, value_name = "FILE")]
    pub announce: Option<PathBuf>,
    /// Drain and leave when standard input is closed: so a parent's death stops its children.
    #[arg(long)]
    pub stop_with_stdin: bool,
    /// Print the settings as they came out of defaults, file, environment and flags, secrets redacted, and leave.
    #[arg(long)]
    pub print_config: bool,
}
