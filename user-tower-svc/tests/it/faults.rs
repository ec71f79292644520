//! An index that is gone, refuses or hangs.

use std::time::Duration;

use pagoda_proto::recall::v1::RecallRequest;
use pagoda_server::status::{reason_of, violations_of};
use tokio::runtime::Runtime;
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
async fn an_index_that_dies_amid_a_call_is_unavailable_too() {
    let process = Runtime::new().unwrap();
    let (index, address) = process.spawn(Index::start()).await.unwrap();
    let service = Service::start_with(index, &format!("http://{address}"), &[]).await;
    service.register(bundle::version(1)).await;
    service.index.hold(&[bundle::version(1)]);
    service.eventually("ready", async |s| s.is_serving().await).await;
    service.index.state().hang = true;
    let die = async {
        service.eventually("it searches", async |s| !s.index.state().searches.is_empty()).await;
        process.shutdown_background();
    };
    let (answer, ()) = tokio::join!(service.recall(request("", &[])), die);
    let status = answer.unwrap_err();
    let reason = reason_of(&status).map(|(reason, _)| reason);
    assert_eq!((status.code(), reason.as_deref()), (Code::Unavailable, Some("INDEX_UNAVAILABLE")), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_index_says_whose_fault_it_is() {
    let service = Service::ready().await;
    for (refusal, expected) in [
        (Status::unavailable("gone"), Code::Unavailable),
        (Status::cancelled("long before the deadline"), Code::Unavailable),
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
