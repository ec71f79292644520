//! A refresh that begins while its caller goes or its process stops.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures::poll;
use item_tower_svc::{
    error::ItemTowerError,
    refresh::{Mode, Record, State, Wish},
};
use pagoda_commit_log::{Log, Lsn, Store};
use tokio::time::timeout;

use crate::{bundle, service::Service};

#[tokio::test]
async fn a_process_that_stops_cancels_the_refresh_that_it_was_planning() {
    let service = Service::with_model().await;
    service.catalog(&["a,1|0"]).await;
    service.index.hold_still();
    let mut start = pin!(service.refreshes.start(wish()));
    assert!(poll!(start.as_mut()).is_pending(), "it asks the index");
    service.refreshes.close();
    let started = start.await.unwrap();
    timeout(Duration::from_secs(10), service.refreshes.idle()).await.expect("it is cancelled");
    assert_eq!(service.refreshes.get(&started.id.to_string()).unwrap().state, State::Cancelled);
}

#[tokio::test]
async fn a_start_whose_caller_goes_at_any_moment_leaves_nothing_without_an_end_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_on(Store::open(directory.path().to_str().unwrap()).unwrap()).await;
    service.register(bundle::version(1)).await;
    service.catalog(&["a,1|0"]).await;
    for suspensions in 0.. {
        let started = until_suspended(service.refreshes.start(wish()), suspensions).await;
        let ended = async {
            // Whoever asks is refused while the one before begins or runs.
            while let Err(ItemTowerError::RefreshRunning(_)) = service.refreshes.start(impossible()).await {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), ended).await.expect("it ends");
        if let Some(started) = started {
            assert!(suspensions > 1 && started.is_ok());
            break;
        }
    }
    let log = Log::open(service.store.clone(), "refreshes/log").await.unwrap();
    let records = log.read_after(Lsn(0)).await.unwrap();
    let records: Vec<Record> = records.iter().map(|(_, record)| serde_json::from_slice(record).unwrap()).collect();
    let is_end = |r: &&Record| matches!(r, Record::Succeeded { .. } | Record::Failed { .. } | Record::Cancelled { .. });
    let starts = records.iter().filter(|record| matches!(record, Record::Started { .. })).count();
    let ends = records.iter().filter(is_end).count();
    assert!(starts > 0 && starts == ends, "{starts} starts, {ends} ends");
}

fn wish() -> Wish {
    Wish { mode: Mode::Full, catalog_version: 0, catalog_digest: String::new() }
}

fn impossible() -> Wish {
    Wish { catalog_version: 99, ..wish() }
}

/// A future's output, unless it is suspended more than so often; then it is dropped there.
async fn until_suspended<T>(future: impl Future<Output = T>, mut times: usize) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if times == 0 => Poll::Ready(None),
        Poll::Pending => {
            times -= 1;
            Poll::Pending
        }
    })
    .await
}
