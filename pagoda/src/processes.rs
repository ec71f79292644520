//! The three services as child processes of this one: started, awaited, drained.
//!
//! Each child watches its standard input, so that it leaves when this process does, however this process ends.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde::Deserialize;
use tokio::{
    process::{Child, ChildStdin},
    time::{Instant, sleep, timeout},
};

use crate::{
    addresses::{Addresses, MetricsAddresses},
    output::tell,
    settings::{Given, Settings, of_services},
    store::require_writable,
};

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a service may take to leave beyond the grace of its settings.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// What is shown of a log: so many lines, of so many bytes at its end.
const LAST_LINES: usize = 10;
const LAST_BYTES: u64 = 16 * 1024;

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
    /// Where its lines go; None: to standard error.
    log: Option<PathBuf>,
    /// How long it may take to drain and to leave.
    stop_timeout: Duration,
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
    /// Starts index-svc, then both tower services, and returns once all of them listen. None is started with a bad setting, or with a store
    /// that cannot be written.
    pub(crate) async fn start(plan: &Plan<'_>) -> Result<Self> {
        let [index, user, item] = of_services(plan.given).await?;
        require_writable(plan.store).await?;
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

    /// Waits until one of them ends, which none should, and tells which, how, and what it said last. It is no more among those to be stopped.
    pub(crate) async fn first_to_end(&mut self) -> Error {
        let ends = self.services.iter_mut().map(|service| Box::pin(service.child.wait()));
        let (end, place, _) = futures::future::select_all(ends).await;
        let service = self.services.remove(place);
        tell(format_args!("{} has ended, the other services are being stopped", service.name));
        match end {
            Ok(status) => service.ended(status),
            Err(error) => anyhow!("{} cannot be waited for: {error}", service.name),
        }
    }

    /// Closes the children's standard input, the towers' first, and waits until all have drained and left; tells of all that did not do so well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let mut faults = Vec::new();
        while let Some(service) = self.services.pop() {
            faults.extend(service.stop().await.err().map(|fault| fault.to_string()));
        }
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        Ok(())
    }
}

impl Service {
    async fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        match timeout(self.stop_timeout, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.ended(status)),
            Ok(Err(error)) => bail!("{} cannot be waited for: {error}", self.name),
            Err(_) => {
                self.child.kill().await?;
                bail!("{} did not leave within {} s and was killed", self.name, self.stop_timeout.as_secs());
            }
        }
    }

    /// Waits until it says where it listens.
    async fn announced(&mut self, announce: &Path) -> Result<Announcement> {
        let (name, deadline) = (self.name, Instant::now() + START_TIMEOUT);
        loop {
            if let Ok(bytes) = fs::read(announce) {
                return serde_json::from_slice(&bytes)
                    .with_context(|| format!("{name} announced something unreadable"));
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.ended(status).context(format!("{name} did not start")));
            }
            if Instant::now() > deadline {
                bail!("{name} did not listen within {} s", START_TIMEOUT.as_secs());
            }
            sleep(POLL).await;
        }
    }

    /// How it ended, and what it said last, or where that stands.
    fn ended(&self, status: ExitStatus) -> Error {
        let name = self.name;
        let how = match (status.signal(), status.code()) {
            (Some(9), _) => {
                "was killed by signal 9: by somebody, or by the system for lack of memory (dmesg)".to_owned()
            }
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, code) => format!("ended by itself with exit code {}", code.unwrap_or_default()),
        };
        match self.log.as_deref().map(last_lines) {
            Some(lines) => anyhow!("{name} {how}\nits last lines:{lines}"),
            None => anyhow!("{name} {how}\nits last lines stand above; they begin with [{name}]"),
        }
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
    let log = plan.log_dir.map(|dir| dir.join(format!("{name}.log")));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(lines_to(log.as_deref())?);
    // A Ctrl-C reaches the whole terminal group; a group of their own lets this process drain them in order.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let stdin = child.stdin.take();
    services.push(Service { name, child, stdin, log, stop_timeout: settings.grace() + STOP_TIMEOUT });
    services.last_mut().expect("it was just pushed").announced(&announce).await
}

fn loopback(plan: &Plan<'_>, port: u16) -> String {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    let free = plan.usual_ports && TcpListener::bind(usual).is_ok();
    if free { usual.to_string() } else { "127.0.0.1:0".to_owned() }
}

fn lines_to(log: Option<&Path>) -> Result<Stdio> {
    let Some(path) = log else { return Ok(Stdio::inherit()) };
    Ok(File::create(path).with_context(|| format!("cannot write {}", path.display()))?.into())
}

/// The end of a log, each line on one of its own; of a log that cannot be read, why.
fn last_lines(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(LAST_BYTES)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&end).into_owned())
    };
    let end = read().unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let lines: Vec<&str> = end.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let text: String = (1..=5000).map(|n| format!("line {n}\n")).collect();
        fs::write(&log, text).unwrap();
        let shown = last_lines(&log);
        assert!(shown.starts_with("\n  line 4991\n") && shown.ends_with("\n  line 5000"), "{shown}");
        fs::write(&log, "").unwrap();
        assert_eq!(last_lines(&log), "");
        assert!(last_lines(&dir.path().join("none")).contains("none: "));
    }
}
