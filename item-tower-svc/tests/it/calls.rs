//! EmbedItems and UpsertItems.

use pagoda_proto::item::v1 as proto;
use pagoda_registry::FileRef;
use pagoda_server::status::{reason_of, violations_of};
use tonic::Code;

use crate::{
    bundle,
    service::{Service, item},
};

#[tokio::test]
async fn without_a_model_calls_are_told_to_come_back_and_a_model_that_is_registered_is_found() {
    let mut service = Service::start().await;
    let request = proto::EmbedItemsRequest { items: vec![item("a", &[3.0, 4.0])] };
    let status = service.client.embed_items(request.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).unwrap().0.as_str()), (Code::Unavailable, "MODEL_NOT_READY"));
    let status = service.start_refresh(proto::RefreshMode::Full, 0).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).unwrap().0.as_str()), (Code::Unavailable, "MODEL_NOT_READY"));
    service.register(bundle::version(1)).await;
    let embedded = loop {
        match service.client.embed_items(request.clone()).await {
            Ok(embedded) => break embedded.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(embedded.embeddings[0].values, [0.6, 0.8]);
    assert_eq!(embedded.model_version.unwrap().space_id, bundle::version(1).space.to_string());
}

#[tokio::test]
async fn a_newest_model_whose_bytes_changed_is_refused_and_the_one_before_it_embeds_also_after_a_restart() {
    let before = Service::with_model().await;
    let version = bundle::version(2);
    before.register(version).await;
    let manifest = FileRef::of(&bundle::files(version)["manifest.json"].clone().into());
    before.store.put(&manifest.path(), "changed".into()).await.unwrap();

    let mut service = Service::start_on(before.store.clone()).await;
    service.catalog(&["a,1|0"]).await;
    let status = service.start_refresh(proto::RefreshMode::Full, 0).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).unwrap().0.as_str()), (Code::FailedPrecondition, "MODEL_REFUSED"));
    assert!(status.message().contains("file `manifest.json` of model 2 is corrupt"), "{status}");
    let request = proto::EmbedItemsRequest { items: vec![item("a", &[3.0, 4.0])] };
    let embedded = service.client.embed_items(request).await.unwrap().into_inner();
    assert_eq!(embedded.model_version.unwrap().space_id, bundle::version(1).space.to_string());
}

#[tokio::test]
async fn every_field_at_fault_is_named() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0"]).await;
    service.refresh(proto::RefreshMode::Full).await;
    let items = vec![item("a", &[1.0]), item("", &[1.0, f32::NAN]), item("b", &[1.0, 1.0]), item("b", &[1.0, 1.0])];
    let status = service.client.upsert_items(proto::UpsertItemsRequest { items }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let paths: Vec<_> = violations_of(&status).into_iter().map(|v| v.path).collect();
    let image = |i| format!(r#"items[{i}].features["image"].floats"#);
    assert_eq!(paths, [image(0), "items[1].id".into(), image(1), "items[3].id".into()]);
    assert!(service.index.held().upserts.is_empty());
}

#[tokio::test]
async fn an_upsert_uses_the_model_of_the_current_generation_not_the_newest() {
    let mut service = Service::with_model().await;
    let request = proto::UpsertItemsRequest { items: vec![item("new", &[0.0, 2.0])] };
    let status = service.client.upsert_items(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "no generation yet: {status:?}");
    service.catalog(&["a,1|0"]).await;
    service.refresh(proto::RefreshMode::Full).await;
    // So many that the current generation's model is none of the newest that are kept loaded.
    for space in 2..6 {
        service.register(bundle::version(space)).await;
    }
    let upserted = service.client.upsert_items(request).await.unwrap().into_inner();
    assert_eq!(upserted.model_version.unwrap().space_id, bundle::version(1).space.to_string());
    assert_eq!(upserted.lsn, service.index.held().lsn);
    assert_eq!(service.index.held().items["new"], [0.0, 1.0]);
}
