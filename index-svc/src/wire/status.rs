//! What is answered about generations and the index.

use pagoda_ann::Kind;
use pagoda_proto::index::v1 as proto;

use super::{attributes, model_to_wire};
use crate::{
    generation::{GateFailure, Manifest, Report},
    ids::{GenerationId, SpaceId},
    listing::{Retained, Unpublished},
    snapshot::{HeldSpace, RetainedSpace, Snapshot},
    state::Published,
    troubles::{Known, Trouble},
};

pub(crate) fn build_response(id: &GenerationId, manifest: &Manifest) -> proto::BuildGenerationResponse {
    proto::BuildGenerationResponse { generation_id: id.to_string(), report: Some(report_to_wire(manifest)) }
}

pub(crate) fn status_response(
    index_name: &str,
    snapshot: &Snapshot,
    troubles: &Known,
) -> proto::GetIndexStatusResponse {
    let is_unsearched = |space: &&RetainedSpace| !snapshot.spaces.iter().any(|held| held.space() == space.space);
    proto::GetIndexStatusResponse {
        index_name: index_name.to_owned(),
        lsn: snapshot.lsn.0,
        spaces: snapshot.spaces.iter().map(|held| space_to_wire(held, snapshot)).collect(),
        tombstone_count: snapshot.tombstone_count as u64,
        log_trouble: troubles.following.as_ref().map(trouble_to_wire),
        write_trouble: troubles.refuses_writes().map(trouble_to_wire),
        load_trouble: troubles.loading.as_ref().map(trouble_to_wire),
        unsearched_spaces: snapshot.retained.iter().filter(is_unsearched).map(unsearched_to_wire).collect(),
    }
}

fn trouble_to_wire(trouble: &Trouble) -> proto::Trouble {
    proto::Trouble { for_ms: trouble.lasted().as_millis() as u64, why: trouble.why.clone() }
}

pub(crate) fn list_response(retained: Vec<Retained>, unpublished: Vec<Unpublished>) -> proto::ListGenerationsResponse {
    let retained = retained.into_iter().map(retained_to_wire);
    let generations = retained.chain(unpublished.into_iter().map(unpublished_to_wire)).collect();
    proto::ListGenerationsResponse { generations }
}

fn retained_to_wire(retained: Retained) -> proto::GenerationStatus {
    let Retained { published, is_current, is_served, manifest } = retained;
    let state = if is_current { proto::GenerationState::Current } else { proto::GenerationState::Retained };
    proto::GenerationStatus {
        generation_id: published.generation.to_string(),
        model_version: Some(model_to_wire(published.model)),
        covers_lsn: published.covers.0,
        published_lsn: published.published.0,
        current_since_lsn: published.current_since.0,
        is_current,
        is_served,
        forced_by: published.forced_by.unwrap_or_default(),
        compacted_from: published.compacted_from.last().map(ToString::to_string).unwrap_or_default(),
        state: state.into(),
        report: manifest.as_ref().map(report_to_wire),
        built_ms: manifest.and_then(|manifest| manifest.built_ms).map(|ms| ms as i64),
    }
}

fn unpublished_to_wire(unpublished: Unpublished) -> proto::GenerationStatus {
    let Unpublished { id, manifest, is_expired } = unpublished;
    let state = match is_expired {
        true => proto::GenerationState::Expired,
        false if manifest.failed_gates.is_empty() => proto::GenerationState::Built,
        false => proto::GenerationState::Refused,
    };
    proto::GenerationStatus {
        generation_id: id.to_string(),
        model_version: Some(model_to_wire(manifest.model)),
        covers_lsn: manifest.covers_lsn.0,
        state: state.into(),
        report: Some(report_to_wire(&manifest)),
        built_ms: manifest.built_ms.map(|ms| ms as i64),
        ..Default::default()
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
        lineage: lineage(current_of(held.space(), snapshot)),
    }
}

fn unsearched_to_wire(retained: &RetainedSpace) -> proto::SpaceStatus {
    let current = retained.generations.first();
    proto::SpaceStatus {
        model_version: current.map(|current| model_to_wire(current.model)),
        generation_id: current.map(|current| current.generation.to_string()).unwrap_or_default(),
        published_lsn: current.map_or(0, |current| current.published.0),
        embedding_dim: retained.embedding_dim.unwrap_or(0) as u32,
        lineage: lineage(current),
        ..Default::default()
    }
}

fn current_of(space: SpaceId, snapshot: &Snapshot) -> Option<&Published> {
    snapshot.retained.iter().find(|retained| retained.space == space).and_then(|r| r.generations.first())
}

fn lineage(current: Option<&Published>) -> Vec<String> {
    let line = current.into_iter().flat_map(|current| current.compacted_from.iter().chain([&current.generation]));
    line.map(ToString::to_string).collect()
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
