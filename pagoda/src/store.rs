//! Whether a store can be written, asked before there is anything to lose by it: an hour of training, say.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use pagoda_commit_log::{Store, StoreOptions};

/// How long a bucket that fails is asked again.
const RETRY_BUDGET: Duration = Duration::from_secs(5);

/// The folder of a store that is a directory.
pub(crate) fn folder(store: &str) -> Option<&Path> {
    match store.strip_prefix("file://") {
        Some(path) => Some(Path::new(path)),
        None => (!store.contains("://")).then(|| Path::new(store)),
    }
}

/// Refuses a store that cannot be written. A directory that is missing is not made, but it could be.
pub(crate) async fn require_writable(store: &str) -> Result<()> {
    if let Some(folder) = folder(store).filter(|folder| !folder.exists()) {
        let above = folder.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("."));
        tempfile::tempdir_in(above).with_context(|| format!("store `{store}` cannot be made"))?;
        return Ok(());
    }
    let options = StoreOptions { retry_budget: RETRY_BUDGET, ..StoreOptions::default() };
    Ok(Store::open_with(store, options)?.probe_create_only().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_is_tried_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        require_writable(&path("new/store")).await.unwrap();
        require_writable(&format!("file://{}", path("other"))).await.unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        std::fs::write(dir.path().join("file"), "").unwrap();
        for bad in ["/proc/no/such".to_owned(), path("file"), "ftp://a/b".to_owned()] {
            let refused = require_writable(&bad).await.unwrap_err();
            assert!(format!("{refused:#}").contains(&bad), "{refused:#}");
        }
        require_writable(&dir.path().display().to_string()).await.unwrap();
    }
}
