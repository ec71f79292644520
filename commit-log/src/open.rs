//! From an address to an object store.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    memory::InMemory,
    path::Path,
    prefix::PrefixStore,
};
use url::Url;

use crate::{credentials::NotGiven, directory::Directory, store::StoreOptions, store_error::StoreError};

const EXPECTED: &str = "expected a directory, file://, s3://, gs://, az:// or memory://";
/// The client's own limit of a request, which knows nothing of sizes; [`StoreOptions::request_timeout`] is what counts.
const CLIENT_TIMEOUT: &str = "1 hour";
/// The client repeats a request with the signature that it has, which a bucket may refuse when it is older.
const SIGNATURE_AGE_MAX: Duration = Duration::from_secs(5 * 60);

pub(crate) struct Opened {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) directory: Option<Arc<Directory>>,
    /// Of a bucket without credentials: what would give some.
    pub(crate) credentials: Option<NotGiven>,
}

pub(crate) fn open(url: &str, options: &StoreOptions) -> Result<Opened, StoreError> {
    let invalid = |why: String| StoreError::InvalidUrl { url: url.into(), why };
    if !url.contains("://") {
        return open_directory(std::path::Path::new(url)).map_err(invalid);
    }
    let parsed = Url::parse(url).map_err(|e| invalid(e.to_string()))?;
    match parsed.scheme() {
        "memory" => Ok(Opened { objects: Arc::new(InMemory::new()), directory: None, credentials: None }),
        "file" => open_file_url(&parsed).map_err(invalid),
        "s3" | "gs" | "az" => open_bucket(&parsed, options).map_err(invalid),
        other => Err(invalid(format!("{EXPECTED}, found the scheme `{other}`"))),
    }
}

fn open_directory(directory: &std::path::Path) -> Result<Opened, String> {
    if directory.as_os_str().is_empty() {
        return Err(format!("{EXPECTED}, found nothing"));
    }
    let directory = Directory::open(directory)?;
    Ok(Opened { objects: directory.objects.clone(), directory: Some(Arc::new(directory)), credentials: None })
}

fn open_file_url(url: &Url) -> Result<Opened, String> {
    let directory = url.to_file_path().map_err(|()| "a file:// address needs an absolute path on this machine")?;
    open_directory(&directory)
}

fn open_bucket(url: &Url, options: &StoreOptions) -> Result<Opened, String> {
    let scheme = url.scheme();
    let bucket = url.host_str().ok_or_else(|| format!("a {scheme}:// address needs a bucket"))?;
    let prefix = Path::from_url_path(url.path()).map_err(|e| e.to_string())?;
    let opened = match scheme {
        "s3" => open_s3(bucket, options),
        "gs" => open_gcs(bucket, options),
        _ => open_azure(bucket, options),
    };
    let (objects, credentials) = opened.map_err(|e| e.to_string())?;
    Ok(Opened { objects: Arc::new(PrefixStore::new(objects, prefix)), directory: None, credentials })
}

type Bucket = (Arc<dyn ObjectStore>, Option<NotGiven>);

fn open_s3(bucket: &str, options: &StoreOptions) -> object_store::Result<Bucket> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries(options));
    for (key, value) in client_limits(options) {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    let credentials = s3_credentials(&builder);
    Ok((Arc::new(builder.build()?), credentials))
}

fn s3_credentials(builder: &AmazonS3Builder) -> Option<NotGiven> {
    use AmazonS3ConfigKey as Key;
    let sources = [
        Key::AccessKeyId,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
        Key::SkipSignature,
    ];
    let found = sources.iter().map(|key| builder.get_config_value(key));
    NotGiven::unless_any(found, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

fn open_gcs(bucket: &str, options: &StoreOptions) -> object_store::Result<Bucket> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retries(options));
    for (key, value) in client_limits(options) {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    let credentials = gcs_credentials(&builder);
    Ok((Arc::new(builder.build()?), credentials))
}

fn gcs_credentials(builder: &GoogleCloudStorageBuilder) -> Option<NotGiven> {
    use GoogleConfigKey as Key;
    let sources = [
        Key::ServiceAccount,
        Key::ServiceAccountKey,
        Key::ApplicationCredentials,
        Key::BearerToken,
        Key::SkipSignature,
    ];
    let found = sources.iter().map(|key| builder.get_config_value(key));
    NotGiven::unless_any(found, "GOOGLE_APPLICATION_CREDENTIALS")
}

fn open_azure(container: &str, options: &StoreOptions) -> object_store::Result<Bucket> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(retries(options));
    for (key, value) in client_limits(options) {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    let credentials = azure_credentials(&builder);
    Ok((Arc::new(builder.build()?), credentials))
}

fn azure_credentials(builder: &MicrosoftAzureBuilder) -> Option<NotGiven> {
    use AzureConfigKey as Key;
    let sources = [
        Key::AccessKey,
        Key::SasKey,
        Key::Token,
        Key::ClientSecret,
        Key::FederatedTokenFile,
        Key::UseAzureCli,
        Key::SkipSignature,
    ];
    let found = sources.iter().map(|key| builder.get_config_value(key));
    NotGiven::unless_any(found, "AZURE_STORAGE_ACCOUNT_KEY")
}

/// The client counts time from a request's start, when a long transfer has not failed yet. So it is its pauses that the budget limits.
fn retries(options: &StoreOptions) -> RetryConfig {
    let RetryConfig { backoff, max_retries, .. } = RetryConfig::default();
    let longest = (options.retry_budget / max_retries as u32).max(backoff.init_backoff);
    RetryConfig {
        max_retries: max_retries.min((options.retry_budget.as_millis() / longest.as_millis()) as usize),
        backoff: BackoffConfig { max_backoff: longest, ..backoff },
        retry_timeout: SIGNATURE_AGE_MAX,
    }
}

/// Set key by key, so that what else the environment says of the client holds.
fn client_limits(options: &StoreOptions) -> [(ClientConfigKey, String); 2] {
    let connect = format!("{} ms", options.connect_timeout.as_millis());
    [(ClientConfigKey::Timeout, CLIENT_TIMEOUT.into()), (ClientConfigKey::ConnectTimeout, connect)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(url: &str) -> String {
        open(url, &StoreOptions::default()).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn an_address_that_cannot_be_opened_says_why() {
        assert!(why("ftp://host/x").contains("the scheme `ftp`"));
        assert!(why("").contains("found nothing"));
        assert!(why("/proc/no/such").contains("cannot create the directory"));
        assert!(why("s3://").contains("needs a bucket"));
    }

    #[test]
    fn the_pauses_of_a_client_fit_into_the_budget() {
        let pauses = |seconds| {
            let budget = Duration::from_secs(seconds);
            let config = retries(&StoreOptions { retry_budget: budget, ..StoreOptions::default() });
            assert!(config.backoff.max_backoff * config.max_retries as u32 <= budget, "{config:?}");
            config.max_retries
        };
        assert_eq!([0, 5, 20].map(pauses), [0, 10, 10]);
    }

    #[test]
    fn of_each_bucket_it_is_known_whether_credentials_were_given() {
        let without = [
            s3_credentials(&AmazonS3Builder::new()),
            gcs_credentials(&GoogleCloudStorageBuilder::new()),
            azure_credentials(&MicrosoftAzureBuilder::new()),
        ];
        assert!(without.iter().all(Option::is_some), "{without:?}");
        let with = [
            s3_credentials(&AmazonS3Builder::new().with_access_key_id("id")),
            gcs_credentials(&GoogleCloudStorageBuilder::new().with_service_account_key("key")),
            gcs_credentials(&GoogleCloudStorageBuilder::new().with_skip_signature(true)),
            azure_credentials(&MicrosoftAzureBuilder::new().with_access_key("a2V5")),
            azure_credentials(&MicrosoftAzureBuilder::new().with_use_azure_cli(true)),
        ];
        assert_eq!(with, [None; 5]);
    }

    #[test]
    fn buckets_are_opened_by_their_scheme() {
        for url in ["s3://bucket/a/b", "gs://bucket/a"] {
            open(url, &StoreOptions::default()).map(drop).unwrap();
        }
        assert!(why("az://container/a").to_lowercase().contains("account"), "{}", why("az://container/a"));
    }
}
