//! What the index is filled with: the benchmark's items, each with a number and a tag, then fresh ones and deletes.
//!
//! An id is the row in eight digits, so that the generation's rows, which are in the order of ids, are the data's. The numbers are the rows in a
//! scattered order, and the tag is `a` for the lower half of the numbers: a filter's rows lie anywhere.

use std::time::Instant;

use futures::stream;
use pagoda_ann::Matrix;
use pagoda_proto::{
    feature::v1::Embedding,
    index::v1::{
        Attribute, AttributeDeclaration, AttributeKind, BuildGenerationRequest, DeleteRequest, GenerationHeader,
        IndexSpec, ItemBatch, ItemEmbedding, TextList, UpsertRequest, attribute, build_generation_request::Message,
    },
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{
    Fault,
    target::{Target, model},
};

pub(crate) const NUMBER: &str = "n";
pub(crate) const TAG: &str = "tag";
/// A prime, so that its multiples visit every row once.
const SCATTER: usize = 611_953;
const BATCH: usize = 1000;
/// Fresh items lie this far from items.
const FRESH_NOISE: f32 = 0.3;

/// Streams all items into a generation. `kind` is the proto's; 0: chosen by size.
pub(crate) async fn build(target: &Target, kind: i32) -> Result<Value, Fault> {
    let items = target.items.clone();
    let rows = items.rows();
    let queries = &target.tuning_users;
    let header = GenerationHeader {
        model_version: model(),
        embedding_dim: items.dim() as u32,
        item_count: rows as u64,
        sample_queries: (0..queries.rows()).map(|row| embedding(queries.row(row as u32))).collect(),
        spec: Some(IndexSpec { kind, ..Default::default() }),
        attributes: vec![declare(NUMBER, AttributeKind::Integer), declare(TAG, AttributeKind::Text)],
        ..Default::default()
    };
    let batches = (0..rows).step_by(BATCH).map(move |first| {
        let items = (first..rows.min(first + BATCH)).map(|row| item(row, items.row(row as u32), rows)).collect();
        Message::Batch(ItemBatch { items })
    });
    let messages = std::iter::once(Message::Header(header)).chain(batches);
    let messages = messages.map(|message| BuildGenerationRequest { message: Some(message) });
    let built = target.client(0).build_generation(stream::iter(messages)).await?.into_inner();
    let report = built.report.ok_or("a build without a report")?;
    Ok(json!({
        "generation_id": built.generation_id, "build_s": report.build_s, "recall_at_100": report.ann_recall_at_100,
        "kind": report.kind, "failed_gates": report.failed_gates.len(),
    }))
}

/// Upserts fresh items and deletes one in so many of the others; says how long a batch took on average.
pub(crate) async fn fill(target: &Target, upserts: usize, delete_one_in: usize) -> Result<Value, Fault> {
    let (mut rng, rows) = (ChaCha8Rng::seed_from_u64(1), target.items.rows());
    let fresh: Vec<_> = (0..upserts).map(|n| item(rows + n, &near(&mut rng, &target.items), rows)).collect();
    let began = Instant::now();
    let mut lsn = 0;
    for batch in fresh.chunks(BATCH) {
        lsn = upsert(target, batch.to_vec()).await?;
    }
    let upsert_s = began.elapsed().as_secs_f64();
    let deleted: Vec<_> = (0..rows).step_by(delete_one_in).map(id).collect();
    for batch in deleted.chunks(BATCH) {
        lsn = delete(target, batch.to_vec()).await?;
    }
    Ok(json!({"lsn": lsn, "upsert_s": upsert_s, "upserted": upserts, "deleted": deleted.len()}))
}

/// Writes items; the position of the write.
pub(crate) async fn upsert(target: &Target, items: Vec<ItemEmbedding>) -> Result<u64, Fault> {
    let request = UpsertRequest { model_version: model(), items, ..Default::default() };
    Ok(target.client(0).upsert(request).await?.into_inner().lsn)
}

/// Deletes items; the position of the write.
pub(crate) async fn delete(target: &Target, item_ids: Vec<String>) -> Result<u64, Fault> {
    let request = DeleteRequest { item_ids, ..Default::default() };
    Ok(target.client(0).delete(request).await?.into_inner().lsn)
}

/// The item of a row; rows beyond the data's are fresh items.
pub(crate) fn item(row: usize, values: &[f32], rows: usize) -> ItemEmbedding {
    let number = row % rows * SCATTER % rows;
    let tag = if number < rows / 2 { "a" } else { "b" };
    let attribute = |name: &str, value| Attribute { name: name.into(), value: Some(value) };
    let attributes = vec![
        attribute(NUMBER, attribute::Value::Integer(number as i64)),
        attribute(TAG, attribute::Value::Texts(TextList { texts: vec![tag.into()] })),
    ];
    ItemEmbedding { item_id: id(row), embedding: Some(embedding(values)), attributes }
}

fn id(row: usize) -> String {
    format!("{row:08}")
}

fn embedding(values: &[f32]) -> Embedding {
    Embedding { values: values.to_vec() }
}

fn declare(name: &str, kind: AttributeKind) -> AttributeDeclaration {
    AttributeDeclaration { name: name.into(), kind: kind.into() }
}

fn near(rng: &mut ChaCha8Rng, items: &Matrix) -> Vec<f32> {
    let row = rng.random_range(0..items.rows()) as u32;
    let spread = FRESH_NOISE / (items.dim() as f32).sqrt();
    let noisy: Vec<f32> =
        items.row(row).iter().map(|value| value + spread * rng.sample::<f32, _>(rand_distr::StandardNormal)).collect();
    let norm = noisy.iter().map(|value| value * value).sum::<f32>().sqrt();
    noisy.iter().map(|value| value / norm).collect()
}
