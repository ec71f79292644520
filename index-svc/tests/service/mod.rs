//! An index in process, and the calls that tests make of it.

#![allow(dead_code, clippy::unwrap_used)]

use futures::stream;
use index_svc::{app, config::Config, grpc::IndexService};
use pagoda_commit_log::Store;
use pagoda_proto::{
    feature::v1::{Embedding, ModelVersion},
    filter::v1::{self as filter, condition::Test},
    index::v1::{self as proto, build_generation_request::Message, index_service_server::IndexService as _},
};
use pagoda_server::{config as settings, status};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tonic::{Code, Request, Status};

pub(crate) const SPACE: &str = "00000000000000aa";

/// An index with these settings over the defaults.
pub(crate) async fn open(store: &Store, set: &[&str]) -> IndexService {
    app::build_on(store.clone(), config(set)).await.unwrap()
}

pub(crate) fn config(set: &[&str]) -> Config {
    let set = ["index.poll_ms=10"].iter().chain(set).map(|setting| (*setting).to_owned()).collect();
    settings::load(&pagoda_server::ServerArgs { set, ..Default::default() }).unwrap()
}

pub(crate) fn model() -> Option<ModelVersion> {
    Some(ModelVersion { space_id: SPACE.into(), revision: 0 })
}

pub(crate) fn vector(values: Vec<f32>) -> Option<Embedding> {
    Some(Embedding { values })
}

/// A direction, all alike probable.
pub(crate) fn direction(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
    let values: Vec<f32> = (0..dim).map(|_| rng.sample::<f32, _>(rand_distr::StandardNormal)).collect();
    unit(&values)
}

pub(crate) fn unit(values: &[f32]) -> Vec<f32> {
    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter().map(|v| v / norm).collect()
}

pub(crate) fn texts(texts: &[&str]) -> Option<proto::attribute::Value> {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    Some(proto::attribute::Value::Texts(proto::TextList { texts }))
}

pub(crate) fn declare(attributes: &[(&str, proto::AttributeKind)]) -> Vec<proto::AttributeDeclaration> {
    let declaration = |(name, kind): &(&str, proto::AttributeKind)| proto::AttributeDeclaration {
        name: (*name).into(),
        kind: (*kind).into(),
    };
    attributes.iter().map(declaration).collect()
}

pub(crate) fn attribute(name: &str, value: Option<proto::attribute::Value>) -> proto::Attribute {
    proto::Attribute { name: name.into(), value }
}

/// Builds and publishes a generation of these items.
pub(crate) async fn publish(
    index: &IndexService,
    header: proto::GenerationHeader,
    items: &[proto::ItemEmbedding],
) -> proto::GenerationReport {
    let built = build(index, header, items).await.unwrap();
    let request = proto::PublishGenerationRequest { generation_id: built.generation_id, ..Default::default() };
    index.publish_generation(Request::new(request)).await.unwrap();
    built.report.unwrap()
}

pub(crate) async fn build(
    index: &IndexService,
    header: proto::GenerationHeader,
    items: &[proto::ItemEmbedding],
) -> Result<proto::BuildGenerationResponse, Status> {
    let header = proto::GenerationHeader { model_version: model(), item_count: items.len() as u64, ..header };
    let batches = items.chunks(1000).map(|items| Message::Batch(proto::ItemBatch { items: items.to_vec() }));
    let messages: Vec<_> = [Message::Header(header)].into_iter().chain(batches).collect();
    let messages = messages.into_iter().map(|message| Ok(proto::BuildGenerationRequest { message: Some(message) }));
    index.build(stream::iter(messages)).await
}

pub(crate) async fn upsert(index: &IndexService, items: Vec<proto::ItemEmbedding>) -> Result<u64, Status> {
    let request = proto::UpsertRequest { model_version: model(), items, ..Default::default() };
    index.upsert(Request::new(request)).await.map(|reply| reply.into_inner().lsn)
}

pub(crate) async fn delete(index: &IndexService, item_ids: Vec<String>) -> u64 {
    let request = proto::DeleteRequest { item_ids, ..Default::default() };
    index.delete(Request::new(request)).await.unwrap().into_inner().lsn
}

pub(crate) async fn search(
    index: &IndexService,
    request: proto::SearchRequest,
) -> Result<proto::SearchResponse, Status> {
    let request = proto::SearchRequest { space_id: SPACE.into(), ..request };
    index.search(Request::new(request)).await.map(tonic::Response::into_inner)
}

pub(crate) async fn batch_search(
    index: &IndexService,
    request: proto::BatchSearchRequest,
) -> Result<proto::BatchSearchResponse, Status> {
    let request = proto::BatchSearchRequest { space_id: SPACE.into(), ..request };
    index.batch_search(Request::new(request)).await.map(tonic::Response::into_inner)
}

pub(crate) fn ids(items: &[proto::ScoredItem]) -> Vec<&str> {
    items.iter().map(|item| item.item_id.as_str()).collect()
}

/// The paths of an INVALID_ARGUMENT.
pub(crate) fn paths(refused: &Status) -> Vec<String> {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    status::violations_of(refused).into_iter().map(|violation| violation.path).collect()
}

pub(crate) fn all(conditions: Vec<(&str, Test)>) -> Option<filter::Filter> {
    let condition =
        |(attribute, test): (&str, Test)| filter::Condition { attribute: attribute.into(), test: Some(test) };
    Some(filter::Filter { all: conditions.into_iter().map(condition).collect() })
}

pub(crate) fn any_of(values: &[filter::value::Value]) -> Test {
    Test::AnyOf(list(values))
}

pub(crate) fn none_of(values: &[filter::value::Value]) -> Test {
    Test::NoneOf(list(values))
}

fn list(values: &[filter::value::Value]) -> filter::Values {
    filter::Values { values: values.iter().map(|value| filter::Value { value: Some(value.clone()) }).collect() }
}

pub(crate) fn text(text: &str) -> filter::value::Value {
    filter::value::Value::Text(text.into())
}

pub(crate) fn integer(integer: i64) -> filter::value::Value {
    filter::value::Value::Integer(integer)
}

/// From the first to the last, both included.
pub(crate) fn within(first: i64, last: i64) -> Test {
    let bound = |n| Some(filter::Bound { value: Some(filter::bound::Value::Integer(n)), exclusive: false });
    Test::Range(filter::Range { lower: bound(first), upper: bound(last) })
}
