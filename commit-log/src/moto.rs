//! [`Moto`]: an S3 on this machine, for tests: moto's server, run by the Python that `$PAGODA_TEST_PYTHON` names.

use std::{process::Command, sync::Arc};

use object_store::{aws::AmazonS3Builder, prefix::PrefixStore};

use crate::{
    bucket_server::BucketServer,
    store::{Store, StoreOptions},
};

/// The bucket that is there from the start.
pub const BUCKET: &str = "pagoda";
const SERVER: &str = include_str!("moto_server.py");

/// A running server, empty but for [`BUCKET`]; it ends with this value.
#[derive(Debug)]
pub struct Moto {
    server: BucketServer,
}

impl Moto {
    /// Starts a server and waits until it answers. `None`, and a message, where `$PAGODA_TEST_PYTHON` is not set.
    ///
    /// # Panics
    ///
    /// When the variable is set and the server does not start.
    pub fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("PAGODA_TEST_PYTHON") else {
            println!("skipped: PAGODA_TEST_PYTHON names no Python with moto[server]");
            return None;
        };
        let server = BucketServer::start(
            |address| {
                let mut command = Command::new(python);
                command.args(["-c", SERVER, &address.port().to_string()]);
                command
            },
            &format!("/{BUCKET}"),
        );
        Some(Self { server })
    }

    /// The bucket, below a prefix.
    pub fn store(&self, prefix: &str) -> Store {
        self.store_with(prefix, StoreOptions::default())
    }

    /// As `store`, with limits of the caller's.
    pub fn store_with(&self, prefix: &str, options: StoreOptions) -> Store {
        let mut builder = AmazonS3Builder::new();
        for (key, value) in self.environment() {
            builder = builder.with_config(key.to_lowercase().parse().expect("a key of the S3 client"), value);
        }
        let bucket = builder.with_bucket_name(BUCKET).build().expect("a client of S3");
        Store::new_with(Arc::new(PrefixStore::new(bucket, prefix)), &format!("s3://{BUCKET}/{prefix}"), options)
    }

    /// What a process needs in its environment to open `s3://pagoda/...` here.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://{}", self.server.address)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ]
    }
}
