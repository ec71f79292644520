//! A generation that is not good enough is not published, unless an operator forces it.

use index_svc::error::IndexError;
use pagoda_proto::{feature::v1::Embedding, index::v1 as proto};
use pagoda_server::status;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tonic::{Code, Status};

use crate::harness::{Index, item, items, memory, names, until};

/// The gates that refused, in order, and what the first one saw.
fn gates(refused: &Status) -> (String, String) {
    let (reason, metadata) = status::reason_of(refused).unwrap();
    assert_eq!((refused.code(), reason.as_str()), (Code::FailedPrecondition, "GATE_REFUSED"), "{refused}");
    (metadata["gates"].clone(), metadata["found"].clone())
}

fn forced(id: &str, operator: &str) -> proto::PublishGenerationRequest {
    proto::PublishGenerationRequest { generation_id: id.into(), forced_by: operator.into(), ..Default::default() }
}

#[tokio::test]
async fn a_refresh_that_brings_half_is_refused_with_numbers() {
    let index = Index::holding(&memory(), &[], 0..100).await;
    let id = index.built(0..49).await;
    let refused = index.publish(&id).await.unwrap_err();
    assert_eq!(gates(&refused), ("item_count_ratio".into(), "49 items, 0.4900".into()));
    assert!(refused.message().contains("at least 0.5 of the 100 items that are current"), "{refused}");
    assert_eq!(index.ids().await.len(), 100);
    index.refresh(0..50).await.unwrap();
}

#[tokio::test]
async fn what_was_written_since_the_catalog_was_read_counts_on_both_sides() {
    let index = Index::holding(&memory(), &[], 0..100).await;
    let enough = index.built(0..60).await;
    index.upsert(100..130).await.unwrap();
    index.publish(&enough).await.unwrap();
    assert_eq!(index.ids().await, names((0..60).chain(100..130)), "90 of 130");

    // What is written again is there once.
    let index = Index::holding(&memory(), &[], 0..100).await;
    let too_few = index.built(0..49).await;
    index.upsert(0..40).await.unwrap();
    let refused = index.publish(&too_few).await.unwrap_err();
    assert_eq!(gates(&refused).1, "49 items, 0.4900");

    // What was deleted is gone from either.
    let deleted = index.built(0..60).await;
    index.delete(0..50).await.unwrap();
    let refused = index.publish(&deleted).await.unwrap_err();
    assert_eq!(gates(&refused).1, "10 items (60 when it was built), 0.2000");
    assert!(refused.message().contains("of the 50 items that are current"), "{refused}");
}

#[tokio::test]
async fn an_operator_replaces_what_is_damaged_also_where_nothing_is_searched() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let (current, next) = (index.generations().await[0].generation_id.clone(), index.built(0..10).await);
    store.put(&format!("index/main/generations/{current}/manifest.json"), "damaged".into()).await.unwrap();
    let writer = Index::open(&store, &["index.roles=[write]"]).await;
    writer.publish(&next).await.unwrap_err();
    writer.publish_as(forced(&next, "ada")).await.unwrap();
    until("the generation", async || (index.ids().await == names(0..10)).then_some(())).await;
}

#[tokio::test]
async fn a_process_that_does_not_search_counts_what_was_built() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let id = index.built(0..49).await;
    let writer = Index::open(&store, &["index.roles=[write, build]"]).await;
    let refused = writer.publish(&id).await.unwrap_err();
    assert_eq!(gates(&refused).1, "49 items, 0.4900");
}

#[tokio::test]
async fn a_refresh_that_brings_nothing_is_refused_by_name() {
    let index = Index::holding(&memory(), &[], 0..4).await;
    let refused = index.build(index.header(0), vec![]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(status::violations_of(&refused)[0].path, "header.item_count");
}

#[tokio::test]
async fn not_a_number_is_refused_at_once_and_nothing_is_stored() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..4).await;
    let stored = store.list("index/main/generations").await.unwrap();
    let wrong = vec![item("a", vec![f32::NAN, 0.0, 0.0, 1.0]), item("b", vec![1.0])];
    let refused = index.build(index.header(2), wrong).await.unwrap_err();
    let paths: Vec<_> = status::violations_of(&refused).into_iter().map(|v| v.path).collect();
    assert_eq!(paths, ["batch.items[0].embedding.values[0]", "batch.items[1].embedding.values"]);
    assert_eq!(store.list("index/main/generations").await.unwrap(), stored);
}

#[tokio::test]
async fn collapsed_vectors_are_refused_with_every_other_gate_that_fails() {
    let index = Index::holding(&memory(), &[], 0..1000).await;
    let alike: Vec<_> = (0..150).map(|n| item(&format!("i{n}"), vec![0.6, 0.0, 0.0, 0.8])).collect();
    let built = index.build(index.header(150), alike).await.unwrap();
    assert_eq!(built.report.unwrap().failed_gates[0].gate, "mean_cosine");
    let refused = index.publish(&built.generation_id).await.unwrap_err();
    assert_eq!(gates(&refused), ("mean_cosine,item_count_ratio".into(), "1.0000".into()));
    assert_eq!(index.ids().await.len(), 1000);
}

#[tokio::test]
async fn an_operator_may_force_it_which_is_kept_with_the_generation() {
    let store = memory();
    let index = Index::holding(&store, &[], 0..100).await;
    let id = index.built(0..10).await;
    index.publish(&id).await.unwrap_err();
    index.publish_as(forced(&id, "ada")).await.unwrap();
    assert_eq!(index.ids().await, names(0..10));
    for index in [&index, &Index::open(&store, &[]).await] {
        let listed = index.generations().await;
        let by: Vec<_> = listed.iter().map(|g| (g.is_current, g.forced_by.as_str())).collect();
        assert_eq!(by, [(true, "ada"), (false, "")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recall_below_the_gate_is_refused_at_both_depths() {
    let set = [
        "build.recall_at_100_target=0",
        "build.recall_at_500_target=0",
        "build.recall_at_100_min=1",
        "build.recall_at_500_min=1",
    ];
    let index = Index::open(&memory(), &set).await;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut unit = || {
        let values: Vec<f32> = (0..16).map(|_| rng.random_range(-1.0..1.0)).collect();
        let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.iter().map(|v| v / norm).collect::<Vec<_>>()
    };
    let items: Vec<_> = (0..5000).map(|n| item(&format!("i{n}"), unit())).collect();
    let spec = proto::IndexSpec { kind: proto::IndexKind::IvfFlat.into(), nlist: 5, ..Default::default() };
    let sample_queries = (0..50).map(|_| Embedding { values: unit() }).collect();
    let header = proto::GenerationHeader { spec: Some(spec), embedding_dim: 16, sample_queries, ..index.header(5000) };
    let built = index.build(header, items).await.unwrap();
    let report = built.report.unwrap();
    assert!(report.ann_recall_at_100 < 0.9 && report.ann_recall_at_500.unwrap() < 0.9, "{report:?}");
    let refused = index.publish(&built.generation_id).await.unwrap_err();
    assert_eq!(gates(&refused).0, "recall_at_100,recall_at_500");
}

#[tokio::test]
async fn shards_answer_as_one_and_a_process_serves_those_of_its_own() {
    let store = memory();
    let index = Index::open(&store, &["build.shard_count=3"]).await;
    index.refresh(0..50).await.unwrap();
    index.upsert([100, 7]).await.unwrap();
    index.delete([8]).await.unwrap();
    let all: Vec<_> = (0..50).filter(|n| *n != 8).chain([100]).collect();
    assert_eq!(index.ids().await, names(all.clone()));
    let mut served = Vec::new();
    for shard in 0..3 {
        let one = Index::open(&store, &["build.shard_count=3", &format!("index.shards=[{shard}]")]).await;
        let ids = one.ids().await;
        assert!((5..40).contains(&ids.len()), "{ids:?}");
        served.extend(ids);
    }
    served.sort();
    assert_eq!(served, names(all));
}

#[tokio::test]
async fn shards_that_a_generation_does_not_have_are_refused_and_nothing_is_taken_for_ready() {
    let store = memory();
    let early = Index::open(&store, &["index.roles=[search]", "index.shards=[0, 7]"]).await;
    assert!(!early.service.troubles().now().serves_nothing, "there is nothing to serve yet");
    Index::holding(&store, &["build.shard_count=3"], 0..50).await;
    let trouble = until("the trouble", async || early.status().await.load_trouble).await;
    assert!(trouble.why.contains("index.shards names shard 7") && trouble.why.contains("has 3"), "{}", trouble.why);
    assert!(early.service.troubles().now().serves_nothing);

    let late = Index::try_open(&store, &["index.roles=[search]", "index.shards=[3]"]).await.map(drop).unwrap_err();
    assert!(matches!(late, IndexError::NoSuchShard { shard: 3, shard_count: 3 }), "{late}");
    // A generation that has them ends it.
    let wide = Index::open(&store, &["build.shard_count=8"]).await;
    wide.refresh(0..50).await.unwrap();
    until("a generation that can be searched", async || (!early.service.troubles().now().serves_nothing).then_some(()))
        .await;
    assert!(early.status().await.load_trouble.is_none() && !early.ids().await.is_empty());
}

#[tokio::test]
async fn a_shard_without_items_is_no_hindrance() {
    let index = Index::open(&memory(), &["build.shard_count=16"]).await;
    index.build(index.header(2), items(0..2)).await.unwrap();
    index.refresh(0..3).await.unwrap();
    assert_eq!(index.ids().await, names(0..3));
}
