//! The addresses file: how a command finds the services that `pagoda up` started.

use std::{
    env,
    fs::{self, Permissions},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// How long services on this machine may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Where the three services listen, and the store they share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) store: String,
    #[serde(deserialize_with = "resolved")]
    pub(crate) user_tower: SocketAddr,
    #[serde(deserialize_with = "resolved")]
    pub(crate) item_tower: SocketAddr,
    #[serde(deserialize_with = "resolved")]
    pub(crate) index: SocketAddr,
    /// The Prometheus endpoints.
    #[serde(default)]
    pub(crate) metrics: MetricsAddresses,
    /// The process that started them; 0 in a file that a person wrote.
    #[serde(default)]
    pub(crate) pid: u32,
}

/// An address that a person may have written with a host's name. The services that `pagoda up` starts listen on IPv4, so that goes first.
fn resolved<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let found: Vec<_> =
        text.to_socket_addrs().map_err(|e| D::Error::custom(format!("`{text}`: expected HOST:PORT: {e}")))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| D::Error::custom(format!("`{text}`: it has no address")))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct MetricsAddresses {
    pub(crate) user_tower: Option<SocketAddr>,
    pub(crate) item_tower: Option<SocketAddr>,
    pub(crate) index: Option<SocketAddr>,
}

impl Addresses {
    /// Reads the file named, or the one that a `pagoda up` of this user left at the usual place.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self> {
        match named {
            Some(path) => Self::read(path).with_context(|| format!("addresses file {}", path.display())),
            None => {
                let path = usual_place()?;
                Self::read(&path).map_err(|_| {
                    anyhow!(
                        "no services are running here: {} is missing or unreadable; start them with `pagoda up --store URL` or name an addresses file with --addresses",
                        path.display()
                    )
                })
            }
        }
    }

    fn read(path: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Writes the file whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Writes the file at the usual place or, where services that are running have theirs there, at one of its own beside it.
    pub(crate) fn announce(&self) -> Result<Announced> {
        self.announce_at(usual_place()?)
    }

    fn announce_at(&self, usual: PathBuf) -> Result<Announced> {
        let first = Self::read(&usual).ok().filter(|found| found.pid != self.pid && found.answers_beside(self));
        let path = match &first {
            Some(_) => usual.with_file_name(format!("addresses-{}.json", self.pid)),
            None => usual,
        };
        self.write(&path)?;
        Ok(Announced { pid: self.pid, path, first: first.map(|first| first.pid) })
    }

    /// Whether services of others answer there; what listens at an address that is ours now has gone.
    fn answers_beside(&self, ours: &Self) -> bool {
        self.user_tower != ours.user_tower && TcpStream::connect_timeout(&self.user_tower, PROBE_TIMEOUT).is_ok()
    }
}

/// The addresses file of this process.
pub(crate) struct Announced {
    pid: u32,
    path: PathBuf,
    /// The process whose services commands find without being told where.
    first: Option<u32>,
}

impl Announced {
    /// The flag that a command needs to find these services, if it would find others without.
    pub(crate) fn flag(&self) -> Option<String> {
        self.first.map(|_| format!("--addresses {}", self.path.display()))
    }

    /// What to tell a person whose services are not those that commands find by themselves.
    pub(crate) fn aside(&self) -> Option<String> {
        let first = self.first?;
        let flag = self.flag()?;
        Some(format!(
            "`pagoda up` of process {first} is running too, and commands go to its services.\n\
             To reach these: {flag}"
        ))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if Addresses::read(&self.path).is_ok_and(|found| found.pid == self.pid) {
            // Best effort: a stale file is noticed by whoever connects.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a file through a temporary sibling, making its folder where needed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        // As any other new file, less what the umask takes away.
        let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
        fs::write(file.path(), bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn usual_place() -> Result<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")))
        .context("neither XDG_STATE_HOME nor HOME is set, so name an addresses file with --addresses")?;
    Ok(state.join("pagoda/addresses.json"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(pid: u32, user_tower: SocketAddr) -> Addresses {
        let metrics = MetricsAddresses { user_tower: None, item_tower: None, index: None };
        Addresses { store: "store".into(), user_tower, item_tower: user_tower, index: user_tower, metrics, pid }
    }

    #[test]
    fn each_process_removes_its_own_addresses_alone() {
        let dir = tempfile::tempdir().unwrap();
        let usual = dir.path().join("addresses.json");
        let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let first = addresses(1, one.local_addr().unwrap()).announce_at(usual.clone()).unwrap();
        let second = addresses(2, other.local_addr().unwrap()).announce_at(usual.clone()).unwrap();
        assert!(first.aside().is_none() && first.flag().is_none());
        let aside = second.aside().unwrap();
        assert!(
            aside.contains("process 1") && aside.contains("--addresses") && aside.contains("addresses-2.json"),
            "{aside}"
        );
        drop(second);
        assert_eq!(Addresses::read(&usual).unwrap().pid, 1);
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_person_may_write_names_of_hosts_and_leave_out_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses.json");
        let written = |index: &str| {
            let text =
                r#"{"store": "s", "user_tower": "localhost:7101", "item_tower": "127.0.0.1:7102", "index": "INDEX"}"#;
            fs::write(&path, text.replace("INDEX", index)).unwrap();
            Addresses::find(Some(&path))
        };
        let found = written("[::1]:7103").unwrap();
        assert_eq!((found.user_tower, found.index), (([127, 0, 0, 1], 7101).into(), "[::1]:7103".parse().unwrap()));
        let refused = format!("{:#}", written("7103").unwrap_err());
        assert!(refused.contains("`7103`: expected HOST:PORT"), "{refused}");
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let usual = dir.path().join("addresses.json");
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        addresses(1, gone).write(&usual).unwrap();
        let now = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = addresses(2, now.local_addr().unwrap()).announce_at(usual.clone()).unwrap();
        assert!(ours.aside().is_none());
        assert_eq!(Addresses::read(&usual).unwrap().pid, 2);
    }

    #[test]
    fn files_are_as_readable_as_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let [whole, usual] = ["new/report.html", "usual.html"].map(|name| dir.path().join(name));
        write_whole(&whole, b"page").unwrap();
        fs::write(&usual, b"page").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!((mode(&whole), fs::read(&whole).unwrap()), (mode(&usual), b"page".to_vec()));
    }
}
