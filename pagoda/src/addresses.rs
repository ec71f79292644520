//! The addresses file: how a command finds the services that `pagoda up` started.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

/// Where the three services listen, and the store they share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) store: String,
    pub(crate) user_tower: SocketAddr,
    pub(crate) item_tower: SocketAddr,
    pub(crate) index: SocketAddr,
    /// The Prometheus endpoints.
    pub(crate) metrics: MetricsAddresses,
    /// The process that started them.
    pub(crate) pid: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MetricsAddresses {
    pub(crate) user_tower: Option<SocketAddr>,
    pub(crate) item_tower: Option<SocketAddr>,
    pub(crate) index: Option<SocketAddr>,
}

impl Addresses {
    /// Reads the file named, or the one that the latest `pagoda up` of this user left at the usual place.
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

    /// Writes the file at the usual place.
    pub(crate) fn write_at_usual_place(&self) -> Result<()> {
        self.write(&usual_place()?)
    }

    /// Removes the file at the usual place if it is still this process's.
    pub(crate) fn forget(&self) {
        let Ok(path) = usual_place() else { return };
        if Self::read(&path).is_ok_and(|found| found.pid == self.pid) {
            // Best effort: a stale file is noticed by whoever connects.
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a file through a temporary sibling, making its folder where needed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let file = tempfile::NamedTempFile::new_in(dir)?;
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
