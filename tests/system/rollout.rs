//! A roll-out of a new model: no reply ever mixes embedding spaces, and none fails.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use pagoda_proto::{
    feature::v1::{Entity, ModelVersion},
    recall::v1::{RecallRequest, recall_service_client::RecallServiceClient},
    user::v1::{
        GetUserTowerStatusRequest, GetUserTowerStatusResponse, user_tower_service_client::UserTowerServiceClient,
    },
};
use tonic::transport::Channel;

use crate::harness::{DEADLINE, Place, Service, Up, channel, train};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_model_is_served_once_the_index_holds_its_space_and_no_call_fails() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let old = status(up.users().await).await.active_model.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn(call(up.user_tower, done.clone()));
    tokio::task::block_in_place(|| train(&place, "8"));
    until_loaded(&up, 2).await;
    assert_eq!(
        status(up.users().await).await.active_model.as_ref(),
        Some(&old),
        "the index does not hold the new space yet"
    );
    tokio::task::block_in_place(|| place.ok(&["refresh", "--full", "--data", "data"]));
    let new = status(up.users().await).await.active_model.unwrap();
    assert_ne!(new.space_id, old.space_id);

    done.store(true, Ordering::Relaxed);
    let answered = caller.await.unwrap();
    assert!(answered.iter().all(|(model, generation)| (model == &old) == (*generation == answered[0].1)));
    assert!(answered.iter().any(|(model, _)| model == &old));
    up.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_are_registered_before_the_next_refresh_take_nothing_away_also_not_from_a_process_that_starts_then()
{
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let old = status(up.users().await).await.active_model.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn(call(up.user_tower, done.clone()));
    tokio::task::block_in_place(|| ["8", "9"].map(|seed| train(&place, seed)));
    until_loaded(&up, 3).await;
    let index = format!("peers.index=http://{}", up.index);
    let started = tokio::task::block_in_place(|| Service::start(&place, "user-tower-svc", &[&index]));
    let users = UserTowerServiceClient::new(channel(started.address).await);
    until("the process is ready", async || status(users.clone()).await.active_model.as_ref() == Some(&old)).await;
    let user = Entity { id: "u1".into(), ..Default::default() };
    let request = RecallRequest { user: Some(user), k: 20, ..Default::default() };
    let reply = RecallServiceClient::new(channel(started.address).await).recall(request).await.unwrap().into_inner();
    assert_eq!(reply.model_version, Some(old.clone()));

    done.store(true, Ordering::Relaxed);
    assert!(caller.await.unwrap().iter().all(|(model, _)| *model == old));
    tokio::task::block_in_place(|| place.ok(&["refresh", "--full", "--data", "data"]));
    assert_ne!(status(up.users().await).await.active_model, Some(old), "the newest, once the index holds its space");
    tokio::task::block_in_place(|| started.stop());
    up.stop();
}

/// Calls Recall without a pause; returns which model and generation answered each call. No call may fail.
pub(crate) async fn call(address: std::net::SocketAddr, done: Arc<AtomicBool>) -> Vec<(ModelVersion, String)> {
    let mut recall = RecallServiceClient::new(channel(address).await);
    let mut answered = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let user = Entity { id: "u1".into(), ..Default::default() };
        let request = RecallRequest { user: Some(user), k: 20, ..Default::default() };
        let reply = recall.recall(request).await.expect("no call fails during a roll-out").into_inner();
        answered.push((reply.model_version.unwrap(), reply.index_version.unwrap().generation_id));
    }
    answered
}

async fn status(mut users: UserTowerServiceClient<Channel>) -> GetUserTowerStatusResponse {
    users.get_user_tower_status(GetUserTowerStatusRequest {}).await.unwrap().into_inner()
}

async fn until_loaded(up: &Up, models: usize) {
    let users = up.users().await;
    until("new models are loaded", async || status(users.clone()).await.loaded_models.len() >= models).await;
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
