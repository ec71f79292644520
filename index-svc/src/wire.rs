//! From the wire to the domain and back. Every field at fault is collected; past here no proto type is seen.

use std::collections::HashSet;

use pagoda_ann::{Kind, Matrix, Parameters};
use pagoda_commit_log::Lsn;
use pagoda_proto::{feature::v1 as feature, index::v1 as proto};
use pagoda_server::status::Violation;

use crate::{
    build::Header,
    error::IndexError,
    generation::{Manifest, Report},
    ids::{GenerationId, ItemId, ModelVersion, SpaceId},
    record::Write,
    search::{Answer, Query},
    snapshot::{HeldSpace, Snapshot},
};

const DIM_LIMIT: usize = 4096;
const BATCH_LIMIT: usize = 4096;
const EXCLUDE_LIMIT: usize = 10_000;
const SAMPLE_QUERIES_LIMIT: usize = 1000;
const ITEM_COUNT_LIMIT: u64 = i32::MAX as u64;
const NORM_TOLERANCE: f64 = 1e-3;

/// What is wrong with a request, all of it.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, path: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation::new(path, description));
    }

    fn check(&mut self, holds: bool, path: &str, description: impl FnOnce() -> String) {
        if !holds {
            self.add(path, description());
        }
    }

    /// Keeps a good value and notes a bad one.
    fn take<T, E: ToString>(&mut self, path: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|e| self.add(path, e.to_string())).ok()
    }

    /// The request, if nothing is wrong with it.
    fn finish<T>(self, request: Option<T>) -> Result<T, IndexError> {
        match request {
            Some(request) if self.0.is_empty() => Ok(request),
            _ => Err(IndexError::Invalid(self.0)),
        }
    }
}

pub(crate) fn search_request(request: proto::SearchRequest, k_limit: usize) -> Result<Query, IndexError> {
    let mut wrong = Violations::default();
    let space = wrong.take("space_id", request.space_id.parse::<SpaceId>());
    let embedding = embedding(&mut wrong, "embedding", request.embedding, None);
    let k = request.k as usize;
    wrong.check((1..=k_limit).contains(&k), "k", || format!("expected 1 to {k_limit}, found {k}"));
    let exclude = excluded(&mut wrong, &request.exclude_item_ids);
    let parameters = parameters(request.parameters.unwrap_or_default());
    let query = space.zip(embedding).map(|(space, embedding)| Query {
        space,
        embedding,
        k,
        exclude,
        parameters,
        exact: request.exact,
    });
    wrong.finish(query)
}

/// Where the snapshot holds the space, the dimension is checked with everything else; where it does not, whoever commits says so.
pub(crate) fn upsert_request(request: proto::UpsertRequest, snapshot: &Snapshot) -> Result<Write, IndexError> {
    let mut wrong = Violations::default();
    let model = model(&mut wrong, "model_version", request.model_version);
    let held = model.as_ref().and_then(|model| snapshot.space(model.space).ok());
    let dim = held.map(|held| held.generation().manifest.embedding_dim);
    let items = items(&mut wrong, "items", request.items, dim);
    note_duplicates(&mut wrong, "items", "item_id", &items);
    wrong.finish(model.map(|model| Write::Upsert { model, items: items.into_iter().map(|(_, item)| item).collect() }))
}

pub(crate) fn delete_request(request: proto::DeleteRequest) -> Result<Write, IndexError> {
    let mut wrong = Violations::default();
    check_batch(&mut wrong, "item_ids", request.item_ids.len());
    let ids = numbered(&request.item_ids);
    let ids = ids.filter_map(|(n, id)| wrong.take(format!("item_ids[{n}]"), ItemId::new(id))).collect();
    wrong.finish(Some(Write::Delete(ids)))
}

pub(crate) fn publish_request(request: &proto::PublishGenerationRequest) -> Result<GenerationId, IndexError> {
    let mut wrong = Violations::default();
    let id = wrong.take("generation_id", request.generation_id.parse());
    wrong.finish(id)
}

/// `lsn` is the position visible now: nothing beyond it can have been covered.
pub(crate) fn header(header: proto::GenerationHeader, lsn: Lsn, values_max: u64) -> Result<Header, IndexError> {
    let mut wrong = Violations::default();
    let model = model(&mut wrong, "header.model_version", header.model_version);
    let dim = header.embedding_dim as usize;
    let dim_holds = (1..=DIM_LIMIT).contains(&dim);
    wrong.check(dim_holds, "header.embedding_dim", || format!("expected 1 to {DIM_LIMIT}, found {dim}"));
    let count_limit = (values_max / dim.max(1) as u64).min(ITEM_COUNT_LIMIT);
    let count = header.item_count;
    wrong.check((1..=count_limit).contains(&count), "header.item_count", || {
        format!("expected 1 to {count_limit} (build.values_max), found {count}")
    });
    wrong.check(header.covers_lsn <= lsn.0, "header.covers_lsn", || {
        format!("expected at most {lsn}, the position visible now, found {}", header.covers_lsn)
    });
    let sample_queries = sample_queries(&mut wrong, header.sample_queries, dim_holds.then_some(dim));
    let spec = header.spec.unwrap_or_default();
    let kind = kind_wanted(&mut wrong, &spec);
    let header = model.zip(sample_queries).map(|(model, sample_queries)| Header {
        model,
        embedding_dim: dim,
        item_count: count,
        covers: Lsn(header.covers_lsn),
        sample_queries,
        kind,
        nlist: spec.nlist as usize,
        hnsw_m: spec.hnsw_m as usize,
    });
    wrong.finish(header)
}

pub(crate) fn batch(batch: proto::ItemBatch, dim: usize) -> Result<Vec<(ItemId, Vec<f32>)>, IndexError> {
    let mut wrong = Violations::default();
    let items = items(&mut wrong, "batch.items", batch.items, Some(dim));
    wrong.finish(Some(items.into_iter().map(|(_, item)| item).collect()))
}

/// Out of order in a build's stream.
pub(crate) fn out_of_order(expected: &str, found: &str) -> IndexError {
    IndexError::Invalid(vec![Violation::new("message", format!("expected {expected}, found {found}"))])
}

/// Checks embeddings against the dimension of their space, which only the index knows.
pub(crate) fn check_dimensions(items: &[(ItemId, Vec<f32>)], dim: usize) -> Result<(), IndexError> {
    let mut wrong = Violations::default();
    for (n, (_, embedding)) in items.iter().enumerate() {
        check_dimension(&mut wrong, &format!("items[{n}].embedding"), embedding.len(), dim);
    }
    wrong.finish(Some(()))
}

pub(crate) fn search_response(answer: &Answer, held: &HeldSpace) -> proto::SearchResponse {
    let item = |found: &crate::search::Found| proto::ScoredItem {
        item_id: found.id.to_string(),
        score: found.score,
        from_delta: found.from_delta,
    };
    let manifest = &held.generation().manifest;
    proto::SearchResponse {
        items: answer.items.iter().map(item).collect(),
        exhausted: answer.exhausted,
        generation_id: held.loaded().id.to_string(),
        lsn: answer.snapshot.lsn.0,
        model_version: Some(model_to_wire(manifest.model)),
    }
}

pub(crate) fn build_response(id: &GenerationId, manifest: &Manifest) -> proto::BuildGenerationResponse {
    proto::BuildGenerationResponse { generation_id: id.to_string(), report: Some(report_to_wire(manifest)) }
}

pub(crate) fn status_response(index_name: &str, snapshot: &Snapshot) -> proto::GetIndexStatusResponse {
    proto::GetIndexStatusResponse {
        index_name: index_name.to_owned(),
        lsn: snapshot.lsn.0,
        spaces: snapshot.spaces.iter().map(space_to_wire).collect(),
        tombstone_count: snapshot.tombstone_count as u64,
    }
}

fn space_to_wire(held: &HeldSpace) -> proto::SpaceStatus {
    let manifest = &held.generation().manifest;
    proto::SpaceStatus {
        model_version: Some(model_to_wire(manifest.model)),
        generation_id: held.loaded().id.to_string(),
        published_lsn: held.published().0,
        base_count: held.base_count() as u64,
        delta_count: held.delta().len() as u64,
        report: Some(report_to_wire(manifest)),
        embedding_dim: manifest.embedding_dim as u32,
    }
}

fn report_to_wire(manifest: &Manifest) -> proto::GenerationReport {
    let Report { item_count, recall_at_100, query_count, measured_with_users, parameters, build_s } = manifest.report;
    proto::GenerationReport {
        item_count: item_count as u64,
        kind: kind_to_wire(manifest.spec.kind).into(),
        ann_recall_at_100: recall_at_100,
        query_count: query_count as u32,
        measured_with_users,
        parameters: Some(proto::SearchParameters { nprobe: parameters.nprobe, ef_search: parameters.ef_search }),
        build_s,
    }
}

fn kind_to_wire(kind: Kind) -> proto::IndexKind {
    match kind {
        Kind::Flat => proto::IndexKind::Flat,
        Kind::IvfFlat => proto::IndexKind::IvfFlat,
        Kind::IvfSq8 => proto::IndexKind::IvfSq8,
        Kind::Hnsw => proto::IndexKind::Hnsw,
    }
}

fn kind_wanted(wrong: &mut Violations, spec: &proto::IndexSpec) -> Option<Kind> {
    match proto::IndexKind::try_from(spec.kind) {
        Ok(proto::IndexKind::Unspecified) => None,
        Ok(proto::IndexKind::Flat) => Some(Kind::Flat),
        Ok(proto::IndexKind::IvfFlat) => Some(Kind::IvfFlat),
        Ok(proto::IndexKind::IvfSq8) => Some(Kind::IvfSq8),
        Ok(proto::IndexKind::Hnsw) => Some(Kind::Hnsw),
        Err(_) => {
            wrong.add("header.spec.kind", format!("expected a kind of index, found {}", spec.kind));
            None
        }
    }
}

fn model_to_wire(model: ModelVersion) -> feature::ModelVersion {
    feature::ModelVersion { space_id: model.space.to_string(), revision: model.revision }
}

fn model(wrong: &mut Violations, path: &str, model: Option<feature::ModelVersion>) -> Option<ModelVersion> {
    let Some(model) = model else {
        wrong.add(path, "expected a model version, found nothing");
        return None;
    };
    let space = wrong.take(format!("{path}.space_id"), model.space_id.parse());
    space.map(|space| ModelVersion { space, revision: model.revision })
}

fn parameters(parameters: proto::SearchParameters) -> Parameters {
    Parameters { nprobe: parameters.nprobe, ef_search: parameters.ef_search }
}

fn excluded(wrong: &mut Violations, ids: &[String]) -> Vec<ItemId> {
    let found = ids.len();
    wrong.check(found <= EXCLUDE_LIMIT, "exclude_item_ids", || {
        format!("expected at most {EXCLUDE_LIMIT} ids, found {found}")
    });
    let ids = numbered(ids).take(EXCLUDE_LIMIT);
    let ids: HashSet<ItemId> =
        ids.filter_map(|(n, id)| wrong.take(format!("exclude_item_ids[{n}]"), ItemId::new(id))).collect();
    ids.into_iter().collect()
}

/// The good items, each with its number in the request.
fn items(
    wrong: &mut Violations,
    path: &str,
    items: Vec<proto::ItemEmbedding>,
    dim: Option<usize>,
) -> Vec<(usize, (ItemId, Vec<f32>))> {
    check_batch(wrong, path, items.len());
    let mut good = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate().take(BATCH_LIMIT) {
        let id = wrong.take(format!("{path}[{n}].item_id"), ItemId::new(&item.item_id));
        let embedding = embedding(wrong, &format!("{path}[{n}].embedding"), item.embedding, dim);
        good.extend(id.zip(embedding).map(|item| (n, item)));
    }
    good
}

fn note_duplicates(wrong: &mut Violations, path: &str, field: &str, items: &[(usize, (ItemId, Vec<f32>))]) {
    let mut seen = HashSet::new();
    for (n, (id, _)) in items {
        wrong.check(seen.insert(id), &format!("{path}[{n}].{field}"), || format!("`{id}` was given before"));
    }
}

fn sample_queries(wrong: &mut Violations, queries: Vec<feature::Embedding>, dim: Option<usize>) -> Option<Matrix> {
    let found = queries.len();
    wrong.check(found <= SAMPLE_QUERIES_LIMIT, "header.sample_queries", || {
        format!("expected at most {SAMPLE_QUERIES_LIMIT}, found {found}")
    });
    let mut matrix = Matrix::empty(dim?);
    for (n, query) in queries.into_iter().enumerate().take(SAMPLE_QUERIES_LIMIT) {
        let path = format!("header.sample_queries[{n}]");
        if let Some(row) = embedding(wrong, &path, Some(query), dim) {
            wrong.take(path, matrix.push(&row));
        }
    }
    Some(matrix)
}

/// A finite vector of norm 1, of dimension `dim` where that is known.
fn embedding(
    wrong: &mut Violations,
    path: &str,
    embedding: Option<feature::Embedding>,
    dim: Option<usize>,
) -> Option<Vec<f32>> {
    let before = wrong.0.len();
    let values = embedding.unwrap_or_default().values;
    match dim {
        Some(dim) => check_dimension(wrong, path, values.len(), dim),
        None => wrong.check((1..=DIM_LIMIT).contains(&values.len()), &format!("{path}.values"), || {
            format!("expected 1 to {DIM_LIMIT} values, found {}", values.len())
        }),
    }
    for (n, value) in values.iter().enumerate().filter(|(_, value)| !value.is_finite()) {
        wrong.add(format!("{path}.values[{n}]"), format!("expected a finite number, found {value}"));
    }
    if wrong.0.len() == before {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        wrong.check((norm - 1.0).abs() <= NORM_TOLERANCE, &format!("{path}.values"), || {
            format!("expected a vector of norm 1 within {NORM_TOLERANCE}, found norm {norm}")
        });
    }
    (wrong.0.len() == before).then_some(values)
}

fn check_dimension(wrong: &mut Violations, path: &str, found: usize, expected: usize) {
    wrong.check(found == expected, &format!("{path}.values"), || format!("expected {expected} values, found {found}"));
}

fn check_batch(wrong: &mut Violations, path: &str, found: usize) {
    wrong.check((1..=BATCH_LIMIT).contains(&found), path, || {
        format!("expected 1 to {BATCH_LIMIT} of them, found {found}")
    });
}

fn numbered(ids: &[String]) -> impl Iterator<Item = (usize, &str)> {
    ids.iter().map(String::as_str).enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<T>(result: Result<T, IndexError>) -> Vec<String> {
        match result {
            Err(IndexError::Invalid(violations)) => violations.into_iter().map(|v| v.path).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("nothing was found wrong"),
        }
    }

    fn vector(values: &[f32]) -> Option<feature::Embedding> {
        Some(feature::Embedding { values: values.to_vec() })
    }

    fn item(id: &str, values: &[f32]) -> proto::ItemEmbedding {
        proto::ItemEmbedding { item_id: id.into(), embedding: vector(values) }
    }

    #[test]
    fn a_search_names_every_field_at_fault() {
        let request = proto::SearchRequest {
            space_id: "nonsense".into(),
            embedding: vector(&[0.0, f32::NAN, f32::INFINITY]),
            k: 0,
            exclude_item_ids: vec!["ok".into(), "a\0b".into()],
            ..Default::default()
        };
        let expected = ["space_id", "embedding.values[1]", "embedding.values[2]", "k", "exclude_item_ids[1]"];
        assert_eq!(paths(search_request(request, 1000)), expected);
        assert_eq!(paths(search_request(proto::SearchRequest { k: 1001, ..Default::default() }, 1000)).len(), 3);
    }

    #[test]
    fn an_upsert_names_every_field_at_fault() {
        let items = vec![
            item("a", &[1.0, 0.0]),
            item("", &[1.0, 0.0]),
            item("b", &[1.0, 1.0]),
            item("a", &[0.0, 1.0]),
            item("c", &[]),
            item("d", &[0.0, f32::NAN]),
        ];
        let request = proto::UpsertRequest { model_version: None, items };
        let expected = [
            "model_version",
            "items[1].item_id",
            "items[2].embedding.values",
            "items[4].embedding.values",
            "items[5].embedding.values[1]",
            "items[3].item_id",
        ];
        assert_eq!(paths(upsert_request(request, &Snapshot::default())), expected);
    }

    #[test]
    fn empty_and_oversized_batches_are_refused() {
        assert_eq!(paths(delete_request(proto::DeleteRequest::default())), ["item_ids"]);
        let item_ids = vec!["x".to_owned(); BATCH_LIMIT + 1];
        assert_eq!(paths(delete_request(proto::DeleteRequest { item_ids })), ["item_ids"]);
        assert_eq!(
            paths(batch(proto::ItemBatch { items: vec![item("a", &[1.0])] }, 2)),
            ["batch.items[0].embedding.values"]
        );
    }

    #[test]
    fn a_header_names_every_field_at_fault() {
        let wrong = proto::GenerationHeader {
            embedding_dim: 5000,
            covers_lsn: 8,
            spec: Some(proto::IndexSpec { kind: 99, ..Default::default() }),
            ..Default::default()
        };
        let expected = [
            "header.model_version",
            "header.embedding_dim",
            "header.item_count",
            "header.covers_lsn",
            "header.spec.kind",
        ];
        assert_eq!(paths(header(wrong, Lsn(7), 1000)), expected);
        let model_version = Some(feature::ModelVersion { space_id: "00000000000000aa".into(), revision: 0 });
        let huge = proto::GenerationHeader { model_version, embedding_dim: 10, item_count: 101, ..Default::default() };
        assert_eq!(paths(header(huge, Lsn(7), 1000)), ["header.item_count"]);
    }

    #[test]
    fn ids_that_cannot_be_ours_are_refused() {
        let request = proto::PublishGenerationRequest { generation_id: "../../x".into() };
        assert_eq!(paths(publish_request(&request)), ["generation_id"]);
    }
}
