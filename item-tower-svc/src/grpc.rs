//! The gRPC face: each rpc reads top to bottom as wire, work, wire.

use futures::{StreamExt, stream::BoxStream};
use pagoda_model::Entity;
use pagoda_proto::item::v1::{self as proto, item_tower_service_server::ItemTowerService as Rpcs};
use tonic::{Request, Response, Status};

use crate::{app::App, attributes::Declared, error::ItemTowerError, index_client::EmbeddedItem, wire};

/// Serves `pagoda.item.v1.ItemTowerService`.
#[derive(Clone, Debug)]
pub(crate) struct ItemTowerService {
    app: App,
}

impl ItemTowerService {
    pub(crate) fn new(app: App) -> Self {
        Self { app }
    }

    async fn upsert(&self, request: proto::UpsertItemsRequest) -> Result<proto::UpsertItemsResponse, ItemTowerError> {
        let status = self.app.index.status().await?;
        let in_use = self.app.models.in_use(&status.models);
        let version =
            in_use.ok_or_else(|| ItemTowerError::FullRefreshNeeded("the index has no generation yet".into()))?;
        let model = self.app.models.of_version(version).await?;
        let declared = status.declared_in(version.space);
        let items = wire::distinct_items(request.items, &model.schema().item, &declared)?;
        let embedded = self.embed(Some(version), items, &declared).await?;
        let lsn = self.app.index.upsert(version, embedded).await?;
        Ok(proto::UpsertItemsResponse { lsn: lsn.0, model_version: Some(wire::model_version(version)) })
    }

    async fn embed(
        &self,
        version: Option<pagoda_model::ModelVersion>,
        items: Vec<Entity>,
        declared: &Declared,
    ) -> Result<Vec<EmbeddedItem>, ItemTowerError> {
        let known: Vec<_> = items.iter().map(|item| (item.id.clone(), declared.of(item))).collect();
        let embedded = self.app.tower.embed(version, items).await?;
        let items = known.into_iter().zip(embedded.embeddings);
        Ok(items.map(|((id, attributes), embedding)| EmbeddedItem { id, embedding, attributes }).collect())
    }
}

#[tonic::async_trait]
impl Rpcs for ItemTowerService {
    type WatchRefreshStream = BoxStream<'static, Result<proto::WatchRefreshResponse, Status>>;

    async fn embed_items(
        &self,
        request: Request<proto::EmbedItemsRequest>,
    ) -> Result<Response<proto::EmbedItemsResponse>, Status> {
        let model = self.app.models.newest_loaded()?;
        let items = wire::items(request.into_inner().items, &model.schema().item)?;
        let embedded = self.embed(Some(model.version()), items, &Declared::default()).await?;
        Ok(Response::new(proto::EmbedItemsResponse {
            embeddings: embedded.into_iter().map(|item| wire::embedding(item.embedding)).collect(),
            model_version: Some(wire::model_version(model.version())),
        }))
    }

    async fn upsert_items(
        &self,
        request: Request<proto::UpsertItemsRequest>,
    ) -> Result<Response<proto::UpsertItemsResponse>, Status> {
        Ok(Response::new(self.upsert(request.into_inner()).await?))
    }

    async fn start_refresh(
        &self,
        request: Request<proto::StartRefreshRequest>,
    ) -> Result<Response<proto::StartRefreshResponse>, Status> {
        let wish = wire::start_refresh(request.get_ref())?;
        let refresh = self.app.refreshes.start(wish).await?;
        Ok(Response::new(proto::StartRefreshResponse { refresh: Some(wire::refresh(&refresh)) }))
    }

    async fn get_refresh(
        &self,
        request: Request<proto::GetRefreshRequest>,
    ) -> Result<Response<proto::GetRefreshResponse>, Status> {
        let refresh = self.app.refreshes.get(&request.get_ref().refresh_id)?;
        Ok(Response::new(proto::GetRefreshResponse { refresh: Some(wire::refresh(&refresh)) }))
    }

    async fn watch_refresh(
        &self,
        request: Request<proto::WatchRefreshRequest>,
    ) -> Result<Response<Self::WatchRefreshStream>, Status> {
        let steps = self.app.refreshes.watch(&request.get_ref().refresh_id)?;
        let steps = steps.map(|step| Ok(proto::WatchRefreshResponse { refresh: Some(wire::refresh(&step)) }));
        Ok(Response::new(steps.boxed()))
    }

    async fn list_refreshes(
        &self,
        _: Request<proto::ListRefreshesRequest>,
    ) -> Result<Response<proto::ListRefreshesResponse>, Status> {
        let elsewhere = self.app.refreshes.newest_elsewhere().await;
        let own = self.app.refreshes.list();
        let refreshes = elsewhere.iter().map(wire::recorded).chain(own.iter().map(wire::refresh)).collect();
        Ok(Response::new(proto::ListRefreshesResponse { refreshes }))
    }

    async fn cancel_refresh(
        &self,
        request: Request<proto::CancelRefreshRequest>,
    ) -> Result<Response<proto::CancelRefreshResponse>, Status> {
        let refresh = self.app.refreshes.cancel(&request.get_ref().refresh_id)?;
        Ok(Response::new(proto::CancelRefreshResponse { refresh: Some(wire::refresh(&refresh)) }))
    }
}
