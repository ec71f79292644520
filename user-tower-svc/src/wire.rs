//! From proto to domain, once, collecting every violation; and back. Past this file no proto type is seen but in `grpc`
//! and `index`, which speak it.

use std::collections::BTreeMap;

use pagoda_model::{
    Embedding, Entity, FeatureValue, ItemId, ModelVersion, RawFeatures, UserId,
    bundle::{InvalidWeights, ModelBundle, WeightFault},
    features,
};
use pagoda_proto::{
    feature::v1 as feature,
    filter::v1::{Filter, GroupLimit},
    recall::v1::{self as proto, CandidateSource, IndexVersion, RecallRequest, RecallResponse},
    user::v1::EmbedUsersRequest,
};
use pagoda_server::status::Violation;

use crate::recall::{self, EmbedUsers, Found, Recall, Recalled};

/// The most items a request may exclude, beside the user's history.
const EXCLUDE_LIMIT: usize = 10_000;
/// The most users of one `EmbedUsers`.
const USERS_LIMIT: usize = 1024;
/// The most objectives that a request weighs.
const OBJECTIVES_LIMIT: usize = 64;
/// The path of the weights of objectives.
const WEIGHTS: &str = "objective_weights";

/// A request as it came, with what is wrong with it so far. Its features are checked once a model is chosen.
#[derive(Debug)]
pub(crate) struct Checked<T> {
    pub(crate) value: T,
    pub(crate) violations: Vec<Violation>,
}

/// Which items may be recalled. For the index alone to read, which knows the attributes and names what is wrong under the paths of our own
/// request: so it passes as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) filter: Option<Filter>,
    pub(crate) group_by: Option<GroupLimit>,
}

/// Reads a recall request.
pub(crate) fn recall(request: RecallRequest, k_limit: u32) -> Checked<Recall> {
    let mut violations = Vec::new();
    let RecallRequest { user, k, exclude_item_ids, include_history, objective_weights, filter, group_by } = request;
    let user = entity("user", user.unwrap_or_default(), &mut violations);
    if !(1..=k_limit).contains(&k) {
        violations.push(Violation::new("k", format!("expected 1 to {k_limit}, found {k}")));
    }
    let exclude = item_ids("exclude_item_ids", exclude_item_ids, &mut violations);
    let objective_weights = weights(objective_weights, &mut violations);
    let limits = Limits { filter, group_by };
    Checked { value: Recall { user, k, exclude, include_history, objective_weights, limits }, violations }
}

/// Reads users to embed.
pub(crate) fn embed_users(request: EmbedUsersRequest) -> Checked<EmbedUsers> {
    let mut violations = Vec::new();
    let count = request.users.len();
    if !(1..=USERS_LIMIT).contains(&count) {
        violations.push(Violation::new("users", format!("expected 1 to {USERS_LIMIT} users, found {count}")));
    }
    let users = request.users.into_iter().take(USERS_LIMIT).enumerate();
    let users = users.map(|(i, user)| entity(&user_path(i), user, &mut violations)).collect();
    let objective_weights = weights(request.objective_weights, &mut violations);
    Checked { value: EmbedUsers { users, objective_weights }, violations }
}

/// The path of one user in `EmbedUsers`.
pub(crate) fn user_path(index: usize) -> String {
    format!("users[{index}]")
}

/// What the model's schema says against a user's features, by path.
pub(crate) fn feature_violations(path: &str, user: &Entity, model: &ModelBundle) -> Vec<Violation> {
    let Err(features::InvalidFeatures(faults)) = features::validate(&model.schema().user, user) else {
        return Vec::new();
    };
    // The id is checked already.
    let faults = faults.into_iter().filter(|fault| !fault.feature.is_empty());
    faults
        .map(|fault| {
            let member = user.features.get(&fault.feature).map_or("", member);
            Violation::new(format!("{path}.features[{:?}]{member}", fault.feature), fault.description)
        })
        .collect()
}

/// What the model says against the weights of objectives, by path.
pub(crate) fn weight_violations(weights: &BTreeMap<String, f32>, model: &ModelBundle) -> Vec<Violation> {
    let Err(InvalidWeights(faults)) = model.objective_weights(weights) else { return Vec::new() };
    // Numbers are checked already.
    let faults = faults.into_iter().filter(|fault| !matches!(fault, WeightFault::NotAWeight { .. }));
    faults.map(|fault| Violation::new(weight_path(fault.objective()), fault.to_string())).collect()
}

/// The reply to a recall.
pub(crate) fn recalled(recalled: Recalled) -> RecallResponse {
    let Found { candidates, exhausted, generation_id, lsn } = recalled.found;
    RecallResponse {
        candidates: candidates.into_iter().map(candidate).collect(),
        exhausted,
        model_version: Some(model_version(recalled.model)),
        index_version: Some(IndexVersion { generation_id, lsn }),
        user_known: recalled.user_known,
        history_length: recalled.history_length,
    }
}

/// A model version as proto.
pub(crate) fn model_version(version: ModelVersion) -> feature::ModelVersion {
    feature::ModelVersion { space_id: version.space.to_string(), revision: version.revision }
}

/// An embedding as proto.
pub(crate) fn embedding(embedding: &Embedding) -> feature::Embedding {
    feature::Embedding { values: embedding.as_slice().to_vec() }
}

fn candidate(candidate: recall::Candidate) -> proto::Candidate {
    let source = if candidate.from_delta { CandidateSource::Delta } else { CandidateSource::Base };
    proto::Candidate { item_id: candidate.item_id, score: candidate.score, source: source.into() }
}

fn entity(path: &str, entity: feature::Entity, violations: &mut Vec<Violation>) -> Entity {
    let feature::Entity { id, features } = entity;
    // A user nobody has a name for is ordinary.
    if !id.is_empty()
        && let Err(fault) = UserId::new(&id)
    {
        violations.push(Violation::new(format!("{path}.id"), fault.to_string()));
    }
    Entity { id, features: raw_features(features) }
}

/// A value without a member is unknown, as if the feature were absent.
fn raw_features(features: impl IntoIterator<Item = (String, feature::FeatureValue)>) -> RawFeatures {
    let known = features.into_iter().filter_map(|(name, value)| Some((name, feature_value(value.value?))));
    known.collect()
}

fn feature_value(value: feature::feature_value::Value) -> FeatureValue {
    use feature::feature_value::Value;
    match value {
        Value::Text(text) => FeatureValue::Text(text),
        Value::Number(number) => FeatureValue::Number(number),
        Value::Texts(list) => FeatureValue::Texts(list.values),
        Value::Floats(list) => FeatureValue::Floats(list.values),
    }
}

/// The member of the request's `FeatureValue`.
fn member(value: &FeatureValue) -> &'static str {
    match value {
        FeatureValue::Text(_) => ".text",
        FeatureValue::Number(_) => ".number",
        FeatureValue::Texts(_) => ".texts",
        FeatureValue::Floats(_) => ".floats",
    }
}

/// Numbers are checked here, names once a model is chosen.
fn weights(
    weights: impl IntoIterator<Item = (String, f32), IntoIter: ExactSizeIterator>,
    violations: &mut Vec<Violation>,
) -> BTreeMap<String, f32> {
    let weights = weights.into_iter();
    if weights.len() > OBJECTIVES_LIMIT {
        let description = format!("expected at most {OBJECTIVES_LIMIT} objectives, found {}", weights.len());
        violations.push(Violation::new(WEIGHTS, description));
        return BTreeMap::new();
    }
    let weights: BTreeMap<String, f32> = weights.collect();
    for (name, weight) in weights.iter().filter(|(_, weight)| !weight.is_finite() || **weight < 0.0) {
        let description = format!("expected a finite number of at least 0, found {weight}");
        violations.push(Violation::new(weight_path(Some(name)), description));
    }
    weights
}

fn weight_path(objective: Option<&str>) -> String {
    objective.map_or_else(|| WEIGHTS.to_owned(), |name| format!("{WEIGHTS}[{name:?}]"))
}

fn item_ids(path: &str, ids: Vec<String>, violations: &mut Vec<Violation>) -> Vec<ItemId> {
    if ids.len() > EXCLUDE_LIMIT {
        let description = format!("expected at most {EXCLUDE_LIMIT} ids, found {}", ids.len());
        violations.push(Violation::new(path, description));
        return Vec::new();
    }
    let mut valid = Vec::with_capacity(ids.len());
    for (i, id) in ids.into_iter().enumerate() {
        match ItemId::new(id) {
            Ok(id) => valid.push(id),
            Err(fault) => violations.push(Violation::new(format!("{path}[{i}]"), fault.to_string())),
        }
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(violations: &[Violation]) -> Vec<&str> {
        violations.iter().map(|violation| violation.path.as_str()).collect()
    }

    #[test]
    fn every_violation_of_a_recall_is_named() {
        let user = feature::Entity { id: "a\0".into(), ..Default::default() };
        let exclude_item_ids = vec!["ok".into(), String::new(), "x".repeat(129)];
        let request = RecallRequest { user: Some(user), k: 0, exclude_item_ids, ..Default::default() };
        let checked = recall(request, 1000);
        assert_eq!(paths(&checked.violations), ["user.id", "k", "exclude_item_ids[1]", "exclude_item_ids[2]"]);
    }

    #[test]
    fn the_limits_are_inclusive() {
        let with_k = |k| recall(RecallRequest { k, ..Default::default() }, 1000).violations;
        assert!(with_k(1).is_empty() && with_k(1000).is_empty(), "and an absent user is an ordinary one");
        assert_eq!(paths(&with_k(1001)), ["k"]);
        let many = vec!["a".to_owned(); EXCLUDE_LIMIT + 1];
        let request = RecallRequest { k: 1, exclude_item_ids: many, ..Default::default() };
        assert_eq!(paths(&recall(request, 1000).violations), ["exclude_item_ids"]);
    }

    #[test]
    fn users_are_counted_and_named_by_position() {
        assert_eq!(paths(&embed_users(EmbedUsersRequest::default()).violations), ["users"]);
        let users = vec![feature::Entity::default(), feature::Entity { id: "\n".into(), ..Default::default() }];
        assert_eq!(paths(&embed_users(EmbedUsersRequest { users, ..Default::default() }).violations), ["users[1].id"]);
    }

    #[test]
    fn weights_are_finite_and_not_negative_and_not_too_many() {
        let with = |objective_weights| {
            recall(RecallRequest { k: 1, objective_weights, ..Default::default() }, 1000).violations
        };
        let named = [("a", 0.0), ("b", f32::NAN), ("c", -1.0), ("d", f32::INFINITY)];
        let violations = with(named.map(|(name, weight)| (name.to_owned(), weight)).into());
        let expected = [r#"objective_weights["b"]"#, r#"objective_weights["c"]"#, r#"objective_weights["d"]"#];
        assert_eq!(paths(&violations), expected);
        let many = |n: usize| (0..n).map(|i| (i.to_string(), 1.0)).collect();
        assert!(with(many(OBJECTIVES_LIMIT)).is_empty());
        assert_eq!(paths(&with(many(OBJECTIVES_LIMIT + 1))), ["objective_weights"]);
    }

    #[test]
    fn a_value_without_a_member_is_unknown() {
        let user = feature::Entity {
            id: "a".into(),
            features: [("age".to_owned(), feature::FeatureValue { value: None })].into(),
        };
        let request = RecallRequest { user: Some(user), k: 1, ..Default::default() };
        assert!(recall(request, 1000).value.user.features.is_empty());
    }
}
