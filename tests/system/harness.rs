//! Programs, directories and clients for the tests. Everything that is started is stopped on drop.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use pagoda_proto::{
    item::v1::item_tower_service_client::ItemTowerServiceClient,
    recall::v1::recall_service_client::RecallServiceClient,
    user::v1::user_tower_service_client::UserTowerServiceClient,
};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A directory of its own, with the programs pointed at it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One of our programs, working in this directory.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.command_of(&program_path(program))
    }

    /// Any program, working in this directory.
    pub(crate) fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env("XDG_STATE_HOME", self.path("state")).stdin(Stdio::null());
        command
    }

    /// Runs `pagoda` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command("pagoda").args(args).output().unwrap()
    }

    /// Runs `pagoda`, which must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "pagoda {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// Runs `pagoda`, which must refuse with a message, and returns the message in one line.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "pagoda {args:?} should have been refused");
        assert!(!message.contains("panicked"), "pagoda {args:?} panicked: {message}");
        message.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Small generated data in `data` and a model trained on it in `store`.
    pub(crate) fn with_model() -> Self {
        let place = Self::new();
        copy_dir(&trained().join("data"), &place.path("data"));
        copy_dir(&trained().join("store"), &place.path("store"));
        place
    }
}

/// Small data and a model trained on it, made once by whichever test comes first and shared by all tests of this build.
fn trained() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = fs::File::create(scratch.join("trained.lock")).unwrap();
    lock.lock().unwrap();
    let built = fs::metadata(program_path("pagoda")).unwrap().modified().unwrap();
    let shared = scratch.join(format!("trained-{}", built.duration_since(UNIX_EPOCH).unwrap().as_nanos()));
    if !shared.exists() {
        let place = Place::new();
        let size = ["--users", "400", "--items", "500", "--impressions", "30000", "--seed", "7"];
        place.ok(&[["generate", "--out", "data"].as_slice(), &size].concat());
        train(&place, "7");
        let whole = scratch.join("trained.new");
        let _ = fs::remove_dir_all(&whole);
        copy_dir(place.dir.path(), &whole);
        fs::rename(&whole, &shared).unwrap();
    }
    shared
}

/// Trains on `data` for a short while and registers the model in `store`.
pub(crate) fn train(place: &Place, seed: &str) {
    fs::write(place.path("train.toml"), SHORT_TRAINING).unwrap();
    place.ok(&[
        "train",
        "--data",
        "data",
        "--store",
        "store",
        "--config",
        "train.toml",
        "--seed",
        seed,
        "--summary",
        "train.json",
    ]);
}

/// Enough to see that it learns.
pub(crate) const SHORT_TRAINING: &str = "[training]\nepochs = 3\n";

/// All three services, started by `pagoda up`.
pub(crate) struct Up {
    child: Child,
    log: PathBuf,
    pub(crate) user_tower: SocketAddr,
    pub(crate) item_tower: SocketAddr,
    pub(crate) index: SocketAddr,
    /// The Prometheus endpoints, by the names of the addresses file.
    pub(crate) metrics: Vec<(&'static str, SocketAddr)>,
}

impl Up {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, |_| {})
    }

    /// As [`Up::start`], with more arguments or variables.
    pub(crate) fn start_with(place: &Place, add: impl FnOnce(&mut Command)) -> Self {
        // One at a time: of two that look for free ports at once, one may find them taken.
        let turn = fs::File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("up.lock")).unwrap();
        turn.lock().unwrap();
        let log = place.path("up.log");
        let addresses = place.path("addresses.json");
        let mut command = place.command("pagoda");
        command.args(["up", "--store", "store", "--addresses", "addresses.json"]);
        add(&mut command);
        let child = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let found: Value = poll("pagoda up", || serde_json::from_slice(&fs::read(&addresses).ok()?).ok());
        let address = |name: &str| found[name].as_str().unwrap().parse().unwrap();
        let of_metrics = |name| (name, found["metrics"][name].as_str().unwrap().parse().unwrap());
        Self {
            child,
            log,
            user_tower: address("user_tower"),
            item_tower: address("item_tower"),
            index: address("index"),
            metrics: ["user_tower", "item_tower", "index"].map(of_metrics).into(),
        }
    }

    /// What all of them have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// `kill -9` of one of the services; then how `pagoda up` ended.
    pub(crate) fn kill_service(&mut self, name: &str) -> ExitStatus {
        let pid = child_of(self.child.id(), name);
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        poll("the end of pagoda up", || self.child.try_wait().unwrap())
    }

    /// `kill -9` of `pagoda up` itself.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn recall(&self) -> RecallServiceClient<Channel> {
        RecallServiceClient::new(channel(self.user_tower).await)
    }

    pub(crate) async fn users(&self) -> UserTowerServiceClient<Channel> {
        UserTowerServiceClient::new(channel(self.user_tower).await)
    }

    pub(crate) async fn items(&self) -> ItemTowerServiceClient<Channel> {
        ItemTowerServiceClient::new(channel(self.item_tower).await)
    }

    /// Stops as Ctrl-C does; all must drain, leave well, and have logged no warning and no error.
    pub(crate) fn stop(mut self) {
        send(&self.child, "TERM");
        let status = poll("the end of pagoda up", || self.child.try_wait().unwrap());
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        let complaints: Vec<_> = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
        assert!(complaints.is_empty(), "unexpected in the log: {complaints:#?}");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // The services watch their standard input and leave with their parent.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One service, started by itself.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Service {
    pub(crate) fn start(place: &Place, program: &str, settings: &[&str]) -> Self {
        Self::start_as(place.command(program), place, program, settings)
    }

    /// As [`Service::start`], by a command of the caller's that ends in the program, and under a name of its own where there are several of one program.
    pub(crate) fn start_as(command: Command, place: &Place, name: &str, settings: &[&str]) -> Self {
        let announce = place.path(&format!("{name}.json"));
        let child = Self::spawn(command, &announce, settings);
        let found: Value = poll(name, || serde_json::from_slice(&fs::read(&announce).ok()?).ok());
        Self { child, address: found["address"].as_str().unwrap().parse().unwrap() }
    }

    /// Starts a program that ends by itself, and waits for that.
    pub(crate) fn run_to_its_end(command: Command, place: &Place, settings: &[&str]) -> ExitStatus {
        let mut child = Self::spawn(command, &place.path("never.json"), settings);
        poll("the end of a program", || child.try_wait().unwrap())
    }

    fn spawn(mut command: Command, announce: &Path, settings: &[&str]) -> Child {
        // A file of an earlier start would be taken for this one's.
        let _ = fs::remove_file(announce);
        command.arg("--announce").arg(announce);
        for setting in
            ["store.url=store", "listen.address=127.0.0.1:0", "listen.metrics_address="].iter().chain(settings)
        {
            command.args(["--set", setting]);
        }
        command.spawn().unwrap()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal, by its name without SIG.
    pub(crate) fn signal(&self, signal: &str) {
        send(&self.child, signal);
    }

    /// Stops as Ctrl-C does; it must drain and leave well.
    pub(crate) fn stop(self) {
        send(&self.child, "TERM");
        let status = self.ended();
        assert!(status.success(), "{status}");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        poll("the end of a program", || self.child.try_wait().unwrap())
    }

    /// `kill -9`: no goodbye.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A channel to a service that listens.
pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Asks until there is an answer; fails past [`DEADLINE`].
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no sign of {what} after {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The process of a name that a process has started.
fn child_of(parent: u32, name: &str) -> u32 {
    let is_it = |pid: &u32| {
        // "PID (NAME) STATE PARENT ..."
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.split_once(&format!("({name}) ")).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split(' ').nth(1)) == Some(&parent.to_string())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_it).unwrap_or_else(|| panic!("{name} is no child of {parent}"))
}

pub(crate) fn program_path(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap();
    let path = own.ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
