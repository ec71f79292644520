//! Whether a store can keep a log: of all who create an object, one must win, and the object must stay.

use bytes::Bytes;
use futures::future::join_all;

use crate::{store::Store, store_error::StoreError};

/// How many create at once.
const RACERS: u8 = 4;
/// How many races are run when each ends without a winner: S3 may answer 409 to all.
const RACES: u8 = 3;

impl Store {
    /// Refuses a store that overwrites where it was told to create only. To be called before the first write; a store that was found
    /// honest is not asked again by this process.
    ///
    /// The object is a new one each time, so that neither an old probe nor another writer's can be taken for an answer.
    pub async fn probe_create_only(&self) -> Result<(), StoreError> {
        self.honours_create_only.get_or_try_init(|| self.probe()).await.map(drop)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let path = format!("probes/{:032x}", rand::random::<u128>());
        let mut found = self.race(&path).await;
        for _ in 1..RACES {
            if !matches!(found, Err(StoreError::AlreadyExists { .. })) {
                break;
            }
            found = self.race(&path).await;
        }
        // Rubbish, if it cannot be deleted, and never looked at again.
        let _ = self.delete(&path).await;
        if found? { Ok(()) } else { Err(StoreError::IgnoresCreateOnly { url: self.url().into(), path }) }
    }

    /// Whether one racer won and one who came late did not. An answer that was lost proves nothing: the late one decides.
    async fn race(&self, path: &str) -> Result<bool, StoreError> {
        let body = |racer: u8| Bytes::from(format!("create-only {racer}\n"));
        let created = join_all((0..RACERS).map(|racer| self.put_create(path, body(racer)))).await;
        if created.iter().filter(|result| result.is_ok()).count() > 1 {
            return Ok(false);
        }
        let failed =
            |result: &Result<(), StoreError>| !matches!(result, Ok(()) | Err(StoreError::AlreadyExists { .. }));
        if created.iter().all(failed) {
            // A store that failed all of them is not asked for what they wrote: it would be as long in failing.
            return created.into_iter().find_map(Result::err).map_or(Ok(false), Err);
        }
        let first = match self.get(path).await {
            // Nobody won: the first answer says why.
            Err(error @ StoreError::NotFound { .. }) => {
                return Err(created.into_iter().find_map(Result::err).unwrap_or(error));
            }
            found => found?,
        };
        match self.put_create(path, body(RACERS)).await {
            Ok(()) => Ok(false),
            Err(StoreError::AlreadyExists { .. }) => Ok(self.get(path).await? == first),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_honest_store_is_accepted_at_every_start_and_keeps_no_probe() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let store = Store::open(dir.path().to_str().unwrap()).unwrap();
            store.put("probes/create-only", Bytes::from_static(b"of an older release")).await.unwrap();
            store.probe_create_only().await.unwrap();
            assert_eq!(store.list("probes").await.unwrap().len(), 1);
        }
    }
}
