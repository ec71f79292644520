//! The service under test, on a free port, with its store in memory.

use std::collections::BTreeMap;

use item_tower_svc::{
    app::{self, App},
    config::Config,
};
use pagoda_commit_log::Store;
use pagoda_model::ModelVersion;
use pagoda_proto::{
    feature::v1::{Entity, FeatureValue, FloatList, feature_value::Value},
    item::v1::{self as proto, item_tower_service_client::ItemTowerServiceClient},
};
use pagoda_registry::{Kind, Registry};
use pagoda_server::{ServerArgs, config};
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Status, transport::Channel};

use crate::{bundle, index::Index};

pub(crate) type Client = ItemTowerServiceClient<Channel>;

/// A running service and what is around it.
pub(crate) struct Service {
    pub(crate) client: Client,
    pub(crate) index: Index,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<()>,
}

impl Service {
    /// With an empty registry.
    pub(crate) async fn start() -> Self {
        let (index, address) = Index::start().await;
        let set = |key: &str, value: &str| format!("{key}={value}");
        let set = vec![
            set("peers.index", &format!("http://{address}")),
            set("refresh.batch_size", "2"),
            set("models.poll_ms", "10"),
            set("log.filter", "off"),
        ];
        let config: Config = config::load(&ServerArgs { set, ..ServerArgs::default() }).unwrap();
        let store = Store::open("memory://").unwrap();
        let registry = Registry::open(store.clone()).await.unwrap();
        let app = App::build_on(store.clone(), &config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            app::run_on(app, &config, listener, async { drop(stopped.await) }).await.unwrap();
        });
        let client = Client::connect(format!("http://{address}")).await.unwrap();
        Self { client, index, store, registry, stop, ended }
    }

    /// With a model in the registry.
    pub(crate) async fn with_model() -> Self {
        let service = Self::start().await;
        service.register(bundle::version(1)).await;
        service
    }

    pub(crate) async fn register(&self, version: ModelVersion) {
        self.register_files(version, bundle::files(version)).await;
    }

    pub(crate) async fn register_files(&self, version: ModelVersion, files: BTreeMap<String, Vec<u8>>) {
        let files = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        self.registry.publish(Kind::Model, &version.to_string(), json!({}), files).await.unwrap();
    }

    /// Publishes a catalog of rows such as `a,1|0`; returns its version.
    pub(crate) async fn catalog(&self, rows: &[&str]) -> u64 {
        self.catalog_with(bundle::SCHEMA, rows).await
    }

    pub(crate) async fn catalog_with(&self, schema: &str, rows: &[&str]) -> u64 {
        let table = format!("item_id,image\n{}\n", rows.join("\n"));
        let files =
            BTreeMap::from([("schema.toml".to_owned(), schema.to_owned().into()), ("items.csv".into(), table.into())]);
        self.registry.publish(Kind::Catalog, "items", json!({}), files).await.unwrap().version
    }

    pub(crate) async fn start_refresh(
        &mut self,
        mode: proto::RefreshMode,
        catalog_version: u64,
    ) -> Result<proto::Refresh, Status> {
        let request = proto::StartRefreshRequest { catalog_version, mode: mode.into(), ..Default::default() };
        Ok(self.client.start_refresh(request).await?.into_inner().refresh.unwrap())
    }

    /// The steps of a refresh up to its end.
    pub(crate) async fn watch(&mut self, refresh_id: &str) -> Vec<proto::Refresh> {
        let request = proto::WatchRefreshRequest { refresh_id: refresh_id.to_owned() };
        let mut stream = self.client.watch_refresh(request).await.unwrap().into_inner();
        let mut steps = Vec::new();
        while let Some(step) = stream.message().await.unwrap() {
            steps.push(step.refresh.unwrap());
        }
        steps
    }

    /// Refreshes from the newest catalog and returns the end.
    pub(crate) async fn refresh(&mut self, mode: proto::RefreshMode) -> proto::Refresh {
        let started = self.start_refresh(mode, 0).await.unwrap();
        self.watch(&started.refresh_id).await.pop().unwrap()
    }
}

/// An item as a caller sends it.
pub(crate) fn item(id: &str, image: &[f32]) -> Entity {
    let value = Some(Value::Floats(FloatList { values: image.to_vec() }));
    Entity { id: id.into(), features: [("image".to_owned(), FeatureValue { value })].into() }
}
