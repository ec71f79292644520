//! What an operator chooses from: what is current, what was, and what the store has besides.

use pagoda_proto::{
    feature::v1::ModelVersion,
    index::v1::{self as proto, GenerationState, GenerationStatus, index_service_server::IndexService as _},
};
use tonic::Request;

use crate::harness::{Index, item, items, memory, names, until};

const OTHER_SPACE: &str = "00000000000000bb";

async fn all(index: &Index) -> Vec<GenerationStatus> {
    let request = Request::new(proto::ListGenerationsRequest { include_unpublished: true });
    index.service.list_generations(request).await.unwrap().into_inner().generations
}

fn states(listed: &[GenerationStatus]) -> Vec<(&str, GenerationState)> {
    listed.iter().map(|one| (one.generation_id.as_str(), one.state())).collect()
}

fn failed(one: &GenerationStatus) -> Vec<&str> {
    one.report.iter().flat_map(|report| &report.failed_gates).map(|failure| failure.gate.as_str()).collect()
}

fn publication(id: &str, forced_by: &str) -> proto::PublishGenerationRequest {
    proto::PublishGenerationRequest { generation_id: id.into(), forced_by: forced_by.into(), ..Default::default() }
}

/// Builds in another space than the harness does.
async fn built_elsewhere(index: &Index, items: Vec<proto::ItemEmbedding>) -> String {
    let model_version = Some(ModelVersion { space_id: OTHER_SPACE.into(), revision: 0 });
    let header = proto::GenerationHeader { model_version, ..index.header(items.len()) };
    index.build(header, items).await.unwrap().generation_id
}

#[tokio::test]
async fn what_can_be_done_with_each_generation_in_the_store_is_said() {
    let store = memory();
    let set = ["generations.orphan_age_commits=20", "generations.retained_max=1"];
    let index = Index::holding(&store, &set, 0..100).await;
    let first = index.generations().await.remove(0);
    let built = index.built(0..90).await;
    let few = index.built(0..20).await;
    let alike = (0..150).map(|n| item(&format!("i{n}"), vec![0.6, 0.0, 0.0, 0.8])).collect();
    let collapsed = index.build(index.header(150), alike).await.unwrap().generation_id;
    let unfinished = index.built(0..90).await;
    store.delete(&format!("index/main/generations/{unfinished}/manifest.json")).await.unwrap();
    let second = index.refresh(0..80).await.unwrap();

    let listed = all(&index).await;
    let mut expected = [
        (second.as_str(), GenerationState::Current),
        (&first.generation_id, GenerationState::Retained),
        (&built, GenerationState::Built),
        (&few, GenerationState::Refused),
        (&collapsed, GenerationState::Refused),
    ];
    let mut found = states(&listed);
    assert_eq!(found[..2], expected[..2]);
    // Within one position of the log the clock decides, and it may not have moved on.
    found[2..].sort_unstable_by_key(|one| one.0);
    expected[2..].sort_unstable_by_key(|one| one.0);
    assert_eq!(found, expected);
    let of = |id: &str| listed.iter().find(|one| one.generation_id == id).unwrap();
    assert_eq!((failed(of(&few)), failed(of(&collapsed))), (vec!["item_count_ratio"], vec!["mean_cosine"]));
    assert!(failed(of(&built)).is_empty() && of(&built).published_lsn == 0);
    let report = of(&first.generation_id).report.as_ref().unwrap();
    assert_eq!((report.item_count, report.ann_recall_at_100), (100, 1.0));
    assert!(listed.iter().all(|one| one.built_ms.unwrap() > 1_600_000_000_000));
    assert_eq!(states(&index.generations().await), expected[..2], "nothing else unless it is asked for");

    // What is said holds.
    index.publish(&few).await.unwrap_err();
    index.publish(&built).await.unwrap();
    // A third publication, with one generation retained: nothing can be done with the first, and it goes.
    index.publish(&first.generation_id).await.unwrap_err();
    until("the collection", async || {
        all(&index).await.iter().all(|one| one.generation_id != first.generation_id).then_some(())
    })
    .await;
    for n in 0..10 {
        index.upsert([n]).await.unwrap();
    }
    let listed = all(&index).await;
    let few = listed.iter().find(|one| one.generation_id == few).unwrap();
    assert_eq!(few.state(), GenerationState::Expired, "{few:?}");
    index.publish_as(publication(&few.generation_id, "ada")).await.unwrap_err();
}

#[tokio::test]
async fn what_cannot_be_read_at_the_moment_is_listed_without_its_report() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let first = index.generations().await.remove(0).generation_id;
    let second = index.refresh(0..80).await.unwrap();
    store.delete(&format!("index/main/generations/{first}/manifest.json")).await.unwrap();
    let listed = index.generations().await;
    assert_eq!(states(&listed), [(&*second, GenerationState::Current), (&*first, GenerationState::Retained)]);
    assert!(listed[0].report.is_some() && listed[1].report.is_none());
}

#[tokio::test]
async fn the_current_generation_of_an_older_space_is_published_again_past_the_gates_that_it_passed_or_not() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let forced = index.built(0..10).await;
    index.publish(&forced).await.unwrap_err();
    index.publish_as(publication(&forced, "ada")).await.unwrap();
    let newer = built_elsewhere(&index, items(0..100)).await;
    index.publish(&newer).await.unwrap();
    assert_eq!(states(&index.generations().await)[0].0, newer);

    index.publish(&forced).await.unwrap();
    let lsn = index.lsn();
    for index in [&index, &Index::open(&store, &[]).await] {
        let listed = index.generations().await;
        assert_eq!((listed[0].generation_id.as_str(), listed[0].forced_by.as_str()), (forced.as_str(), "ada"));
        assert_eq!(index.status().await.spaces[0].generation_id, forced);
        assert_eq!(index.ids().await, names(0..10));
    }
    index.publish(&forced).await.unwrap();
    assert_eq!(index.lsn(), lsn, "a second time changes nothing");
    index.roll_back("", None).await.unwrap();
    assert_eq!(index.ids().await, names(0..100), "what it replaced is what it had replaced");
}
