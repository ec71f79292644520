//! From an address to an object store.

use std::{sync::Arc, time::Duration};

use object_store::{
    ObjectStore, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem, memory::InMemory, path::Path,
    prefix::PrefixStore,
};
use url::Url;

use crate::StoreError;

/// How long one call to a bucket is retried before it counts as failed.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn open(url: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let invalid = |why: String| StoreError::InvalidUrl { url: url.into(), why };
    if !url.contains("://") {
        return open_directory(std::path::Path::new(url)).map_err(invalid);
    }
    let parsed = Url::parse(url).map_err(|e| invalid(e.to_string()))?;
    match parsed.scheme() {
        "memory" => Ok(Arc::new(InMemory::new())),
        "file" => open_file_url(&parsed).map_err(invalid),
        "s3" => open_bucket(&parsed).map_err(invalid),
        other => Err(invalid(format!("expected a directory, file://, s3:// or memory://, found the scheme `{other}`"))),
    }
}

fn open_directory(directory: &std::path::Path) -> Result<Arc<dyn ObjectStore>, String> {
    if directory.as_os_str().is_empty() {
        return Err("expected a directory, file://, s3:// or memory://, found nothing".into());
    }
    std::fs::create_dir_all(directory).map_err(|e| format!("cannot create the directory: {e}"))?;
    let files = LocalFileSystem::new_with_prefix(directory).map_err(|e| e.to_string())?;
    Ok(Arc::new(files.with_fsync(true)))
}

fn open_file_url(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let directory = url.to_file_path().map_err(|()| "a file:// address needs an absolute path on this machine")?;
    open_directory(&directory)
}

fn open_bucket(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let bucket = url.host_str().ok_or("an s3:// address needs a bucket")?;
    let retry = RetryConfig { retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    let objects = builder.build().map_err(|e| e.to_string())?;
    let prefix = Path::from_url_path(url.path()).map_err(|e| e.to_string())?;
    Ok(Arc::new(PrefixStore::new(objects, prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_opened_says_why() {
        let why = |url: &str| open(url).map(drop).unwrap_err().to_string();
        assert!(why("ftp://host/x").contains("the scheme `ftp`"));
        assert!(why("").contains("found nothing"));
        assert!(why("/proc/no/such").contains("cannot create the directory"));
    }
}
