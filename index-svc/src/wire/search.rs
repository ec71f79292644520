//! Search and BatchSearch.

use std::{collections::HashSet, sync::Arc};

use pagoda_ann::Parameters;
use pagoda_proto::{filter::v1 as filter, index::v1 as proto};

use super::{Violations, embedding, model_to_wire, numbered};
use crate::{
    attributes::ATTRIBUTE_BYTES_LIMIT,
    error::IndexError,
    filter::{Bound, CONDITIONS_LIMIT, Condition, Filter, GROUP_LIMIT, GroupLimit, Range, Test, VALUES_LIMIT},
    ids::ItemId,
    item::Value,
    search::{Answer, Found, Query, Ranking},
};

const EXCLUDE_LIMIT: usize = 20_000;
const QUERIES_LIMIT: usize = 256;

/// The fields that both rpcs have.
struct Common {
    space_id: String,
    k: u32,
    exclude_item_ids: Vec<String>,
    parameters: Option<proto::SearchParameters>,
    exact: bool,
    filter: Option<filter::Filter>,
    group_by: Option<filter::GroupLimit>,
}

pub(crate) fn search_request(request: proto::SearchRequest, k_limit: usize) -> Result<Query, IndexError> {
    let mut wrong = Violations::default();
    let proto::SearchRequest {
        space_id,
        embedding: vector,
        k,
        exclude_item_ids,
        parameters,
        exact,
        filter,
        group_by,
        ..
    } = request;
    let embeddings = embedding(&mut wrong, "embedding", vector, None).map(|embedding| vec![embedding]);
    let common = Common { space_id, k, exclude_item_ids, parameters, exact, filter, group_by };
    query(wrong, common, embeddings, false, k_limit)
}

pub(crate) fn batch_search_request(request: proto::BatchSearchRequest, k_limit: usize) -> Result<Query, IndexError> {
    let mut wrong = Violations::default();
    let proto::BatchSearchRequest {
        space_id,
        embeddings,
        k,
        exclude_item_ids,
        parameters,
        exact,
        filter,
        group_by,
        ..
    } = request;
    let found = embeddings.len();
    wrong.check((1..=QUERIES_LIMIT).contains(&found), "embeddings", || {
        format!("expected 1 to {QUERIES_LIMIT} of them, found {found}")
    });
    let embeddings = embeddings.into_iter().take(QUERIES_LIMIT).enumerate();
    let embeddings: Vec<_> =
        embeddings.map(|(n, vector)| embedding(&mut wrong, &format!("embeddings[{n}]"), Some(vector), None)).collect();
    let common = Common { space_id, k, exclude_item_ids, parameters, exact, filter, group_by };
    query(wrong, common, embeddings.into_iter().collect(), true, k_limit)
}

pub(crate) fn search_response(answer: Answer) -> proto::SearchResponse {
    let manifest = &answer.loaded.generation.manifest;
    let ranking = answer.rankings.into_iter().next().unwrap_or_default();
    proto::SearchResponse {
        items: items(ranking.items),
        exhausted: ranking.exhausted,
        generation_id: answer.loaded.id.to_string(),
        lsn: answer.lsn.0,
        model_version: Some(model_to_wire(manifest.model)),
    }
}

pub(crate) fn batch_search_response(answer: Answer) -> proto::BatchSearchResponse {
    let manifest = &answer.loaded.generation.manifest;
    let result = |Ranking { items: found, exhausted }| proto::SearchResult { items: items(found), exhausted };
    proto::BatchSearchResponse {
        results: answer.rankings.into_iter().map(result).collect(),
        generation_id: answer.loaded.id.to_string(),
        lsn: answer.lsn.0,
        model_version: Some(model_to_wire(manifest.model)),
    }
}

fn items(found: Vec<Found>) -> Vec<proto::ScoredItem> {
    let item = |Found { id, score, from_delta }| proto::ScoredItem { item_id: id, score, from_delta };
    found.into_iter().map(item).collect()
}

fn query(
    mut wrong: Violations,
    request: Common,
    embeddings: Option<Vec<Vec<f32>>>,
    is_batch: bool,
    k_limit: usize,
) -> Result<Query, IndexError> {
    let space = wrong.take("space_id", request.space_id.parse());
    let k = request.k as usize;
    wrong.check((1..=k_limit).contains(&k), "k", || format!("expected 1 to {k_limit}, found {k}"));
    let exclude = excluded(&mut wrong, &request.exclude_item_ids);
    let parameters = request.parameters.unwrap_or_default();
    let parameters = Parameters { nprobe: parameters.nprobe, ef_search: parameters.ef_search };
    let filter = request.filter.map(|filter| conditions(&mut wrong, filter)).unwrap_or_default();
    let group_by = request.group_by.map(|group| group_limit(&mut wrong, group));
    let query = space.zip(embeddings).map(|(space, embeddings)| Query {
        space,
        embeddings,
        is_batch,
        k,
        exclude,
        filter,
        group_by,
        parameters,
        exact: request.exact,
    });
    wrong.finish(query)
}

fn excluded(wrong: &mut Violations, ids: &[String]) -> Vec<ItemId> {
    let found = ids.len();
    wrong.check(found <= EXCLUDE_LIMIT, "exclude_item_ids", || {
        format!("expected at most {EXCLUDE_LIMIT} ids, found {found}")
    });
    let mut distinct = HashSet::with_capacity(found.min(EXCLUDE_LIMIT));
    let ids = numbered(ids).take(EXCLUDE_LIMIT).filter(|(_, id)| distinct.insert(*id));
    ids.filter_map(|(n, id)| wrong.take(format!("exclude_item_ids[{n}]"), ItemId::new(id))).collect()
}

fn conditions(wrong: &mut Violations, filter: filter::Filter) -> Filter {
    let found = filter.all.len();
    wrong.check(found <= CONDITIONS_LIMIT, "filter.all", || {
        format!("expected at most {CONDITIONS_LIMIT} conditions, found {found}")
    });
    let all = filter.all.into_iter().take(CONDITIONS_LIMIT).enumerate();
    Filter { all: all.filter_map(|(n, each)| condition(wrong, &format!("filter.all[{n}]"), each)).collect() }
}

fn condition(wrong: &mut Violations, path: &str, condition: filter::Condition) -> Option<Condition> {
    let attribute = attribute_name(wrong, &format!("{path}.attribute"), condition.attribute);
    let test = match condition.test {
        Some(filter::condition::Test::AnyOf(list)) => Test::AnyOf(values(wrong, &format!("{path}.any_of"), list)),
        Some(filter::condition::Test::NoneOf(list)) => Test::NoneOf(values(wrong, &format!("{path}.none_of"), list)),
        Some(filter::condition::Test::Range(of)) => Test::Range(range(wrong, &format!("{path}.range"), of)),
        None => {
            wrong.add(format!("{path}.test"), "expected any_of, none_of or range, found nothing");
            return None;
        }
    };
    Some(Condition { attribute, test })
}

fn values(wrong: &mut Violations, path: &str, list: filter::Values) -> Vec<Value> {
    let found = list.values.len();
    wrong.check((1..=VALUES_LIMIT).contains(&found), &format!("{path}.values"), || {
        format!("expected 1 to {VALUES_LIMIT} of them, found {found}")
    });
    let values = list.values.into_iter().take(VALUES_LIMIT).enumerate();
    values.filter_map(|(n, value)| value_of(wrong, &format!("{path}.values[{n}]"), value.value)).collect()
}

fn value_of(wrong: &mut Violations, path: &str, value: Option<filter::value::Value>) -> Option<Value> {
    match value {
        Some(filter::value::Value::Text(text)) => {
            let found = text.len();
            wrong.check((1..=ATTRIBUTE_BYTES_LIMIT).contains(&found), path, || {
                format!("expected a text of 1 to {ATTRIBUTE_BYTES_LIMIT} bytes, found {found} bytes")
            });
            Some(Value::Texts(vec![text.into()]))
        }
        Some(filter::value::Value::Integer(integer)) => Some(Value::Integer(integer)),
        Some(filter::value::Value::Number(number)) => finite(wrong, path, number),
        None => {
            wrong.add(path, "expected a text, an integer or a number, found nothing");
            None
        }
    }
}

fn range(wrong: &mut Violations, path: &str, range: filter::Range) -> Range {
    let given = range.lower.is_some() || range.upper.is_some();
    wrong.check(given, path, || "expected a lower or an upper bound, found nothing".into());
    let mut end = |bound: Option<filter::Bound>, end: &str| {
        bound.and_then(|each| bound_of(wrong, &format!("{path}.{end}"), each))
    };
    Range { lower: end(range.lower, "lower"), upper: end(range.upper, "upper") }
}

fn bound_of(wrong: &mut Violations, path: &str, bound: filter::Bound) -> Option<Bound> {
    let value = match bound.value {
        Some(filter::bound::Value::Integer(integer)) => Some(Value::Integer(integer)),
        Some(filter::bound::Value::Number(number)) => finite(wrong, path, number),
        None => {
            wrong.add(path, "expected an integer or a number, found nothing");
            None
        }
    };
    value.map(|value| Bound { value, exclusive: bound.exclusive })
}

fn finite(wrong: &mut Violations, path: &str, number: f64) -> Option<Value> {
    wrong.check(number.is_finite(), path, || format!("expected a finite number, found {number}"));
    number.is_finite().then_some(Value::Number(number))
}

fn group_limit(wrong: &mut Violations, group: filter::GroupLimit) -> GroupLimit {
    let max = group.max_per_group as usize;
    wrong.check((1..=GROUP_LIMIT).contains(&max), "group_by.max_per_group", || {
        format!("expected 1 to {GROUP_LIMIT}, found {max}")
    });
    GroupLimit { attribute: attribute_name(wrong, "group_by.attribute", group.attribute), max }
}

/// Checks a name of an attribute.
pub(super) fn attribute_name(wrong: &mut Violations, path: &str, name: String) -> Arc<str> {
    let fits = (1..=ATTRIBUTE_BYTES_LIMIT).contains(&name.len()) && !name.chars().any(char::is_control);
    wrong.check(fits, path, || {
        format!(
            "expected a name of 1 to {ATTRIBUTE_BYTES_LIMIT} bytes without control characters, found {} bytes",
            name.len()
        )
    });
    name.into()
}

#[cfg(test)]
mod tests {
    use filter::{bound, condition, value};
    use pagoda_proto::feature::v1 as feature;
    use proptest::prelude::*;

    use super::{super::tests::paths, *};

    fn any_of(values: Vec<Option<value::Value>>) -> Option<condition::Test> {
        let values = values.into_iter().map(|value| filter::Value { value }).collect();
        Some(condition::Test::AnyOf(filter::Values { values }))
    }

    fn text(text: &str) -> Option<value::Value> {
        Some(value::Value::Text(text.into()))
    }

    fn filtered(all: Vec<(&str, Option<condition::Test>)>) -> proto::SearchRequest {
        let all = all.into_iter().map(|(attribute, test)| filter::Condition { attribute: attribute.into(), test });
        proto::SearchRequest {
            space_id: "00000000000000aa".into(),
            embedding: Some(feature::Embedding { values: vec![1.0, 0.0] }),
            k: 1,
            filter: Some(filter::Filter { all: all.collect() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_search_names_every_field_at_fault() {
        let request = proto::SearchRequest {
            space_id: "nonsense".into(),
            embedding: Some(feature::Embedding { values: vec![0.0, f32::NAN, f32::INFINITY] }),
            k: 0,
            exclude_item_ids: vec!["ok".into(), "a\0b".into()],
            group_by: Some(filter::GroupLimit::default()),
            ..Default::default()
        };
        let expected = [
            "embedding.values[1]",
            "embedding.values[2]",
            "space_id",
            "k",
            "exclude_item_ids[1]",
            "group_by.max_per_group",
            "group_by.attribute",
        ];
        assert_eq!(paths(search_request(request, 1000)), expected);
        assert_eq!(paths(search_request(proto::SearchRequest { k: 1001, ..Default::default() }, 1000)).len(), 3);
        let endless = feature::Embedding { values: vec![f32::NAN; 1_000_000] };
        let endless = proto::SearchRequest { embedding: Some(endless), ..filtered(vec![]) };
        assert_eq!(paths(search_request(endless, 1000)), ["embedding.values"]);
        let zero =
            proto::SearchRequest { embedding: Some(feature::Embedding { values: vec![0.0, 0.0] }), ..filtered(vec![]) };
        assert_eq!(paths(search_request(zero, 1000)), ["embedding.values"]);
    }

    #[test]
    fn a_filter_names_every_field_at_fault() {
        let nan = filter::Bound { value: Some(bound::Value::Number(f64::NAN)), exclusive: false };
        let range = |lower, upper| Some(condition::Test::Range(filter::Range { lower, upper }));
        let request = filtered(vec![
            ("", any_of(vec![text("a")])),
            ("tag", None),
            ("tag", any_of(vec![])),
            ("tag", any_of(vec![text("ok"), text(&"x".repeat(129)), None, Some(value::Value::Number(f64::INFINITY))])),
            ("year", range(None, None)),
            ("year", range(Some(nan), Some(filter::Bound::default()))),
        ]);
        let expected = [
            "filter.all[0].attribute",
            "filter.all[1].test",
            "filter.all[2].any_of.values",
            "filter.all[3].any_of.values[1]",
            "filter.all[3].any_of.values[2]",
            "filter.all[3].any_of.values[3]",
            "filter.all[4].range",
            "filter.all[5].range.lower",
            "filter.all[5].range.upper",
        ];
        assert_eq!(paths(search_request(request, 1000)), expected);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let conditions = vec![("tag", any_of(vec![text("a")])); CONDITIONS_LIMIT + 1];
        assert_eq!(paths(search_request(filtered(conditions), 1000)), ["filter.all"]);
        let values = any_of(vec![text("a"); VALUES_LIMIT + 1]);
        assert_eq!(paths(search_request(filtered(vec![("tag", values)]), 1000)), ["filter.all[0].any_of.values"]);
        let excluding = |count: usize| {
            let exclude_item_ids = (0..count).map(|n| n.to_string()).collect();
            search_request(proto::SearchRequest { exclude_item_ids, ..filtered(vec![]) }, 1000)
        };
        assert!(excluding(20_000).is_ok(), "10,000 of a caller of Recall, and as many of a history");
        assert_eq!(paths(excluding(20_001)), ["exclude_item_ids"]);
    }

    #[test]
    fn a_batch_names_every_query_at_fault() {
        let vector = |values: &[f32]| feature::Embedding { values: values.to_vec() };
        let request = |embeddings| proto::BatchSearchRequest {
            space_id: "00000000000000aa".into(),
            k: 1,
            embeddings,
            ..Default::default()
        };
        let wrong = request(vec![vector(&[1.0, 0.0]), vector(&[0.0, f32::NAN]), vector(&[]), vector(&[0.0, 2.0])]);
        let expected = ["embeddings[1].values[1]", "embeddings[2].values", "embeddings[3].values"];
        assert_eq!(paths(batch_search_request(wrong, 1000)), expected);
        assert_eq!(paths(batch_search_request(request(vec![]), 1000)), ["embeddings"]);
        assert_eq!(paths(batch_search_request(request(vec![vector(&[1.0]); QUERIES_LIMIT + 1]), 1000)), ["embeddings"]);
    }

    proptest! {
        #[test]
        fn hostile_names_and_texts_are_taken_or_named_and_never_panic(
            name in "\\PC{0,40}|.{0,40}|(\\.\\./){1,9}|[\\x00-\\x1f]{1,9}", text in ".{0,200}", id in ".{0,140}",
        ) {
            let mut request = filtered(vec![(&name, any_of(vec![Some(value::Value::Text(text.clone()))]))]);
            request.exclude_item_ids = vec![id.clone()];
            let holds = (1..=128).contains(&name.len()) && !name.chars().any(char::is_control)
                && (1..=128).contains(&text.len())
                && (1..=128).contains(&id.len()) && !id.chars().any(char::is_control);
            prop_assert_eq!(search_request(request, 1000).is_ok(), holds);
        }
    }
}
