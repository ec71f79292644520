//! A process from `main` to its exit code: settings, logs, metrics, listener, announcement, body, end.

use std::{
    fmt::Display,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    cli::ServerArgs,
    config::{self, Listen, ServiceConfig},
    metrics_endpoint, shutdown, telemetry,
};

/// The exit code of bad settings (EX_USAGE of sysexits.h).
pub const EXIT_BAD_CONFIG: u8 = 64;

/// The thread pools of mathematics libraries; ours is the concurrency of calls.
const SINGLE_THREADED: [&str; 3] = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"];

/// What a service's body is given besides its settings.
#[derive(Debug)]
pub struct Process {
    /// The bound listener of the gRPC server.
    pub listener: TcpListener,
    stop: Stop,
}

/// That the process should stop, heard from its start on: as the first process of a container it would not be ended by a signal that it does not hear.
#[derive(Clone, Debug)]
struct Stop {
    requested: watch::Receiver<bool>,
    /// Whether the body listens, and drains; before, nothing is lost by ending at once.
    is_awaited: Arc<AtomicBool>,
}

impl Process {
    /// Splits into the listener and the future that resolves when the process should stop.
    pub fn into_parts(self) -> (TcpListener, impl Future<Output = ()> + Send) {
        let stop = self.stop;
        (self.listener, async move {
            stop.is_awaited.store(true, Ordering::SeqCst);
            stop.requested().await;
        })
    }
}

impl Stop {
    fn listen(stop_with_stdin: bool) -> Self {
        let (tell, requested) = watch::channel(false);
        let heard = shutdown::requested(stop_with_stdin);
        tokio::spawn(async move {
            heard.await;
            tell.send_replace(true);
            // Who asks later is to find it.
            tell.closed().await;
        });
        Self { requested, is_awaited: Arc::default() }
    }

    async fn requested(mut self) {
        // The sender lives as long as this.
        let _ = self.requested.wait_for(|requested| *requested).await;
    }

    /// Resolves when the process should stop, and its body does not listen yet.
    async fn requested_early(self) {
        let is_awaited = self.is_awaited.clone();
        self.requested().await;
        if is_awaited.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }
}

/// What `--announce` writes.
#[derive(Serialize)]
struct Announcement {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    pid: u32,
}

/// Executes this program anew, once, with one thread for each mathematics library, because those read their environment
/// before `main` could change it, and a matmul of ours is too small to be worth a second thread.
pub fn with_single_threaded_math() {
    with_environment(&[]);
}

/// The same with more variables, for libraries that read theirs as early. Those that are set already stay.
pub fn with_environment(more: &[(&str, &str)]) {
    use std::os::unix::process::CommandExt;
    let wanted = SINGLE_THREADED.iter().map(|name| (*name, "1")).chain(more.iter().copied());
    let missing: Vec<_> = wanted.filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    let (false, Ok(program)) = (missing.is_empty(), std::env::current_exe()) else { return };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // `exec` returns only when it failed; then we are slower, not wrong.
    let error = command.args(arguments).envs(missing).exec();
    eprintln!("cannot execute this program anew with single-threaded mathematics: {error}");
}

/// Runs a server: loads its settings, listens, announces and runs `body` until it ends.
pub fn main<C, F, Fut, E>(args: &ServerArgs, body: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C, Process) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    with_single_threaded_math();
    run(args, async |config: C| {
        let stop = Stop::listen(args.stop_with_stdin);
        let process =
            start(config.sections().listen, args, stop.clone()).await.map_err(|e| format!("cannot start: {e}"))?;
        tokio::select! {
            ended = body(config, process) => ended.map_err(|e| e.to_string()),
            () = stop.requested_early() => {
                tracing::info!("stopped before it served");
                Ok(())
            }
        }
    })
}

/// Runs a job of a service: as [`main`], without listening.
pub fn main_of_job<C, F, Fut, E>(args: &ServerArgs, job: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    with_single_threaded_math();
    run(args, async |config: C| job(config).await.map_err(|e| e.to_string()))
}

fn run<C: ServiceConfig>(args: &ServerArgs, body: impl AsyncFnOnce(C) -> Result<(), String>) -> ExitCode {
    let config = match config::load::<C>(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    if args.print_config {
        print!("{}", config::redacted(&config));
        return ExitCode::SUCCESS;
    }
    telemetry::init(config.sections().log);
    raise_file_limit();
    log_settings(&config);
    match block_on(body(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Each connection is a file; the limit that shells and service managers set by default is for programs that cannot have many.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// One line with what is not the default; all of it for whoever turns on `debug`.
fn log_settings<C: ServiceConfig>(config: &C) {
    match config::changed(config).as_slice() {
        [] => tracing::info!("settings: all are the defaults"),
        changed => tracing::info!("settings other than the defaults: {}", changed.join(", ")),
    }
    tracing::debug!("all settings\n{}", config::redacted(config).trim_end());
    config::stray_variables::<C>().iter().for_each(|stray| tracing::warn!("{stray}"));
}

fn block_on(body: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start threads: {e}"))?;
    let ended = runtime.block_on(body);
    // A blocked read of standard input, or a forward pass under way, must not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn start(listen: &Listen, args: &ServerArgs, stop: Stop) -> io::Result<Process> {
    let metrics_address = match listen.metrics_address.as_str() {
        "" => None,
        address => {
            let started = metrics_endpoint::start(parsed(address)?).await;
            Some(started.map_err(|e| cannot_listen("listen.metrics_address", address, e))?)
        }
    };
    let address = &listen.address;
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|e| cannot_listen("listen.address", address, e))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, metrics_address = metrics_address.map(tracing::field::display), "listening");
    if let Some(path) = &args.announce {
        let announcement = Announcement { address, metrics_address, pid: std::process::id() };
        announce(path, &announcement).map_err(|e| naming(&format!("--announce {}", path.display()), e))?;
    }
    Ok(Process { listener, stop })
}

/// Written beside and renamed, so that a reader never sees half of it.
fn announce(path: &Path, announcement: &Announcement) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    std::fs::write(&beside, serde_json::to_vec(announcement)?)?;
    std::fs::rename(&beside, path)
}

fn parsed(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(|e| naming(address, io::Error::new(io::ErrorKind::InvalidInput, e)))
}

/// Names the key and the address; where another process has it, how to go on.
fn cannot_listen(key: &str, address: &str, error: io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(": another process listens there; stop it or give {key} another port, 0 for a free one")
        }
        _ => String::new(),
    };
    io::Error::new(error.kind(), format!("{key} {address}: {error}{hint}"))
}

fn naming(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
