//! Which model answers while models and generations come and go.

use pagoda_proto::{recall::v1::RecallResponse, user::v1::EmbedUsersRequest};
use pagoda_server::status::reason_of;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    bundle,
    service::{Service, request},
};

fn space_of(reply: &RecallResponse) -> &str {
    &reply.model_version.as_ref().unwrap().space_id
}

/// The spaces of the models that are loaded, newest first.
async fn loaded(service: &Service) -> Vec<String> {
    service.status().await.loaded_models.into_iter().map(|model| model.space_id).collect()
}

fn spaces(numbers: &[u64]) -> Vec<String> {
    numbers.iter().map(|&number| bundle::version(number).space.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_a_model_is_loaded_whose_space_the_index_holds() {
    let service = Service::start(&[]).await;
    let status = service.recall(request("", &[])).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).unwrap().0.as_str()), (Code::Unavailable, "MODEL_NOT_READY"));
    assert!(status.get_details_retry_info().is_some());
    assert!(!service.is_serving().await);

    service.register(bundle::version(1)).await;
    service.index.hold(&[bundle::version(2)]);
    service.eventually("loaded", async |s| s.status().await.loaded_models.len() == 1).await;
    service.eventually("the index was seen", async |s| s.status().await.not_ready_reason.contains("holds 0")).await;
    let status = service.recall(request("", &[])).await.unwrap_err();
    let (reason, metadata) = reason_of(&status).unwrap();
    assert_eq!((status.code(), reason.as_str()), (Code::FailedPrecondition, "SPACE_NOT_HELD"));
    assert_eq!(metadata["spaces_held"], bundle::version(2).space.to_string());
    assert!(!service.is_serving().await);
    let users = EmbedUsersRequest { users: vec![Default::default()], ..Default::default() };
    assert!(service.users().embed_users(users).await.is_ok(), "embedding needs no index");

    service.index.hold(&[bundle::version(1)]);
    service.eventually("serving", async |s| s.is_serving().await).await;
    assert!(service.recall(request("", &[])).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_switch_when_the_index_has_and_walk_back_with_it() {
    let service = Service::ready().await;
    let (old, new) = (bundle::version(1), bundle::version(2));
    service.register(new).await;
    service.eventually("both loaded", async |s| s.status().await.loaded_models.len() == 2).await;
    assert_eq!(space_of(&service.recall(request("", &[])).await.unwrap()), old.space.to_string());
    // At any moment of the walk, a call is answered: what was polled may be old, the search's refusal is not.
    for held in [&[new, old][..], &[new], &[old], &[new]] {
        service.index.hold(held);
        let reply = service.recall(request("", &[])).await.unwrap();
        assert!(held.iter().any(|model| model.space.to_string() == space_of(&reply)));
    }
    service
        .eventually("the new one", async |s| s.status().await.active_model.unwrap().space_id == new.space.to_string())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_search_chooses_anew_without_waiting_for_the_poll() {
    let service = Service::start(&["index.poll_ms=3600000"]).await;
    let (one, two) = (bundle::version(1), bundle::version(2));
    service.index.hold(&[one]);
    service.register(one).await;
    service.register(two).await;
    service.eventually("both loaded", async |s| s.status().await.loaded_models.len() == 2).await;
    for model in [one, two, one] {
        service.index.hold(&[model]);
        service.eventually("answered", async |s| s.recall(request("", &[])).await.is_ok()).await;
        assert_eq!(space_of(&service.recall(request("", &[])).await.unwrap()), model.space.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_two_are_held_and_beside_them_the_newest_of_each_space_that_the_index_holds() {
    let service = Service::ready().await;
    for space in 2..=5 {
        service.register(bundle::version(space)).await;
    }
    service.eventually("the newest two, and the index's", async |s| loaded(s).await == spaces(&[5, 4, 1])).await;
    assert_eq!(space_of(&service.recall(request("", &[])).await.unwrap()), spaces(&[1])[0]);
    service.index.hold(&[bundle::version(3), bundle::version(1)]);
    service.eventually("both of the index", async |s| loaded(s).await == spaces(&[5, 4, 3, 1])).await;
    service.index.hold(&[bundle::version(5)]);
    service.eventually("nothing more of the older ones", async |s| loaded(s).await == spaces(&[5, 4])).await;
    assert_eq!(space_of(&service.recall(request("", &[])).await.unwrap()), spaces(&[5])[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_registered_again_with_other_files_is_one_model() {
    let service = Service::ready().await;
    for readme in ["one", "two", "three"] {
        let mut files = bundle::files(bundle::version(2));
        files.insert("README".into(), readme.into());
        service.register_files(bundle::version(2), files).await;
    }
    service.eventually("each once", async |s| loaded(s).await == spaces(&[2, 1])).await;
    service.register(bundle::version(1)).await;
    service.eventually("the way back", async |s| loaded(s).await == spaces(&[1, 2])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_bundle_is_passed_over() {
    let service = Service::ready().await;
    let mut files = bundle::files(bundle::version(2));
    files.insert("schema.toml".into(), b"[user]".to_vec());
    service.register_files(bundle::version(2), files).await;
    service.register(bundle::version(3)).await;
    service.eventually("the one before it stays", async |s| loaded(s).await == spaces(&[3, 1])).await;
    assert!(service.recall(request("", &[])).await.is_ok());
}
