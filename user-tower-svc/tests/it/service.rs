//! The service under test, on a free port, with its store in a directory of its own.

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

use pagoda_commit_log::Store;
use pagoda_model::{Entity, FeatureValue, ModelVersion, Schema};
use pagoda_proto::{
    feature::v1 as feature,
    recall::v1::{RecallRequest, RecallResponse, recall_service_client::RecallServiceClient},
    user::v1::{
        GetUserTowerStatusRequest, GetUserTowerStatusResponse, user_tower_service_client::UserTowerServiceClient,
    },
};
use pagoda_registry::{Kind, Registry};
use pagoda_server::{ServerArgs, config};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use user_tower_svc::{app, config::Config};

use crate::{bundle, index::Index};

/// A running service and what is around it.
pub(crate) struct Service {
    pub(crate) index: Index,
    pub(crate) registry: Registry,
    channel: Channel,
    _store: TempDir,
}

impl Service {
    /// With an empty registry and an empty index.
    pub(crate) async fn start(set: &[&str]) -> Self {
        let (index, address) = Index::start().await;
        Self::start_with(index, &format!("http://{address}"), set).await
    }

    /// With an index somewhere.
    pub(crate) async fn start_with(index: Index, address: &str, set: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().to_str().unwrap();
        let own = [format!("store.url={url}"), format!("peers.index={address}")];
        let fast = ["registry.poll_ms=10", "index.poll_ms=10", "limits.deadline_ms_default=10000"];
        let set = own.into_iter().chain(fast.iter().chain(set).map(|&s| s.to_owned())).collect();
        let config: Config = config::load(&ServerArgs { set, ..ServerArgs::default() }).unwrap();
        let registry = Registry::open(Store::open(url).unwrap()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { app::run(config, listener, std::future::pending()).await.unwrap() });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { index, registry, channel, _store: dir }
    }

    /// With a model, a generation of its space and the user `known`, whose history is c, b, a.
    pub(crate) async fn ready() -> Self {
        Self::ready_with(&[]).await
    }

    /// The same with further settings.
    pub(crate) async fn ready_with(set: &[&str]) -> Self {
        let service = Self::start(set).await;
        service.register_users().await;
        service.register(bundle::version(1)).await;
        service.index.hold(&[bundle::version(1)]);
        service.eventually("ready", async |s| s.is_serving().await && s.status().await.known_users == 1).await;
        service
    }

    pub(crate) async fn register(&self, version: ModelVersion) {
        self.register_files(version, bundle::files(version)).await;
    }

    pub(crate) async fn register_files(&self, version: ModelVersion, files: BTreeMap<String, Vec<u8>>) {
        let files = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        self.registry.publish(Kind::Model, &version.to_string(), json!({}), files).await.unwrap();
    }

    async fn register_users(&self) {
        let schema = Schema::from_toml(bundle::SCHEMA).unwrap();
        let history = FeatureValue::Texts(["c", "b", "a"].map(String::from).to_vec());
        let features = [("taste", FeatureValue::Floats(vec![1.0, 0.0])), ("history", history)];
        let known = Entity { id: "known".into(), features: features.map(|(k, v)| (k.to_owned(), v)).into() };
        let table = pagoda_dataset::write_entities_parquet(&schema.user, &[known], &[None]).unwrap();
        let files =
            BTreeMap::from([("schema.toml".to_owned(), bundle::SCHEMA.into()), ("users.parquet".into(), table.into())]);
        self.registry.publish(Kind::UserFeatures, "users", json!({}), files).await.unwrap();
    }

    pub(crate) async fn recall(&self, request: RecallRequest) -> Result<RecallResponse, Status> {
        Ok(RecallServiceClient::new(self.channel.clone()).recall(request).await?.into_inner())
    }

    pub(crate) fn users(&self) -> UserTowerServiceClient<Channel> {
        UserTowerServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn status(&self) -> GetUserTowerStatusResponse {
        self.users().get_user_tower_status(GetUserTowerStatusRequest {}).await.unwrap().into_inner()
    }

    pub(crate) async fn is_serving(&self) -> bool {
        let service = "pagoda.recall.v1.RecallService".to_owned();
        let reply = HealthClient::new(self.channel.clone()).check(HealthCheckRequest { service }).await;
        reply.unwrap().into_inner().status() == ServingStatus::Serving
    }

    /// Polls until `holds`, for ten seconds at most.
    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self).await {
            assert!(started.elapsed() < Duration::from_secs(10), "never came true: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A request for two candidates of a user.
pub(crate) fn request(id: &str, features: &[(&str, feature::feature_value::Value)]) -> RecallRequest {
    let value = |v: &feature::feature_value::Value| feature::FeatureValue { value: Some(v.clone()) };
    let features = features.iter().map(|(name, v)| ((*name).to_owned(), value(v))).collect();
    RecallRequest { user: Some(feature::Entity { id: id.into(), features }), k: 2, ..Default::default() }
}

/// The ids of a reply, best first.
pub(crate) fn ids(reply: &RecallResponse) -> Vec<&str> {
    reply.candidates.iter().map(|candidate| candidate.item_id.as_str()).collect()
}

/// Fails when `future` takes longer than it may.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.expect("it takes too long")
}
