//! Compaction: many fresh items become part of a generation, and no answer changes.

use crate::harness::{Index, memory, names, reason, until};

const SOON: [&str; 2] = ["compaction.delta_items=20", "compaction.delta_share=0.1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_fresh_items_become_part_of_a_generation() {
    let store = memory();
    let index = Index::holding(&store, &SOON, 0..50).await;
    let first = index.generations().await[0].generation_id.clone();
    index.delete([0]).await.unwrap();
    for n in 100..130 {
        index.upsert([n]).await.unwrap();
    }
    let compacted = until("a compaction", async || {
        let current = index.generations().await.remove(0);
        (current.compacted_from == first).then_some(current)
    })
    .await;
    let expected = names((1..50).chain(100..130));
    assert_eq!(index.ids().await, expected);
    let space = &index.status().await.spaces[0];
    assert!(space.base_count >= 69 && space.delta_count < 11, "{space:?}");
    assert_eq!(space.lineage.first(), Some(&first), "what it was compacted from");
    assert_eq!(space.lineage.last(), Some(&index.generations().await[0].generation_id), "and itself");
    assert_eq!(Index::open(&store, &SOON).await.ids().await, expected);
    // It took its base's place: there is nothing before it to go back to.
    assert_eq!(reason(&index.roll_back("", None).await.unwrap_err()), "NOT_PUBLISHABLE");
    assert!(compacted.is_served);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delta_that_is_half_full_is_compacted_whatever_share_of_the_generation_it_is() {
    let settings = ["compaction.delta_items=20", "compaction.delta_share=1", "write.delta_items_max=24"];
    let index = Index::holding(&memory(), &settings, 0..50).await;
    let first = index.generations().await[0].generation_id.clone();
    index.upsert(100..113).await.unwrap();
    until("a compaction", async || (index.generations().await[0].compacted_from == first).then_some(())).await;
    index.upsert(200..223).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_delta_is_a_trouble_until_an_upsert_is_taken() {
    let settings = ["compaction.delta_items=0", "write.delta_items_max=10"];
    let index = Index::holding(&memory(), &settings, 0..50).await;
    index.upsert(100..110).await.unwrap();
    assert!(index.status().await.write_trouble.is_none());
    index.upsert([110]).await.unwrap_err();
    index.delete([0]).await.unwrap();
    let trouble = index.status().await.write_trouble.unwrap();
    assert!(trouble.why.contains("write.delta_items_max"), "{}", trouble.why);
    index.delete([100]).await.unwrap();
    index.upsert([110]).await.unwrap();
    assert!(index.status().await.write_trouble.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_began_before_a_compaction_is_published_all_the_same() {
    let index = Index::holding(&memory(), &SOON, 0..50).await;
    let first = index.generations().await[0].generation_id.clone();
    let refresh = index.built(0..60).await;
    for n in 100..130 {
        index.upsert([n]).await.unwrap();
    }
    until("a compaction", async || (index.generations().await[0].compacted_from == first).then_some(())).await;
    let request = pagoda_proto::index::v1::PublishGenerationRequest {
        generation_id: refresh,
        expected_generation_id: Some(first),
        ..Default::default()
    };
    index.publish_as(request).await.unwrap();
    assert_eq!(index.ids().await, names((0..60).chain(100..130)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generations_before_are_kept_while_what_was_written_since_fits_a_delta() {
    let settings = ["compaction.delta_items=20", "compaction.delta_share=0.1", "write.delta_items_max=50"];
    let index = Index::holding(&memory(), &settings, 0..50).await;
    let first = index.generations().await[0].generation_id.clone();
    index.refresh(0..50).await.unwrap();
    for (written, kept) in [(100, 2), (200, 2), (300, 1)] {
        let base = index.generations().await[0].generation_id.clone();
        index.upsert(written..written + 20).await.unwrap();
        let listed = until("a compaction", async || {
            let listed = index.generations().await;
            (listed[0].compacted_from == base).then_some(listed)
        })
        .await;
        let before: Vec<_> = listed.iter().skip(1).map(|generation| &generation.generation_id).collect();
        assert_eq!(before, vec![&first; kept - 1], "after {written}");
    }
    assert_eq!(index.ids().await, names((0..50).chain(100..120).chain(200..220).chain(300..320)));
}
