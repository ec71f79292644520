//! What a caller gets.

use pagoda_proto::{
    feature::v1::{Entity, FloatList, TextList, feature_value::Value},
    filter::v1::{self as filter, Condition, Filter, GroupLimit, Values, condition::Test},
    recall::v1::{CandidateSource, IndexVersion, RecallRequest},
    user::v1::EmbedUsersRequest,
};
use pagoda_server::status::{Violation, invalid_argument, violations_of};
use tonic::Code;

use crate::{
    bundle,
    service::{Service, ids, request},
};

fn taste(x: f32, y: f32) -> (&'static str, Value) {
    ("taste", Value::Floats(FloatList { values: vec![x, y] }))
}

fn history(items: &[&str]) -> (&'static str, Value) {
    ("history", Value::Texts(TextList { values: items.iter().map(|&id| id.into()).collect() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_user_is_completed_and_spared_the_history() {
    let service = Service::ready().await;
    let reply = service.recall(request("known", &[])).await.unwrap();
    assert_eq!(ids(&reply), ["d"], "a, b and c are history");
    assert!(reply.exhausted && reply.user_known);
    assert_eq!(reply.history_length, 2, "as many as the model uses");
    assert_eq!(reply.candidates[0].source(), CandidateSource::Delta);
    assert_eq!(reply.index_version, Some(IndexVersion { generation_id: "g1".into(), lsn: 7 }));
    let model = reply.model_version.unwrap();
    assert_eq!(format!("{}/{}", model.space_id, model.revision), bundle::version(1).to_string());

    let again = RecallRequest { include_history: true, ..request("known", &[]) };
    let reply = service.recall(again).await.unwrap();
    assert_eq!(ids(&reply), ["b", "a"], "(1, 0) + (0, 0.5) is nearest to b");
    assert!(!reply.exhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_request_says_wins() {
    let service = Service::ready().await;
    let reply = service.recall(request("known", &[taste(0.0, 1.0), history(&["d"])])).await.unwrap();
    assert_eq!(ids(&reply), ["c", "b"]);
    assert_eq!((reply.user_known, reply.history_length), (true, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_the_nameless_are_ordinary() {
    let service = Service::ready().await;
    for id in ["stranger", ""] {
        let reply = service.recall(request(id, &[])).await.unwrap();
        assert_eq!(ids(&reply), ["d", "c"]);
        assert_eq!((reply.user_known, reply.history_length), (false, 0));
    }
    assert_eq!(ids(&service.recall(RecallRequest { k: 1, ..Default::default() }).await.unwrap()), ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_items_are_asked_for_once_each() {
    let service = Service::ready().await;
    let exclude_item_ids = vec!["d".to_owned(), "a".into(), "nowhere".into()];
    let reply = service.recall(RecallRequest { exclude_item_ids, ..request("known", &[]) }).await.unwrap();
    assert!(ids(&reply).is_empty() && reply.exhausted);
    let state = service.index.state();
    assert_eq!(state.searches.last().unwrap().0.exclude_item_ids, ["a", "b", "c", "d", "nowhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_at_fault_is_named_by_its_path() {
    let service = Service::ready().await;
    let nan = ("taste", Value::Floats(FloatList { values: vec![f32::NAN, 0.0] }));
    let features = [nan, ("history", Value::Text("a".into())), ("colour", Value::Number(1.0))];
    let exclude_item_ids = vec![String::new()];
    let bad = RecallRequest { k: 1001, exclude_item_ids, ..request("a\0", &features) };
    let status = service.recall(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let paths: Vec<_> = violations_of(&status).into_iter().map(|violation| violation.path).collect();
    let expected = [
        "user.id",
        "k",
        "exclude_item_ids[0]",
        r#"user.features["colour"].number"#,
        r#"user.features["history"].text"#,
        r#"user.features["taste"].floats"#,
    ];
    assert_eq!(paths, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_reaches_the_index_as_it_came_and_its_faults_come_back_by_path() {
    let service = Service::ready().await;
    let values = Values { values: vec![filter::Value { value: Some(filter::value::Value::Text("Comedy".into())) }] };
    let condition = Condition { attribute: "genre".into(), test: Some(Test::AnyOf(values)) };
    let filter = Some(Filter { all: vec![condition] });
    let group_by = Some(GroupLimit { attribute: "brand".into(), max_per_group: 2 });
    let filtered = RecallRequest { filter: filter.clone(), group_by: group_by.clone(), ..request("known", &[]) };
    service.recall(filtered.clone()).await.unwrap();
    let search = service.index.state().searches.last().unwrap().0.clone();
    assert_eq!((search.filter, search.group_by), (filter, group_by));
    let fault = |path: &str| Violation::new(path, "is not declared");
    service.index.state().refuse =
        Some(invalid_argument(&[fault("filter.all[0].attribute"), fault("group_by.attribute")]));
    let refused = service.recall(filtered.clone()).await.unwrap_err();
    let paths: Vec<_> = violations_of(&refused).into_iter().map(|violation| violation.path).collect();
    assert_eq!(
        (refused.code(), paths),
        (Code::InvalidArgument, vec!["filter.all[0].attribute".into(), "group_by.attribute".into()])
    );
    // What the caller did not say is no fault of the caller's.
    service.index.state().refuse = Some(invalid_argument(&[fault("filter.all[0].attribute"), fault("embedding")]));
    assert_eq!(service.recall(filtered).await.unwrap_err().code(), Code::Internal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_excluded_beside_as_many_items_as_a_caller_may_exclude() {
    let service = Service::ready().await;
    let exclude_item_ids = (0..10_000).map(|n| format!("x{n}")).collect();
    let reply = service.recall(RecallRequest { exclude_item_ids, ..request("known", &[]) }).await.unwrap();
    assert_eq!(ids(&reply), ["d"]);
    assert_eq!(service.index.state().searches.last().unwrap().0.exclude_item_ids.len(), 10_003);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_embedded_in_order_or_all_their_faults_named() {
    let service = Service::ready().await;
    let user = |request: RecallRequest| request.user.unwrap();
    let users = vec![user(request("known", &[])), user(request("", &[taste(0.0, 2.0)])), Entity::default()];
    let reply =
        service.users().embed_users(EmbedUsersRequest { users, ..Default::default() }).await.unwrap().into_inner();
    let values: Vec<_> = reply.embeddings.iter().map(|embedding| embedding.values.clone()).collect();
    assert!((values[0][0] - 0.894_427).abs() < 1e-4 && (values[0][1] - 0.447_213).abs() < 1e-4, "{values:?}");
    assert_eq!(values[1..], [[0.0, 1.0], [0.0, 1.0]]);

    let users = vec![Entity::default(), user(request("", &[history(&[]), ("taste", Value::Number(1.0))]))];
    let status = service.users().embed_users(EmbedUsersRequest { users, ..Default::default() }).await.unwrap_err();
    let paths: Vec<_> = violations_of(&status).into_iter().map(|violation| violation.path).collect();
    assert_eq!(paths, [r#"users[1].features["taste"].number"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objectives_are_weighed_as_the_request_says_or_named_in_its_faults() {
    let service = Service::ready().await;
    service.register_files(bundle::version(2), bundle::files_of(bundle::version(2), &["click", "buy"])).await;
    service.index.hold(&[bundle::version(2)]);
    let newest = async |s: &Service| {
        s.status().await.active_model.is_some_and(|m| m.space_id == bundle::version(2).space.to_string())
    };
    service.eventually("the model of two objectives answers", newest).await;

    let weights = |pairs: &[(&str, f32)]| pairs.iter().map(|&(name, w)| (name.to_owned(), w)).collect();
    // Both numbers of the user are above 0, so that each objective's slice is its whole part of the norm.
    for (given, expected) in
        [(weights(&[]), [std::f32::consts::FRAC_1_SQRT_2; 2]), (weights(&[("click", 3.0), ("buy", 4.0)]), [0.6, 0.8])]
    {
        let users = vec![request("known", &[]).user.unwrap()];
        let request = EmbedUsersRequest { users, objective_weights: given };
        let reply = service.users().embed_users(request).await.unwrap().into_inner();
        let values = &reply.embeddings[0].values;
        assert!(values.iter().zip(expected).all(|(v, e)| (v - e).abs() < 1e-4), "{values:?}");
    }
    service
        .recall(RecallRequest { objective_weights: weights(&[("buy", 1.0)]), ..request("known", &[]) })
        .await
        .unwrap();

    for (given, path) in [
        (weights(&[("click", 1.0), ("share", 1.0)]), r#"objective_weights["share"]"#),
        (weights(&[("click", 0.0)]), "objective_weights"),
        (weights(&[("click", -1.0)]), r#"objective_weights["click"]"#),
    ] {
        let bad = RecallRequest { objective_weights: given, ..request("known", &[]) };
        let status = service.recall(bad).await.unwrap_err();
        let paths: Vec<_> = violations_of(&status).into_iter().map(|violation| violation.path).collect();
        assert_eq!((status.code(), paths), (Code::InvalidArgument, vec![path.to_owned()]));
    }
}
