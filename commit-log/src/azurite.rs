//! [`Azurite`]: an Azure Blob Storage on this machine, for tests: Microsoft's emulator, the program that `$PAGODA_TEST_AZURITE` names.

use std::{process::Command, sync::Arc};

use object_store::{azure::MicrosoftAzureBuilder, prefix::PrefixStore};

use crate::{
    bucket_server::BucketServer,
    store::{Store, StoreOptions},
};

/// The container that is there from the start.
pub const CONTAINER: &str = "pagoda";
/// The emulator's own account and key, which its documentation gives to everybody.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// May make containers, signed with that key.
const MAY_CREATE: &str = "sv=2021-08-06&ss=b&srt=sco&sp=rwdlc&se=2100-01-01T00%3A00%3A00Z&spr=http,https&sig=ebgQUwge3Y15o5yci8guqAIn10GsWlQm3OxumB2gMvQ%3D";

/// A running server, empty but for [`CONTAINER`]; it ends with this value.
#[derive(Debug)]
pub struct Azurite {
    server: BucketServer,
}

impl Azurite {
    /// Starts a server and waits until it answers. `None`, and a message, where `$PAGODA_TEST_AZURITE` is not set.
    ///
    /// # Panics
    ///
    /// When the variable is set and the server does not start.
    pub fn start() -> Option<Self> {
        let Some(program) = std::env::var_os("PAGODA_TEST_AZURITE").filter(|program| !program.is_empty()) else {
            println!("skipped: PAGODA_TEST_AZURITE names no azurite-blob");
            return None;
        };
        let server = BucketServer::start(
            |address| {
                let mut command = Command::new(program);
                command.args(["--blobPort", &address.port().to_string()]);
                command.args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]);
                command
            },
            &format!("/{ACCOUNT}/{CONTAINER}?restype=container&{MAY_CREATE}"),
        );
        Some(Self { server })
    }

    /// The container, below a prefix.
    pub fn store(&self, prefix: &str) -> Store {
        self.store_with(prefix, StoreOptions::default())
    }

    /// As `store`, with limits of the caller's.
    pub fn store_with(&self, prefix: &str, options: StoreOptions) -> Store {
        let mut builder = MicrosoftAzureBuilder::new();
        for (key, value) in self.environment() {
            builder = builder.with_config(key.to_lowercase().parse().expect("a key of the Azure client"), value);
        }
        let container = builder.with_container_name(CONTAINER).build().expect("a client of Azure");
        Store::new_with(Arc::new(PrefixStore::new(container, prefix)), &format!("az://{CONTAINER}/{prefix}"), options)
    }

    /// What a process needs in its environment to open `az://pagoda/...` here.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AZURE_STORAGE_ENDPOINT", format!("http://{}/{ACCOUNT}", self.server.address)),
            ("AZURE_ALLOW_HTTP", "true".into()),
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.into()),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY.into()),
        ]
    }
}
