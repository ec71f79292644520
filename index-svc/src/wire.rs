//! From the wire to the domain and back. Every field at fault is collected; past here no proto type is seen.

mod attributes;
mod search;

use std::collections::HashSet;

use pagoda_ann::{Kind, Matrix};
use pagoda_commit_log::Lsn;
use pagoda_proto::{feature::v1 as feature, index::v1 as proto};
use pagoda_server::status::Violation;

use crate::{
    attributes::Declarations,
    build::Header,
    error::IndexError,
    generation::{GateFailure, Manifest, Report},
    ids::{GenerationId, ItemId, ModelVersion, SpaceId},
    item::Item,
    record::{Expected, Write},
    request_id::RequestId,
    snapshot::{HeldSpace, RetainedSpace, Snapshot},
    state::Published,
};

pub(crate) use self::search::{batch_search_request, batch_search_response, search_request, search_response};

const DIM_LIMIT: usize = 4096;
const BATCH_LIMIT: usize = 4096;
const SAMPLE_QUERIES_LIMIT: usize = 1000;
const ITEM_COUNT_LIMIT: u64 = i32::MAX as u64;
const NORM_TOLERANCE: f64 = 1e-3;
const OPERATOR_BYTES_LIMIT: usize = 128;

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

/// Where the snapshot holds the space, the dimension is checked with everything else; where it does not, whoever commits says so.
pub(crate) fn upsert_request(request: proto::UpsertRequest, snapshot: &Snapshot) -> Result<Write, IndexError> {
    let mut wrong = Violations::default();
    let model = model(&mut wrong, "model_version", request.model_version);
    let held = model.as_ref().and_then(|model| snapshot.space(model.space).ok());
    let dim = held.map(|held| held.generation().manifest.embedding_dim);
    let items = items(&mut wrong, "items", request.items, dim);
    note_duplicates(&mut wrong, "items", "item_id", &items);
    if let Some(held) = held {
        attributes::check_declared(&mut wrong, "items", &items, &held.generation().manifest.attributes);
    }
    wrong.finish(model.map(|model| Write::Upsert { model, items: items.into_iter().map(|(_, item)| item).collect() }))
}

pub(crate) fn delete_request(request: proto::DeleteRequest) -> Result<Write, IndexError> {
    let mut wrong = Violations::default();
    check_batch(&mut wrong, "item_ids", request.item_ids.len());
    let ids = numbered(&request.item_ids);
    let ids = ids.filter_map(|(n, id)| wrong.take(format!("item_ids[{n}]"), ItemId::new(id))).collect();
    wrong.finish(Some(Write::Delete(ids)))
}

/// The generation, what has to be current, and the operator who forces it.
pub(crate) fn publish_request(
    request: proto::PublishGenerationRequest,
) -> Result<(GenerationId, Expected, Option<String>), IndexError> {
    let mut wrong = Violations::default();
    let id = wrong.take("generation_id", request.generation_id.parse());
    let expected = expected(&mut wrong, request.expected_generation_id);
    let operator = request.forced_by;
    wrong.check(operator.len() <= OPERATOR_BYTES_LIMIT && !operator.chars().any(char::is_control), "forced_by", || {
        format!("expected at most {OPERATOR_BYTES_LIMIT} bytes without control characters")
    });
    let forced_by = (!operator.is_empty()).then_some(operator);
    wrong.finish(id.zip(expected).map(|(id, expected)| (id, expected, forced_by)))
}

/// The space, the generation to go back to (none: the previous one), and what has to be current.
pub(crate) fn rollback_request(
    request: proto::RollbackGenerationRequest,
) -> Result<(SpaceId, Option<GenerationId>, Expected), IndexError> {
    let mut wrong = Violations::default();
    let space = wrong.take("space_id", request.space_id.parse());
    let target = match request.generation_id.as_str() {
        "" => Some(None),
        id => wrong.take("generation_id", id.parse()).map(Some),
    };
    let expected = expected(&mut wrong, request.expected_generation_id);
    let all = space.zip(target).zip(expected);
    wrong.finish(all.map(|((space, target), expected)| (space, target, expected)))
}

pub(crate) fn request_id(request_id: &str) -> Result<Option<RequestId>, IndexError> {
    let mut wrong = Violations::default();
    let id = match request_id {
        "" => Some(None),
        id => wrong.take("request_id", id.parse()).map(Some),
    };
    wrong.finish(id)
}

fn expected(wrong: &mut Violations, expected: Option<String>) -> Option<Expected> {
    match expected.as_deref() {
        None => Some(Expected::Any),
        Some("") => Some(Expected::Nothing),
        Some(id) => wrong.take("expected_generation_id", id.parse()).map(Expected::Generation),
    }
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
    let attributes = attributes::declarations(&mut wrong, "header.attributes", header.attributes);
    let header = model.zip(sample_queries).map(|(model, sample_queries)| Header {
        model,
        embedding_dim: dim,
        item_count: count,
        covers: Lsn(header.covers_lsn),
        sample_queries,
        kind,
        nlist: spec.nlist as usize,
        hnsw_m: spec.hnsw_m as usize,
        attributes,
    });
    wrong.finish(header)
}

pub(crate) fn batch(batch: proto::ItemBatch, header: &Header) -> Result<Vec<Item>, IndexError> {
    let mut wrong = Violations::default();
    let items = items(&mut wrong, "batch.items", batch.items, Some(header.embedding_dim));
    attributes::check_declared(&mut wrong, "batch.items", &items, &header.attributes);
    wrong.finish(Some(items.into_iter().map(|(_, item)| item).collect()))
}

/// Out of order in a build's stream.
pub(crate) fn out_of_order(expected: &str, found: &str) -> IndexError {
    IndexError::Invalid(vec![Violation::new("message", format!("expected {expected}, found {found}"))])
}

/// Checks embeddings against the dimension of their space, which only the index knows.
pub(crate) fn check_dimensions(items: &[Item], dim: usize) -> Result<(), IndexError> {
    let mut wrong = Violations::default();
    for (n, item) in items.iter().enumerate() {
        check_dimension(&mut wrong, &format!("items[{n}].embedding"), item.embedding.len(), dim);
    }
    wrong.finish(Some(()))
}

/// Checks attributes against those declared in their space, which only the index knows.
pub(crate) fn check_declared(items: &[Item], declared: &Declarations) -> Result<(), IndexError> {
    let mut wrong = Violations::default();
    for (n, item) in items.iter().enumerate() {
        attributes::check_item(&mut wrong, &format!("items[{n}]"), item, declared);
    }
    wrong.finish(Some(()))
}

pub(crate) fn build_response(id: &GenerationId, manifest: &Manifest) -> proto::BuildGenerationResponse {
    proto::BuildGenerationResponse { generation_id: id.to_string(), report: Some(report_to_wire(manifest)) }
}

pub(crate) fn status_response(index_name: &str, snapshot: &Snapshot) -> proto::GetIndexStatusResponse {
    proto::GetIndexStatusResponse {
        index_name: index_name.to_owned(),
        lsn: snapshot.lsn.0,
        spaces: snapshot.spaces.iter().map(|held| space_to_wire(held, snapshot)).collect(),
        tombstone_count: snapshot.tombstone_count as u64,
    }
}

pub(crate) fn list_response(snapshot: &Snapshot) -> proto::ListGenerationsResponse {
    let of_space = |space: &RetainedSpace| {
        let generations = space.generations.iter().enumerate();
        generations.map(|(n, published)| generation_to_wire(published, n == 0, snapshot)).collect::<Vec<_>>()
    };
    proto::ListGenerationsResponse { generations: snapshot.retained.iter().flat_map(of_space).collect() }
}

fn generation_to_wire(published: &Published, is_current: bool, snapshot: &Snapshot) -> proto::GenerationStatus {
    let served = snapshot.spaces.iter().any(|held| held.loaded().id == published.generation);
    proto::GenerationStatus {
        generation_id: published.generation.to_string(),
        model_version: Some(model_to_wire(published.model)),
        covers_lsn: published.covers.0,
        published_lsn: published.published.0,
        current_since_lsn: published.current_since.0,
        is_current,
        is_served: served,
        forced_by: published.forced_by.clone().unwrap_or_default(),
        compacted_from: published.compacted_from.last().map(ToString::to_string).unwrap_or_default(),
    }
}

fn space_to_wire(held: &HeldSpace, snapshot: &Snapshot) -> proto::SpaceStatus {
    let retained = snapshot.retained.iter().flat_map(|space| &space.generations);
    let published = retained.filter(|published| published.generation == held.loaded().id).map(|p| p.published).next();
    let manifest = &held.generation().manifest;
    proto::SpaceStatus {
        model_version: Some(model_to_wire(manifest.model)),
        generation_id: held.loaded().id.to_string(),
        published_lsn: published.unwrap_or(held.published()).0,
        base_count: held.base_count() as u64,
        delta_count: held.delta().len() as u64,
        report: Some(report_to_wire(manifest)),
        embedding_dim: manifest.embedding_dim as u32,
        attributes: attributes::declarations_to_wire(&manifest.attributes),
    }
}

fn report_to_wire(manifest: &Manifest) -> proto::GenerationReport {
    let report = &manifest.report;
    proto::GenerationReport {
        item_count: report.item_count as u64,
        kind: kind_to_wire(manifest.spec.kind).into(),
        ann_recall_at_100: report.recall_at_100,
        query_count: report.query_count as u32,
        measured_with_users: report.measured_with_users,
        parameters: Some(parameters_to_wire(report)),
        build_s: report.build_s,
        ann_recall_at_500: report.recall_at_500,
        mean_cosine: report.mean_cosine,
        failed_gates: manifest.failed_gates.iter().map(failure_to_wire).collect(),
    }
}

fn parameters_to_wire(report: &Report) -> proto::SearchParameters {
    proto::SearchParameters { nprobe: report.parameters.nprobe, ef_search: report.parameters.ef_search }
}

fn failure_to_wire(failure: &GateFailure) -> proto::GateFailure {
    let GateFailure { gate, expected, found } = failure.clone();
    proto::GateFailure { gate, expected, found }
}

fn kind_to_wire(kind: Kind) -> proto::IndexKind {
    match kind {
        Kind::Flat => proto::IndexKind::Flat,
        Kind::IvfFlat => proto::IndexKind::IvfFlat,
        Kind::IvfSq8 => proto::IndexKind::IvfSq8,
        Kind::Hnsw => proto::IndexKind::Hnsw,
        Kind::IvfPqFsRefine => proto::IndexKind::IvfPqFsRefine,
    }
}

fn kind_wanted(wrong: &mut Violations, spec: &proto::IndexSpec) -> Option<Kind> {
    match proto::IndexKind::try_from(spec.kind) {
        Ok(proto::IndexKind::Unspecified) => None,
        Ok(proto::IndexKind::Flat) => Some(Kind::Flat),
        Ok(proto::IndexKind::IvfFlat) => Some(Kind::IvfFlat),
        Ok(proto::IndexKind::IvfSq8) => Some(Kind::IvfSq8),
        Ok(proto::IndexKind::Hnsw) => Some(Kind::Hnsw),
        Ok(proto::IndexKind::IvfPqFsRefine) => Some(Kind::IvfPqFsRefine),
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

/// The good items, each with its number in the request.
fn items(
    wrong: &mut Violations,
    path: &str,
    items: Vec<proto::ItemEmbedding>,
    dim: Option<usize>,
) -> Vec<(usize, Item)> {
    check_batch(wrong, path, items.len());
    let mut good = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate().take(BATCH_LIMIT) {
        let id = wrong.take(format!("{path}[{n}].item_id"), ItemId::new(&item.item_id));
        let embedding = embedding(wrong, &format!("{path}[{n}].embedding"), item.embedding, dim);
        let attributes = attributes::of_item(wrong, &format!("{path}[{n}].attributes"), item.attributes);
        good.extend(id.zip(embedding).map(|(id, embedding)| (n, Item { id, embedding, attributes })));
    }
    good
}

fn note_duplicates(wrong: &mut Violations, path: &str, field: &str, items: &[(usize, Item)]) {
    let mut seen = HashSet::new();
    for (n, Item { id, .. }) in items {
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
pub(crate) mod tests {
    use super::*;

    pub(super) fn paths<T>(result: Result<T, IndexError>) -> Vec<String> {
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
        proto::ItemEmbedding { item_id: id.into(), embedding: vector(values), ..Default::default() }
    }

    /// A header of embeddings of two values.
    fn two_values() -> Header {
        let model_version = Some(feature::ModelVersion { space_id: "00000000000000aa".into(), revision: 0 });
        let good = proto::GenerationHeader { model_version, embedding_dim: 2, item_count: 1, ..Default::default() };
        header(good, Lsn(0), 1000).unwrap()
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
        let request = proto::UpsertRequest { model_version: None, items, request_id: String::new() };
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
        assert_eq!(paths(delete_request(proto::DeleteRequest { item_ids, ..Default::default() })), ["item_ids"]);
        assert_eq!(
            paths(batch(proto::ItemBatch { items: vec![item("a", &[1.0])] }, &two_values())),
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
        let request = proto::PublishGenerationRequest {
            generation_id: "../../x".into(),
            expected_generation_id: Some("/".into()),
            forced_by: "a\nb".into(),
        };
        assert_eq!(paths(publish_request(request)), ["generation_id", "expected_generation_id", "forced_by"]);
        let request =
            proto::RollbackGenerationRequest { space_id: "x".into(), generation_id: ".".into(), ..Default::default() };
        assert_eq!(paths(rollback_request(request)), ["space_id", "generation_id"]);
        assert_eq!(paths(request_id(&"x".repeat(65))), ["request_id"]);
    }
}
