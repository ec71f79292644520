//! The three services as child processes of this one: started, awaited, drained.
//!
//! Each child watches its standard input, so that it leaves when this process does, however this process ends.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::{
    process::{Child, ChildStdin},
    time::{Instant, sleep, timeout},
};

use crate::{
    addresses::{Addresses, MetricsAddresses},
    settings::{Given, Settings, of_services},
};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// What to start and how.
pub(crate) struct Plan<'a> {
    /// The object store's URL.
    pub(crate) store: &'a str,
    /// Whether 7101 to 7103 (and 9101 to 9103) are preferred to any free port.
    pub(crate) usual_ports: bool,
    /// A directory for the children's logs; absent: they share this process's standard error.
    pub(crate) log_dir: Option<&'a Path>,
    /// Settings of the services.
    pub(crate) given: Given<'a>,
}

/// The three running services.
pub(crate) struct Processes {
    services: Vec<Service>,
    addresses: Addresses,
}

struct Service {
    name: &'static str,
    child: Child,
    /// Held apart from the child, since waiting for a child closes the standard input that it still has.
    stdin: Option<ChildStdin>,
}

/// A service that is to start.
struct Part<'a> {
    settings: &'a Settings,
    /// Its usual ports.
    port: u16,
    metrics_port: u16,
    /// Where index-svc answers, for those that ask it.
    index: Option<&'a str>,
}

#[derive(Deserialize)]
struct Announcement {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
}

impl Processes {
    /// Starts index-svc, then both tower services, and returns once all of them listen. None is started with a bad setting.
    pub(crate) async fn start(plan: &Plan<'_>) -> Result<Self> {
        let [index, user, item] = of_services(plan.given).await?;
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut services = Vec::new();
        let part = Part { settings: &index, port: 7103, metrics_port: 9103, index: None };
        let index = launch(plan, scratch.path(), part, &mut services).await?;
        let peer = format!("http://{}", index.address);
        let part = Part { settings: &user, port: 7101, metrics_port: 9101, index: Some(&peer) };
        let user = launch(plan, scratch.path(), part, &mut services).await?;
        let part = Part { settings: &item, port: 7102, metrics_port: 9102, index: Some(&peer) };
        let item = launch(plan, scratch.path(), part, &mut services).await?;
        let metrics = MetricsAddresses {
            user_tower: user.metrics_address,
            item_tower: item.metrics_address,
            index: index.metrics_address,
        };
        let addresses = Addresses {
            store: plan.store.to_owned(),
            user_tower: user.address,
            item_tower: item.address,
            index: index.address,
            metrics,
            pid: std::process::id(),
        };
        Ok(Self { services, addresses })
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until one of them ends, which none should, and says which.
    pub(crate) async fn first_to_end(&mut self) -> anyhow::Error {
        let ends = self.services.iter_mut().map(|s| Box::pin(async { (s.name, s.child.wait().await) }));
        let ((name, end), _, _) = futures::future::select_all(ends).await;
        match end {
            Ok(status) => anyhow::anyhow!("{name} ended by itself ({status}); its last lines say why"),
            Err(error) => anyhow::anyhow!("{name} cannot be waited for: {error}"),
        }
    }

    /// Closes the children's standard input, the towers' first, and waits until all have drained and left.
    pub(crate) async fn stop(mut self) -> Result<()> {
        while let Some(mut service) = self.services.pop() {
            drop(service.stdin.take());
            match timeout(STOP_TIMEOUT, service.child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => bail!("{} left with {status}", service.name),
                Ok(Err(error)) => bail!("{} cannot be waited for: {error}", service.name),
                Err(_) => {
                    service.child.kill().await?;
                    bail!("{} did not leave within {} s and was killed", service.name, STOP_TIMEOUT.as_secs());
                }
            }
        }
        Ok(())
    }
}

async fn launch(
    plan: &Plan<'_>,
    scratch: &Path,
    Part { settings, port, metrics_port, index }: Part<'_>,
    services: &mut Vec<Service>,
) -> Result<Announcement> {
    let name = settings.name;
    let announce = scratch.join(format!("{name}.json"));
    let mut preset =
        vec![("listen.address", loopback(plan, port)), ("listen.metrics_address", loopback(plan, metrics_port))];
    preset.extend(index.map(|index| ("peers.index", index.to_owned())));
    // Lines of several services come to one terminal.
    preset.extend(plan.log_dir.is_none().then(|| ("log.name", name.to_owned())));
    let mut command = settings.command(&preset);
    command.arg("--set").arg(format!("store.url={}", plan.store));
    command.arg("--stop-with-stdin").arg("--announce").arg(&announce);
    // A Ctrl-C reaches the whole terminal group; a group of their own lets this process drain them in order.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log_of(plan, name)?).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let stdin = child.stdin.take();
    services.push(Service { name, child, stdin });
    let child = &mut services.last_mut().expect("it was just pushed").child;
    announced(name, child, &announce).await
}

fn loopback(plan: &Plan<'_>, port: u16) -> String {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    let free = plan.usual_ports && TcpListener::bind(usual).is_ok();
    if free { usual.to_string() } else { "127.0.0.1:0".to_owned() }
}

fn log_of(plan: &Plan<'_>, name: &str) -> Result<Stdio> {
    let Some(dir) = plan.log_dir else { return Ok(Stdio::inherit()) };
    let path = dir.join(format!("{name}.log"));
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.into())
}

async fn announced(name: &str, child: &mut Child, announce: &Path) -> Result<Announcement> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Ok(bytes) = fs::read(announce) {
            return serde_json::from_slice(&bytes).with_context(|| format!("{name} announced something unreadable"));
        }
        if let Some(status) = child.try_wait()? {
            bail!("{name} did not start ({status}); its last lines say why");
        }
        if Instant::now() > deadline {
            bail!("{name} did not listen within {} s", START_TIMEOUT.as_secs());
        }
        sleep(POLL).await;
    }
}
