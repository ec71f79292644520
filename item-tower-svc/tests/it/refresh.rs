//! Refreshes: full, incremental, cancelled, failed.

use item_tower_svc::refresh::{Baseline, Journal, Mode, Record};
use pagoda_commit_log::Lsn;
use pagoda_proto::item::v1::{
    self as proto,
    RefreshMode::{Full, Incremental},
    RefreshState,
};
use pagoda_registry::Kind;
use pagoda_server::status::reason_of;
use tonic::{Code, Status};

use crate::{bundle, service::Service};

#[tokio::test]
async fn a_full_refresh_publishes_the_whole_catalog() {
    let mut service = Service::with_model().await;
    service.index.held().lsn = 41;
    let catalog = service.catalog(&["a,3|4", "b,1|0", "bad,1|nan", "c,0|2"]).await;
    let started = service.start_refresh(Full, 0).await.unwrap();
    let steps = service.watch(&started.refresh_id).await;
    let end = steps.last().unwrap();
    assert_eq!(end.state(), RefreshState::Succeeded, "{}", end.error);
    assert_eq!((end.items_read, end.items_total, end.items_embedded, end.items_refused), (3, 3, 3, 1));
    assert!(end.bad_rows[0].contains("items.csv row 3"), "{:?}", end.bad_rows);
    assert_eq!((end.generation_id.as_str(), end.lsn, end.catalog_version), ("g1", 42, catalog));
    let held = service.index.held().clone();
    assert_eq!(held.items["a"], [0.6, 0.8]);
    assert_eq!(held.items.len(), 3);
    assert_eq!((held.headers[0].covers_lsn, held.headers[0].item_count, held.headers[0].embedding_dim), (41, 3, 2));
    let queries: Vec<f32> = held.headers[0].sample_queries.iter().flat_map(|q| q.values.clone()).collect();
    // The model's sample users are (1, 0) and (0, 1); its user tower adds (0, 0.5) and normalises.
    let expected = [2.0 / 5f32.sqrt(), 1.0 / 5f32.sqrt(), 0.0, 1.0];
    assert_eq!(queries.len(), expected.len());
    assert!(queries.iter().zip(expected).all(|(q, e)| (q - e).abs() < 1e-6), "{queries:?}");
    let request = proto::GetRefreshRequest { refresh_id: started.refresh_id };
    assert_eq!(service.client.get_refresh(request).await.unwrap().into_inner().refresh.as_ref(), Some(end));
}

#[tokio::test]
async fn a_catalog_that_was_brought_to_another_store_is_not_taken_for_that_of_the_same_version_here() {
    let mut service = Service::with_model().await;
    let catalog_version = service.catalog(&["a,1|0"]).await;
    let entry = service.registry.latest(Kind::Catalog).await.unwrap().unwrap();
    let request = |catalog_digest| proto::StartRefreshRequest { catalog_version, mode: Full.into(), catalog_digest };
    let status = service.client.start_refresh(request("0".repeat(64))).await.unwrap_err();
    let reason = reason_of(&status).unwrap().0;
    assert_eq!((status.code(), reason.as_str()), (Code::FailedPrecondition, "CATALOG_REFUSED"));
    assert!(status.message().contains("another store"), "{status}");
    service.client.start_refresh(request(entry.digest())).await.unwrap();
}

#[tokio::test]
async fn an_incremental_refresh_hands_over_what_changed_and_deletes_what_is_gone() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "b,1|0", "c,1|0", "d,1|0"]).await;
    service.refresh(Full).await;
    service.catalog(&["b,1|0", "c,0|1", "d,1|0", "e,0|1", "f,0|1"]).await;
    let end = service.refresh(Incremental).await;
    assert_eq!(end.state(), RefreshState::Succeeded, "{}", end.error);
    assert_eq!((end.items_read, end.items_embedded, end.items_deleted), (5, 3, 1));
    let held = service.index.held().clone();
    assert_eq!(held.upserts, [vec!["c", "e"], vec!["f"]]);
    assert_eq!((held.deletes, end.lsn), (vec![vec!["a".to_owned()]], held.lsn));
    assert_eq!(held.items.keys().collect::<Vec<_>>(), ["b", "c", "d", "e", "f"]);
    let end = service.refresh(Incremental).await;
    assert_eq!((end.state(), end.items_embedded, end.lsn), (RefreshState::Succeeded, 0, held.lsn), "nothing changed");
}

#[tokio::test]
async fn a_full_refresh_brings_back_what_an_incremental_one_deleted_and_nothing_that_others_did() {
    let mut service = Service::with_model().await;
    let all = ["a,1|0", "b,1|0", "c,1|0", "d,1|0"];
    service.catalog(&all).await;
    service.refresh(Full).await;
    service.catalog(&all[..1]).await;
    assert_eq!(service.refresh(Incremental).await.items_deleted, 3);
    service.index.held().delete("a");
    service.catalog(&all).await;
    let end = service.refresh(Full).await;
    assert_eq!((end.state(), end.items_embedded), (RefreshState::Succeeded, 4), "{}", end.error);
    let held = service.index.held().clone();
    assert_eq!(held.items.keys().collect::<Vec<_>>(), ["b", "c", "d"]);
    assert_eq!(end.lsn, held.lsn);
    assert_eq!(held.upserts.concat(), ["b", "c", "d"]);
    service.refresh(Full).await;
    assert_eq!(service.index.held().upserts.concat().len(), 3, "nothing is new");
}

#[tokio::test]
async fn what_is_written_while_a_full_refresh_builds_decides_nothing_of_what_is_brought_back_and_is_not_overwritten() {
    let mut service = Service::with_model().await;
    let all = ["a,1|0", "b,1|0", "c,1|0"];
    service.catalog(&all).await;
    service.refresh(Full).await;
    service.catalog(&all[..1]).await;
    assert_eq!(service.refresh(Incremental).await.items_deleted, 2);
    service.catalog(&["a,1|0", "b,1|0", "c,1|0", "new,1|0", "newer,1|0"]).await;
    service.index.hold_still();
    let started = service.start_refresh(Full, 0).await.unwrap();
    service.index.held().upsert("other", &[1.0, 0.0]);
    service.index.held().upsert("another", &[1.0, 0.0]);
    service.index.held().upsert("c", &[0.6, 0.8]);
    service.index.held().upsert("newer", &[0.6, 0.8]);
    service.index.held().delete("new");
    service.index.pace.add_permits(1000);
    let end = service.watch(&started.refresh_id).await.pop().unwrap();
    assert_eq!(end.state(), RefreshState::Succeeded, "{}", end.error);
    let held = service.index.held().clone();
    assert_eq!(held.items.keys().collect::<Vec<_>>(), ["a", "another", "b", "c", "newer", "other"]);
    assert_eq!((&held.items["c"], &held.items["newer"]), (&vec![0.6, 0.8], &vec![0.6, 0.8]));
    assert_eq!(held.upserts, [["b"]]);
}

#[tokio::test]
async fn a_full_refresh_brings_back_what_was_deleted_although_a_refresh_failed_in_between() {
    let mut service = Service::with_model().await;
    let all = ["a,1|0", "b,1|0", "c,1|0"];
    service.catalog(&all).await;
    service.refresh(Full).await;
    service.catalog(&all[..1]).await;
    assert_eq!(service.refresh(Incremental).await.items_deleted, 2);
    service.catalog(&["a,1|0", "x,1|0"]).await;
    service.index.held().refuse = Some(Status::resource_exhausted("the delta is full"));
    assert_eq!(service.refresh(Incremental).await.state(), RefreshState::Failed);
    service.index.held().refuse = None;
    service.catalog(&all).await;
    let end = service.refresh(Full).await;
    assert_eq!(end.state(), RefreshState::Succeeded, "{}", end.error);
    assert_eq!(service.index.held().items.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_rollback_after_a_publication_that_timed_out_needs_a_full_refresh() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "old,1|0"]).await;
    service.refresh(Full).await;
    service.catalog(&["a,1|0", "b,1|0"]).await;
    service.refresh(Full).await;
    service.catalog(&["a,1|0", "c,1|0"]).await;
    service.index.held().answer_publications = Some(Status::unavailable("time-out"));
    assert_eq!(service.refresh(Full).await.state(), RefreshState::Failed);
    service.index.held().answer_publications = None;
    service.index.held().roll_back("g1");
    let status = service.start_refresh(Incremental, 0).await.unwrap_err();
    assert_eq!(reason_of(&status).unwrap().0, "FULL_REFRESH_NEEDED", "{status}");
    service.index.held().roll_back("g3");
    let end = service.refresh(Incremental).await;
    assert_eq!((end.state(), end.items_embedded, end.items_deleted), (RefreshState::Succeeded, 2, 1), "{}", end.error);
    assert_eq!(service.index.held().items.keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn an_incremental_refresh_does_not_empty_the_index() {
    let mut service = Service::with_model().await;
    let rows: Vec<String> = (0..300).map(|n| format!("i{n},1|0")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    service.catalog(&rows).await;
    service.refresh(Full).await;
    service.catalog(&rows[..100]).await;
    let end = service.refresh(Incremental).await;
    assert_eq!(end.state(), RefreshState::Failed);
    assert!(end.error.contains("it lacks 200 items"), "{}", end.error);
    assert_eq!(service.index.held().items.len(), 300);
    service.catalog(&rows[..160]).await;
    let end = service.refresh(Incremental).await;
    assert_eq!((end.state(), end.items_deleted), (RefreshState::Succeeded, 140), "{}", end.error);
    assert_eq!(end.items_embedded, 0, "the one that was refused had written nothing");
}

#[tokio::test]
async fn after_a_failed_refresh_an_incremental_one_hands_over_everything() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "b,1|0", "c,1|0"]).await;
    service.refresh(Full).await;
    service.catalog(&["a,1|0", "b,0|1", "x,0|1"]).await;
    service.index.held().refuse = Some(Status::resource_exhausted("the delta is full"));
    let end = service.refresh(Incremental).await;
    assert_eq!(end.state(), RefreshState::Failed);
    assert!(end.error.contains("the delta is full"), "{}", end.error);
    service.index.held().refuse = None;
    service.catalog(&["a,1|0", "b,0|1"]).await;
    let end = service.refresh(Incremental).await;
    assert_eq!((end.state(), end.items_embedded), (RefreshState::Succeeded, 2), "{}", end.error);
    let held = service.index.held().clone();
    assert_eq!(held.upserts, [vec!["a", "b"]]);
    assert_eq!(held.deletes, [vec!["c", "x"]], "of the last good catalog and of the failed one");
    assert_eq!(service.refresh(Incremental).await.items_embedded, 0, "known again");
}

#[tokio::test]
async fn a_build_that_is_refused_fails_the_refresh_and_publishes_nothing() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "b,1|0", "c,1|0"]).await;
    service.index.held().refuse = Some(Status::failed_precondition("gate recall refused: 0.1 of 0.9"));
    let end = service.refresh(Full).await;
    assert_eq!(end.state(), RefreshState::Failed);
    assert!(end.error.contains("gate recall refused: 0.1 of 0.9"), "{}", end.error);
    assert_eq!((end.generation_id.as_str(), service.index.held().publications), ("", 0));
}

#[tokio::test]
async fn after_a_refused_refresh_an_incremental_one_hands_over_what_changed_since_the_last_good_one() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "b,1|0", "c,1|0"]).await;
    service.refresh(Full).await;
    let others: Vec<String> = (0..200).map(|n| format!("other{n},1|0")).collect();
    service.catalog(&others.iter().map(String::as_str).collect::<Vec<_>>()).await;
    service.index.held().refuse = Some(Status::failed_precondition("refused"));
    assert_eq!(service.refresh(Full).await.state(), RefreshState::Failed);
    service.index.held().refuse = None;
    service.catalog(&["a,1|0", "b,0|1", "d,1|0"]).await;
    let end = service.refresh(Incremental).await;
    assert_eq!((end.state(), end.items_embedded, end.items_deleted), (RefreshState::Succeeded, 2, 1), "{}", end.error);
    let held = service.index.held().clone();
    assert_eq!(held.items.keys().collect::<Vec<_>>(), ["a", "b", "d"]);
    assert_eq!(held.deletes, [["c"]], "and none of the refused catalog");
}

#[tokio::test]
async fn a_cancelled_refresh_publishes_nothing_and_lets_the_next_one_run() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "b,1|0", "c,1|0", "d,1|0", "e,1|0", "f,1|0"]).await;
    service.index.hold_still();
    let started = service.start_refresh(Full, 0).await.unwrap();
    let status = service.start_refresh(Full, 0).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).unwrap().0.as_str()), (Code::Aborted, "REFRESH_RUNNING"));
    assert!(status.message().contains(&started.refresh_id), "{}", status.message());
    let refresh_id = started.refresh_id.clone();
    service.client.cancel_refresh(proto::CancelRefreshRequest { refresh_id }).await.unwrap();
    let end = service.watch(&started.refresh_id).await.pop().unwrap();
    assert_eq!((end.state(), end.error.as_str()), (RefreshState::Cancelled, "cancelled by request"));
    assert_eq!(service.index.held().publications, 0);
    service.index.pace.add_permits(1000);
    assert_eq!(service.refresh(Full).await.state(), RefreshState::Succeeded);
    let list = service.client.list_refreshes(proto::ListRefreshesRequest {}).await.unwrap().into_inner().refreshes;
    let states: Vec<_> = list.iter().map(proto::Refresh::state).collect();
    assert_eq!(states, [RefreshState::Succeeded, RefreshState::Cancelled]);
}

#[tokio::test]
async fn a_full_refresh_replaces_a_generation_that_is_current_and_cannot_be_loaded() {
    for is_searched in [true, false] {
        let mut service = Service::with_model().await;
        service.catalog(&["a,1|0"]).await;
        service.refresh(Full).await;
        service.refresh(Full).await;
        service.index.held().searched = Some(if is_searched { "g1" } else { "" }.into());
        let end = service.refresh(Full).await;
        assert_eq!((end.state(), end.generation_id.as_str()), (RefreshState::Succeeded, "g3"), "{}", end.error);
    }
}

#[tokio::test]
async fn a_process_that_stops_cancels_its_refresh_and_ends() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0", "b,1|0", "c,1|0"]).await;
    service.index.hold_still();
    let started = service.start_refresh(Full, 0).await.unwrap();
    let request = proto::WatchRefreshRequest { refresh_id: started.refresh_id };
    let mut steps = service.client.watch_refresh(request).await.unwrap().into_inner();
    service.stop.send(()).unwrap();
    let mut last = None;
    while let Some(step) = steps.message().await.unwrap() {
        last = step.refresh;
    }
    assert_eq!(last.unwrap().state(), RefreshState::Cancelled);
    service.ended.await.unwrap();
}

#[tokio::test]
async fn an_incremental_refresh_stops_once_another_process_has_begun_one_and_both_are_remembered() {
    let mut service = Service::with_model().await;
    let first = service.catalog(&["a,1|0", "b,1|0"]).await;
    service.refresh(Full).await;
    service.catalog(&["a,0|1", "c,1|0", "d,1|0", "e,1|0"]).await;
    service.index.hold_still();
    let started = service.start_refresh(Incremental, 0).await.unwrap();
    while service.index.held().upserts_begun == 0 {
        tokio::task::yield_now().await;
    }
    let elsewhere = Journal::open(service.store.clone()).await.unwrap();
    let baseline = Baseline { catalog_version: first, model: bundle::version(1) };
    let other = elsewhere.start(Mode::Incremental, baseline).await.unwrap();
    service.index.pace.add_permits(1000);
    let end = service.watch(&started.refresh_id).await.pop().unwrap();
    assert_eq!(end.state(), RefreshState::Failed);
    assert!(end.error.contains(&format!("{other} began after it")), "{}", end.error);
    assert_eq!(service.index.held().upserts, [["a", "c"]], "what was on its way");
    let (lsn, generation_id) = (Lsn(end.lsn), Some("g1".to_owned()));
    let succeeded = Record::Succeeded { refresh: other.0, lsn, generation_id, at_ms: None, items: None };
    elsewhere.append(&succeeded).await.unwrap();
    service.catalog(&["a,1|0", "b,1|0"]).await;
    let end = service.refresh(Incremental).await;
    assert_eq!((end.state(), end.items_embedded), (RefreshState::Succeeded, 2), "{}", end.error);
    assert_eq!(service.index.held().items.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn a_new_model_needs_a_full_refresh() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0"]).await;
    let status = service.start_refresh(Incremental, 0).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "no generation yet");
    service.refresh(Full).await;
    service.register(bundle::version(2)).await;
    let status = service.start_refresh(Incremental, 0).await.unwrap_err();
    let reason = reason_of(&status).unwrap().0;
    assert_eq!((status.code(), reason.as_str()), (Code::FailedPrecondition, "FULL_REFRESH_NEEDED"));
    assert!(status.message().contains("a full refresh is needed"), "{}", status.message());
    let end = service.refresh(Full).await;
    assert_eq!(end.model_version.unwrap().space_id, bundle::version(2).space.to_string());
}

#[tokio::test]
async fn what_cannot_be_refreshed_from_is_said() {
    let mut service = Service::with_model().await;
    let status = service.start_refresh(Full, 0).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "no catalog at all");
    let catalog = service.catalog_with(&bundle::SCHEMA.replace("\"image\"", "\"photo\""), &["a,1|0"]).await;
    let status = service.start_refresh(Full, catalog).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    for part in ["feature `image` is not in the catalog", "feature `photo` is not in the model"] {
        assert!(status.message().contains(part), "{}", status.message());
    }
    assert_eq!(service.start_refresh(Full, 99).await.unwrap_err().code(), Code::NotFound);
    let unknown = proto::GetRefreshRequest { refresh_id: "refresh-99".into() };
    assert_eq!(service.client.get_refresh(unknown).await.unwrap_err().code(), Code::NotFound);
    let mostly_bad: Vec<String> = (0..20).map(|n| format!("i{n},1|nan")).collect();
    let rows: Vec<&str> = mostly_bad.iter().map(String::as_str).collect();
    service.catalog(&rows).await;
    let end = service.refresh(Full).await;
    assert_eq!((end.state(), service.index.held().headers.len()), (RefreshState::Failed, 0));
    assert!(end.error.contains("20 of 20 rows"), "{}", end.error);
}

#[tokio::test]
async fn a_damaged_newest_model_is_not_replaced_by_an_older_one() {
    let mut service = Service::with_model().await;
    service.catalog(&["a,1|0"]).await;
    let version = bundle::version(2);
    let mut files = bundle::files(version);
    files.insert("golden.json".into(), "[]".into());
    service.register_files(version, files).await;
    let status = service.start_refresh(Full, 0).await.unwrap_err();
    let reason = reason_of(&status).unwrap().0;
    assert_eq!((status.code(), reason.as_str()), (Code::FailedPrecondition, "MODEL_REFUSED"));
    assert!(status.message().contains("golden.json"), "{}", status.message());
}
