//! An index that is gone, refuses or hangs.

use std::time::Duration;

use pagoda_proto::recall::v1::RecallRequest;
use pagoda_server::status::{reason_of, violations_of};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    bundle,
    index::Index,
    service::{Service, request, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_is_unavailable_and_one_may_retry() {
    let service = Service::start_with(Index::default(), "http://127.0.0.1:1", &[]).await;
    service.register(bundle::version(1)).await;
    service.eventually("loaded", async |s| s.status().await.loaded_models.len() == 1).await;
    let status = service.recall(request("", &[])).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).unwrap().0.as_str()), (Code::Unavailable, "INDEX_UNAVAILABLE"));
    assert!(status.get_details_retry_info().is_some());
    assert!(!service.is_serving().await);
    let status = service.recall(RecallRequest { k: 0, ..request("", &[]) }).await.unwrap_err();
    assert_eq!(violations_of(&status)[0].path, "k", "what is wrong with the request is said all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_index_says_whose_fault_it_is() {
    let service = Service::ready().await;
    for (refusal, expected) in [
        (Status::unavailable("gone"), Code::Unavailable),
        (Status::resource_exhausted("busy"), Code::ResourceExhausted),
        (Status::invalid_argument("k"), Code::Internal),
    ] {
        service.index.state().refuse = Some(refusal);
        assert_eq!(service.recall(request("", &[])).await.unwrap_err().code(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_travels_to_the_index_and_ends_the_call() {
    let service = Service::ready_with(&["limits.deadline_ms_default=1000"]).await;
    service.index.state().hang = true;
    let status = within(Duration::from_secs(5), service.recall(request("", &[]))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(service.index.state().searches.last().unwrap().1.is_some(), "grpc-timeout was sent");
}
