//! BuildGeneration, PublishGeneration and RollbackGeneration.

use pagoda_ann::{Kind, Matrix};
use pagoda_commit_log::Lsn;
use pagoda_proto::{feature::v1 as feature, index::v1 as proto};
use pagoda_server::status::Violation;

use super::{DIM_LIMIT, Violations, attributes, embedding, items, model};
use crate::{
    build::Header,
    error::IndexError,
    ids::{GenerationId, SpaceId},
    item::Item,
    record::Expected,
};

const SAMPLE_QUERIES_LIMIT: usize = 1000;
const ITEM_COUNT_LIMIT: u64 = i32::MAX as u64;
const OPERATOR_BYTES_LIMIT: usize = 128;

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

fn expected(wrong: &mut Violations, expected: Option<String>) -> Option<Expected> {
    match expected.as_deref() {
        None => Some(Expected::Any),
        Some("") => Some(Expected::Nothing),
        Some(id) => wrong.take("expected_generation_id", id.parse()).map(Expected::Generation),
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

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{item, paths},
        *,
    };

    /// A header of embeddings of two values.
    fn two_values() -> Header {
        let model_version = Some(feature::ModelVersion { space_id: "00000000000000aa".into(), revision: 0 });
        let good = proto::GenerationHeader { model_version, embedding_dim: 2, item_count: 1, ..Default::default() };
        header(good, Lsn(0), 1000).unwrap()
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
    fn a_batch_of_another_dimension_is_refused() {
        let items = vec![item("a", &[1.0])];
        assert_eq!(paths(batch(proto::ItemBatch { items }, &two_values())), ["batch.items[0].embedding.values"]);
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
    }
}
