//! The settings of the services that this process starts: from `--set`, from files, from the environment. Each goes to those services that know its
//! key, and each service checks its own before any of them is started. What keys there are, the services are asked.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use futures::try_join;
use tokio::process::Command;
use toml::Table;

/// The services, in the order in which they start.
pub(crate) const SERVICES: [&str; 3] = ["index-svc", "user-tower-svc", "item-tower-svc"];

/// What a person gave for the services.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given<'a> {
    /// Of each `--set` what follows: `[SERVICE.]SECTION.KEY=VALUE`.
    pub(crate) set: &'a [String],
    /// A directory with a file for each service that has one, `SERVICE.toml`.
    pub(crate) config: Option<&'a Path>,
}

/// The settings of one service, which it has found to be good.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The service.
    pub(crate) name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    /// Variables that are settings of other services.
    foreign: Vec<String>,
    defaults: Table,
    chosen: Table,
}

/// The settings of all services, in their order.
pub(crate) async fn of_services(given: Given<'_>) -> Result<[Settings; 3]> {
    let [index, user, item] = SERVICES.map(Settings::defaults);
    let (index, user, item) = try_join!(index, user, item)?;
    let mut services = [index, user, item];
    check_directory(given.config)?;
    share_variables(&mut services);
    for service in &mut services {
        service.take_file(given.config);
    }
    given.set.iter().try_for_each(|flag| hand_out(flag, &mut services))?;
    let mut faults = Vec::new();
    for service in &mut services {
        faults.extend(service.check().await?);
    }
    faults.extend(collisions(&services));
    if faults.is_empty() { Ok(services) } else { Err(anyhow!(faults.join("\n"))) }
}

impl Settings {
    async fn defaults(name: &'static str) -> Result<Self> {
        let program = beside_this_program(name)?;
        let mut command = Command::new(&program);
        for (variable, _) in variables() {
            command.env_remove(variable);
        }
        let defaults = match printed(&mut command, name).await? {
            Ok(defaults) => defaults,
            Err(refusal) => bail!("{name}: {refusal}"),
        };
        let chosen = defaults.clone();
        Ok(Self { name, program, args: Vec::new(), foreign: Vec::new(), defaults, chosen })
    }

    /// The program with these settings, and as far as nobody chose otherwise with `preset`, pairs of a key and its value.
    pub(crate) fn command(&self, preset: &[(&str, String)]) -> Command {
        let mut command = Command::new(&self.program);
        for (key, value) in preset.iter().filter(|(key, _)| !self.is_chosen(key)) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        for variable in &self.foreign {
            command.env_remove(variable);
        }
        command.args(&self.args);
        command
    }

    /// How long calls may go on after it was told to stop.
    pub(crate) fn grace(&self) -> Duration {
        let ms = at(&self.chosen, "drain.grace_ms").and_then(toml::Value::as_integer).unwrap_or_default();
        Duration::from_millis(ms.try_into().unwrap_or_default())
    }

    fn is_chosen(&self, key: &str) -> bool {
        at(&self.chosen, key) != at(&self.defaults, key)
    }

    fn knows(&self, key: &str) -> bool {
        at(&self.defaults, key).is_some()
    }

    fn take_file(&mut self, directory: Option<&Path>) {
        let file = directory.map(|directory| directory.join(format!("{}.toml", self.name)));
        if let Some(file) = file.filter(|file| file.is_file()) {
            self.args.extend(["--config".into(), file.into_os_string()]);
        }
    }

    /// Lets the service look at its settings; returns what it says of bad ones.
    async fn check(&mut self) -> Result<Option<String>> {
        match printed(&mut self.command(&[]), self.name).await? {
            Ok(chosen) => {
                self.chosen = chosen;
                Ok(None)
            }
            Err(refusal) => Ok(Some(format!("{}: {refusal}", self.name))),
        }
    }
}

/// Takes each variable that is a setting of some services from those that do not know it. One that nobody knows is refused by all.
fn share_variables(services: &mut [Settings]) {
    for (variable, key) in variables() {
        if services.iter().any(|service| service.knows(&key)) {
            let strangers = services.iter_mut().filter(|service| !service.knows(&key));
            strangers.for_each(|service| service.foreign.push(variable.clone()));
        }
    }
}

/// Hands a `--set` to the service that it names, or to all that know its key.
fn hand_out(flag: &str, services: &mut [Settings]) -> Result<()> {
    let expected = || {
        format!("--set {flag}: expected [SERVICE.]SECTION.KEY=VALUE, where SERVICE is one of {}", SERVICES.join(", "))
    };
    let (key, _) = flag.split_once('=').with_context(expected)?;
    let named = key.split_once('.').filter(|(service, _)| SERVICES.contains(service));
    let (key, setting) = named.map_or((key, flag), |(service, key)| (key, &flag[service.len() + 1..]));
    if key == "store.url" {
        bail!("--set {flag}: the services share one store, which --store names");
    }
    let takes = |service: &&mut Settings| match named {
        Some((name, _)) => service.name == name,
        None => service.knows(key),
    };
    let mut taken = false;
    for service in services.iter_mut().filter(takes) {
        service.args.extend(["--set".into(), setting.into()]);
        taken = true;
    }
    if taken { Ok(()) } else { Err(anyhow!("{}; no service knows `{key}`", expected())) }
}

/// Where several services were given one place to listen at, which only one of them can have.
fn collisions(services: &[Settings]) -> Vec<String> {
    let mut takers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for service in services {
        for key in ["listen.address", "listen.metrics_address"] {
            let chosen = at(&service.chosen, key).and_then(toml::Value::as_str).filter(|_| service.is_chosen(key));
            // No address is none to share, and port 0 is a free one of its own.
            if let Some(address) = chosen.filter(|address| !address.is_empty() && !address.ends_with(":0")) {
                takers.entry(address).or_default().push(format!("{}.{key}", service.name));
            }
        }
    }
    let shared = takers.into_iter().filter(|(_, takers)| takers.len() > 1);
    let fault = |(address, takers): (&str, Vec<String>)| {
        format!(
            "{address} is given to {}; each needs its own, as by `--set {}=HOST:PORT`, or port 0 for a free one",
            takers.join(", "),
            takers[0]
        )
    };
    shared.map(fault).collect()
}

fn check_directory(directory: Option<&Path>) -> Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    let wanted = SERVICES.map(|name| format!("{name}.toml"));
    let listed = directory.read_dir().with_context(|| format!("--config {}", directory.display()))?;
    let names = listed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let files: Vec<String> = names.filter(|name| name.ends_with(".toml")).collect();
    let strange = files.iter().find(|name| !wanted.contains(name));
    match strange {
        Some(name) => bail!("--config {}: expected {}, found {name}", directory.display(), wanted.join(", ")),
        None if files.is_empty() => {
            bail!("--config {}: expected {}, found none of them", directory.display(), wanted.join(", "))
        }
        None => Ok(()),
    }
}

/// The variables that are settings, and their keys.
fn variables() -> impl Iterator<Item = (String, String)> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter_map(|name| {
        let key = name.strip_prefix("PAGODA_").filter(|key| key.contains("__"))?.to_lowercase().replace("__", ".");
        Some((name, key))
    })
}

/// The settings that a service prints, or what it says of bad ones.
async fn printed(command: &mut Command, name: &str) -> Result<Result<Table, String>> {
    let Output { status, stdout, stderr } =
        command.arg("--print-config").output().await.with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        return Ok(Err(String::from_utf8_lossy(&stderr).trim().to_owned()));
    }
    let text = String::from_utf8(stdout).with_context(|| format!("the settings of {name}"))?;
    Ok(Ok(text.parse().with_context(|| format!("the settings of {name}"))?))
}

fn at<'t>(table: &'t Table, key: &str) -> Option<&'t toml::Value> {
    let (section, key) = key.split_once('.')?;
    table.get(section)?.as_table()?.get(key)
}

fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        bail!("{name} is not beside {}; build all programs with `cargo build --release`", own.display());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn services() -> Vec<Settings> {
        let of = |(name, defaults): (&'static str, &str)| {
            let defaults: Table = defaults.parse().unwrap();
            let chosen = defaults.clone();
            Settings { name, program: name.into(), args: Vec::new(), foreign: Vec::new(), defaults, chosen }
        };
        [
            ("index-svc", "[log]\nfilter = 'info'\n[memory]\nshare = 0.8\n"),
            ("user-tower-svc", "[log]\nfilter = 'info'\n[recall]\nk_limit = 1\n"),
        ]
        .map(of)
        .into()
    }

    fn handed_out(flag: &str) -> Result<[Vec<OsString>; 2]> {
        let mut services = services();
        hand_out(flag, &mut services)?;
        let [index, user] = services.try_into().unwrap();
        Ok([index.args, user.args])
    }

    #[test]
    fn a_flag_goes_to_the_service_that_it_names_or_to_all_that_know_it() {
        let set = |setting: &str| vec![OsString::from("--set"), setting.into()];
        assert_eq!(handed_out("index-svc.memory.share=0.5").unwrap(), [set("memory.share=0.5"), vec![]]);
        assert_eq!(handed_out("memory.share=0.5").unwrap(), [set("memory.share=0.5"), vec![]]);
        assert_eq!(handed_out("log.filter=a=b").unwrap(), [set("log.filter=a=b"), set("log.filter=a=b")]);
        // A slip in the key is for the service to tell.
        assert_eq!(handed_out("index-svc.memory.shar=1").unwrap()[0], set("memory.shar=1"));
        for bad in ["memory.share", "index.memory.share=1", "index-svc.store.url=x"] {
            assert!(handed_out(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn services_do_not_share_an_address() {
        let listening = |address: &str, metrics: &str| {
            let mut services = services();
            for service in &mut services {
                service.defaults = "[listen]\naddress = 'a:1'\nmetrics_address = 'a:2'".parse().unwrap();
                service.chosen =
                    format!("[listen]\naddress = '{address}'\nmetrics_address = '{metrics}'").parse().unwrap();
            }
            collisions(&services)
        };
        for (address, metrics) in [("a:1", "a:2"), ("b:0", ""), ("a:1", "b:0")] {
            assert_eq!(listening(address, metrics), Vec::<String>::new(), "{address} {metrics}");
        }
        let refused = listening("b:7", "");
        assert!(refused[0].contains("index-svc.listen.address, user-tower-svc.listen.address"), "{refused:?}");
        assert!(refused[0].contains("`--set index-svc.listen.address=HOST:PORT`"), "{refused:?}");
        assert_eq!(listening("a:1", "b:7").len(), 1);
        assert!(listening("b:7", "b:7")[0].contains("index-svc.listen.metrics_address"));
    }

    #[test]
    fn a_directory_holds_files_that_are_called_as_the_services() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_directory(Some(dir.path())).unwrap_err().to_string().contains("found none of them"));
        fs::write(dir.path().join("index-svc.toml"), "").unwrap();
        check_directory(Some(dir.path())).unwrap();
        fs::write(dir.path().join("index.toml"), "").unwrap();
        assert!(check_directory(Some(dir.path())).unwrap_err().to_string().contains("found index.toml"));
        assert!(check_directory(Some(&dir.path().join("gone"))).unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn what_was_chosen_is_not_preset() {
        let mut index = services().remove(0);
        index.chosen = "[log]\nfilter = 'debug'\n[memory]\nshare = 0.8\n".parse().unwrap();
        let command = index.command(&[("log.filter", "warn".into()), ("memory.share", "0.5".into())]);
        let args: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(args, ["--set", "memory.share=0.5"]);
    }
}
