//! A roll-out of a new model: no reply ever mixes embedding spaces, and none fails.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use pagoda_proto::{
    feature::v1::{Entity, ModelVersion},
    recall::v1::{RecallRequest, recall_service_client::RecallServiceClient},
    user::v1::{GetUserTowerStatusRequest, GetUserTowerStatusResponse},
};

use crate::harness::{Place, Up, channel, train};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_model_is_served_once_the_index_holds_its_space_and_no_call_fails() {
    let place = Place::with_model();
    let up = Up::start(&place);
    place.ok(&["refresh", "--full", "--data", "data"]);
    let old = status(&up).await.active_model.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn(call(up.user_tower, done.clone()));
    tokio::task::block_in_place(|| train(&place, "8"));
    until_loaded(&up, 2).await;
    assert_eq!(status(&up).await.active_model.as_ref(), Some(&old), "the index does not hold the new space yet");
    tokio::task::block_in_place(|| place.ok(&["refresh", "--full", "--data", "data"]));
    let new = status(&up).await.active_model.unwrap();
    assert_ne!(new.space_id, old.space_id);

    done.store(true, Ordering::Relaxed);
    let answered = caller.await.unwrap();
    assert!(answered.iter().all(|(model, generation)| (model == &old) == (*generation == answered[0].1)));
    assert!(answered.iter().any(|(model, _)| model == &old));
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

async fn status(up: &Up) -> GetUserTowerStatusResponse {
    up.users().await.get_user_tower_status(GetUserTowerStatusRequest {}).await.unwrap().into_inner()
}

async fn until_loaded(up: &Up, models: usize) {
    let wait = async {
        while status(up).await.loaded_models.len() < models {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::DEADLINE, wait).await.expect("the new model is loaded in time");
}
