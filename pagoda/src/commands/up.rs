//! `pagoda up`: all three services on this machine, in the foreground, until Ctrl-C.

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    addresses::Addresses,
    cli::UpArgs,
    output::say,
    processes::{Plan, Processes},
    settings::Given,
};

pub(crate) async fn run(args: &UpArgs) -> Result<()> {
    let store = absolute_store(&args.store)?;
    let given = Given { set: &args.set, config: args.config.as_deref() };
    let plan = Plan { store: &store, usual_ports: true, log_dir: None, given };
    let processes = Processes::start(&plan).await?;
    let addresses = processes.addresses().clone();
    if let Some(path) = &args.addresses {
        addresses.write(path)?;
    }
    let announced = addresses.announce()?;
    say_addresses(&addresses);
    announced.aside().iter().for_each(say);
    say("Ctrl-C stops them.");
    until_told(processes).await
}

/// Serves until Ctrl-C or SIGTERM, then drains; a service that ends by itself ends all of them.
pub(crate) async fn until_told(mut processes: Processes) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let failure = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
        error = processes.first_to_end() => Some(error),
    };
    match (failure, processes.stop().await) {
        (Some(ended), Err(stopped)) => Err(anyhow!("{ended}\n{stopped}")),
        (Some(ended), Ok(())) => Err(ended),
        (None, stopped) => stopped,
    }
}

pub(crate) fn say_addresses(addresses: &Addresses) {
    let metrics = &addresses.metrics;
    for (name, address, metrics, role) in [
        ("user-tower-svc", addresses.user_tower, metrics.user_tower, "  (Recall)"),
        ("item-tower-svc", addresses.item_tower, metrics.item_tower, ""),
        ("index-svc", addresses.index, metrics.index, ""),
    ] {
        let metrics = metrics.map_or_else(String::new, |address| format!("  metrics {address}"));
        say(format_args!("{name:<14}  {address}{metrics}{role}"));
    }
}

/// A directory by its absolute path, since other commands read it from the addresses file; any other URL as it is.
pub(crate) fn absolute_store(store: &str) -> Result<String> {
    if store.contains("://") {
        return Ok(store.to_owned());
    }
    let path = std::path::absolute(store).with_context(|| format!("store {store}"))?;
    path.into_os_string().into_string().map_err(|path| anyhow!("store {}: not UTF-8", path.display()))
}
