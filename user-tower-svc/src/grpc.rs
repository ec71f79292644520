//! The rpcs: read the request, walk, write the reply.

use std::{sync::Arc, time::Duration};

use pagoda_proto::{
    recall::v1::{RecallRequest, RecallResponse, recall_service_server::RecallService},
    user::v1::{
        EmbedUsersRequest, EmbedUsersResponse, GetUserTowerStatusRequest, GetUserTowerStatusResponse,
        user_tower_service_server::UserTowerService,
    },
};
use pagoda_server::Deadline;
use tonic::{Request, Response, Status, async_trait};

use crate::{recall::Entrance, wire};

/// Both services of this process.
#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) k_limit: u32,
    /// Of a call that did not come through the stack.
    pub(crate) deadline_default: Duration,
}

#[async_trait]
impl RecallService for Grpc {
    async fn recall(&self, request: Request<RecallRequest>) -> Result<Response<RecallResponse>, Status> {
        let deadline = Deadline::of(&request, self.deadline_default);
        let recall = wire::recall(request.into_inner(), self.k_limit);
        let recalled = self.entrance.recall(&recall, deadline).await?;
        Ok(Response::new(wire::recalled(recalled)))
    }
}

#[async_trait]
impl UserTowerService for Grpc {
    async fn embed_users(&self, request: Request<EmbedUsersRequest>) -> Result<Response<EmbedUsersResponse>, Status> {
        let embedded = self.entrance.embed(wire::embed_users(request.into_inner())).await?;
        let embeddings = embedded.embeddings.iter().map(wire::embedding).collect();
        Ok(Response::new(EmbedUsersResponse { embeddings, model_version: Some(wire::model_version(embedded.version)) }))
    }

    async fn get_user_tower_status(
        &self,
        _request: Request<GetUserTowerStatusRequest>,
    ) -> Result<Response<GetUserTowerStatusResponse>, Status> {
        let active = self.entrance.active();
        let users = self.entrance.users.load();
        Ok(Response::new(GetUserTowerStatusResponse {
            active_model: active.as_ref().ok().map(|&version| wire::model_version(version)),
            loaded_models: self.entrance.tower.loaded().into_iter().map(wire::model_version).collect(),
            known_users: users.len() as u64,
            not_ready_reason: active.err().map(|error| error.to_string()).unwrap_or_default(),
            user_features_version: users.version(),
            registry_trouble: self.entrance.registry_trouble.load().as_deref().cloned().unwrap_or_default(),
        }))
    }
}
