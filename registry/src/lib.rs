//! Which artefacts are in the store, and which of a kind is the newest: model bundles, catalogs, users' features.
//!
//! An artefact's files are content-addressed objects, `blobs/{sha256}`; one record in the log of its kind, `registry/{kind}/{version}`,
//! names them. The record is written last, so an artefact is there whole or not at all. Knows nothing of what is inside the files.

mod entry;
mod error;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::future::try_join_all;
use pagoda_commit_log::{Log, Lsn, Store};
use serde_json::Value;
use tokio::sync::Mutex;

pub use crate::{
    entry::{Entry, FileRef, Kind},
    error::RegistryError,
};

/// The artefacts of one store. Clones share what they have read.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Store,
    shelves: Arc<BTreeMap<Kind, Shelf>>,
}

/// An artefact whose files are in the store, and which nobody finds there before it is recorded.
#[derive(Clone, Debug)]
pub struct Staged(Entry);

/// One kind's log and its entries as far as they were read, oldest first.
#[derive(Debug)]
struct Shelf {
    log: Log,
    entries: Mutex<Vec<Entry>>,
}

impl Registry {
    /// Opens the registry of a store; an empty store has an empty one. Nothing is written.
    pub async fn open(store: Store) -> Result<Self, RegistryError> {
        let mut shelves = BTreeMap::new();
        for kind in Kind::ALL {
            let log = Log::open(store.clone(), &format!("registry/{}", kind.name())).await?;
            shelves.insert(kind, Shelf { log, entries: Mutex::default() });
        }
        Ok(Self { store, shelves: Arc::new(shelves) })
    }

    /// Stores the files and records them as the newest artefact of the kind. One with the label and the files of the newest is not recorded again, whatever
    /// is said of it.
    pub async fn publish(
        &self,
        kind: Kind,
        label: &str,
        metadata: Value,
        files: BTreeMap<String, Bytes>,
    ) -> Result<Entry, RegistryError> {
        self.record(self.stage(kind, label, metadata, files).await?).await
    }

    /// Stores the files; [`Registry::record`] does the rest of [`Registry::publish`], which is quick then.
    pub async fn stage(
        &self,
        kind: Kind,
        label: &str,
        metadata: Value,
        files: BTreeMap<String, Bytes>,
    ) -> Result<Staged, RegistryError> {
        self.store.probe_create_only().await?;
        let refs = files.iter().map(|(name, bytes)| (name.clone(), FileRef::of(bytes))).collect();
        let staged = Staged(Entry { version: 0, kind, label: label.to_owned(), files: refs, metadata });
        if self.newest_like(&staged).await?.is_none() {
            try_join_all(files.into_values().map(|bytes| self.put_blob(bytes))).await?;
        }
        Ok(staged)
    }

    /// Records what was staged as the newest artefact of its kind, unless it is that already.
    pub async fn record(&self, staged: Staged) -> Result<Entry, RegistryError> {
        if let Some(newest) = self.newest_like(&staged).await? {
            // Its record may be seen, and yet not be durable.
            self.shelf(newest.kind).log.settle().await?;
            return Ok(newest);
        }
        let Staged(entry) = staged;
        let lsn = self.shelf(entry.kind).log.append(entry.encode()).await?;
        Ok(Entry { version: lsn.0, ..entry })
    }

    /// Records an artefact that is in the store once more, so that it is the newest of its kind: the way back to it. Nothing changes where it is the
    /// newest already. Its files are read and checked before.
    pub async fn publish_again(&self, entry: &Entry) -> Result<Entry, RegistryError> {
        let files = self.fetch(entry).await?;
        self.publish(entry.kind, &entry.label, entry.metadata.clone(), files).await
    }

    /// The newest artefact of a kind.
    pub async fn latest(&self, kind: Kind) -> Result<Option<Entry>, RegistryError> {
        self.read(kind, |entries| entries.last().cloned()).await
    }

    /// All artefacts of a kind, newest first.
    pub async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        self.read(kind, |entries| entries.iter().rev().cloned().collect()).await
    }

    /// One artefact by its version.
    pub async fn get(&self, kind: Kind, version: u64) -> Result<Option<Entry>, RegistryError> {
        self.read(kind, |entries| entries.iter().find(|e| e.version == version).cloned()).await
    }

    /// Reads an artefact's files; the size and the digest of each are checked.
    pub async fn fetch(&self, entry: &Entry) -> Result<BTreeMap<String, Bytes>, RegistryError> {
        let files = entry.files.iter().map(|(name, file)| async move {
            let bytes = self.store.get(&file.path()).await?;
            let found = digest(bytes.clone()).await;
            if found == *file {
                return Ok((name.clone(), bytes));
            }
            Err(RegistryError::corrupt(entry, name, file, &found))
        });
        Ok(try_join_all(files).await?.into_iter().collect())
    }

    /// The newest artefact of the kind, if it is the same.
    async fn newest_like(&self, Staged(entry): &Staged) -> Result<Option<Entry>, RegistryError> {
        Ok(self.latest(entry.kind).await?.filter(|newest| newest.same_artefact(entry)))
    }

    async fn put_blob(&self, bytes: Bytes) -> Result<(), RegistryError> {
        Ok(self.store.put_vouched(&FileRef::of(&bytes).path(), bytes).await?)
    }

    /// Reads what is new in the log, then answers from all entries.
    async fn read<T>(&self, kind: Kind, answer: impl FnOnce(&[Entry]) -> T) -> Result<T, RegistryError> {
        let shelf = self.shelf(kind);
        let mut entries = shelf.entries.lock().await;
        let known = Lsn(entries.last().map_or(0, |e| e.version));
        for (lsn, record) in shelf.log.read_after(known).await? {
            entries.push(Entry::decode(kind, lsn, &record)?);
        }
        Ok(answer(&entries))
    }

    fn shelf(&self, kind: Kind) -> &Shelf {
        &self.shelves[&kind]
    }
}

/// A file's digest, away from the async threads: of a large file it takes long.
async fn digest(bytes: Bytes) -> FileRef {
    let digested = tokio::task::spawn_blocking(move || FileRef::of(&bytes)).await;
    digested.expect("a digest is taken of any bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn registry() -> (Store, Registry) {
        let store = Store::open("memory://").unwrap();
        (store.clone(), Registry::open(store).await.unwrap())
    }

    fn files(content: &'static str) -> BTreeMap<String, Bytes> {
        BTreeMap::from([("a".to_owned(), Bytes::from_static(content.as_bytes())), ("b".to_owned(), Bytes::new())])
    }

    async fn publish(registry: &Registry, content: &'static str) -> Entry {
        registry.publish(Kind::Model, content, Value::Null, files(content)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_published_is_the_newest_and_reads_back_after_a_reopen() {
        let (store, registry) = registry().await;
        assert_eq!(registry.latest(Kind::Model).await.unwrap(), None);
        publish(&registry, "one").await;
        let two = publish(&registry, "two").await;
        let reopened = Registry::open(store).await.unwrap();
        assert_eq!(reopened.latest(Kind::Model).await.unwrap(), Some(two.clone()));
        assert_eq!(reopened.fetch(&two).await.unwrap(), files("two"));
        let versions: Vec<_> = reopened.list(Kind::Model).await.unwrap().iter().map(|e| e.version).collect();
        assert_eq!(versions, [2, 1]);
        assert_eq!(reopened.get(Kind::Model, 1).await.unwrap().unwrap().label, "one");
        assert_eq!(reopened.latest(Kind::Catalog).await.unwrap(), None, "kinds are apart");
    }

    #[tokio::test]
    async fn what_is_staged_is_not_found_before_it_is_recorded() {
        let (_, registry) = registry().await;
        publish(&registry, "one").await;
        let staged = registry.stage(Kind::Model, "two", Value::Null, files("two")).await.unwrap();
        assert_eq!(registry.latest(Kind::Model).await.unwrap().unwrap().label, "one");
        let two = registry.record(staged.clone()).await.unwrap();
        assert_eq!(registry.latest(Kind::Model).await.unwrap(), Some(two.clone()));
        assert_eq!((registry.fetch(&two).await.unwrap(), two.version), (files("two"), 2));
        assert_eq!(registry.record(staged).await.unwrap(), two);
    }

    #[tokio::test]
    async fn the_same_artefact_is_recorded_once_unless_another_came_between() {
        let (_, registry) = registry().await;
        let one = publish(&registry, "one").await;
        assert_eq!(publish(&registry, "one").await, one);
        let said_later = registry.publish(Kind::Model, "one", "later".into(), files("one")).await;
        assert_eq!(said_later.unwrap(), one, "what was said first holds");
        publish(&registry, "two").await;
        assert_eq!(publish(&registry, "one").await.version, 3);
    }

    #[tokio::test]
    async fn what_is_recorded_already_is_told_so_once_it_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(Store::open(dir.path().to_str().unwrap()).unwrap()).await.unwrap();
        let one = publish(&registry, "one").await;
        assert_eq!(publish(&registry, "one").await, one);
        // As if the folder could not be flushed: it cannot be opened.
        let (log, away) = (dir.path().join("registry/model"), dir.path().join("away"));
        std::fs::rename(&log, &away).unwrap();
        registry.publish(Kind::Model, "one", Value::Null, files("one")).await.unwrap_err();
        std::fs::rename(&away, &log).unwrap();
        assert_eq!(publish(&registry, "one").await, one);
    }

    #[tokio::test]
    async fn what_is_published_again_is_the_newest_unless_it_is_damaged() {
        let (store, registry) = registry().await;
        let (one, two) = (publish(&registry, "one").await, publish(&registry, "two").await);
        assert_eq!(registry.publish_again(&one).await.unwrap(), Entry { version: 3, ..one.clone() });
        assert_eq!(registry.publish_again(&one).await.unwrap().version, 3, "it is the newest already");
        store.put(&two.files["a"].path(), Bytes::from_static(b"2wo")).await.unwrap();
        assert!(registry.publish_again(&two).await.is_err());
        assert_eq!(registry.latest(Kind::Model).await.unwrap().unwrap().label, "one");
    }

    #[tokio::test]
    async fn a_blob_that_changed_is_refused() {
        let (store, registry) = registry().await;
        let entry = publish(&registry, "one").await;
        store.put(&entry.files["a"].path(), Bytes::from_static(b"0ne")).await.unwrap();
        let error = registry.fetch(&entry).await.unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("digest"), "{error}");
    }

    #[tokio::test]
    async fn two_publishers_at_once_both_win_a_version() {
        let (store, one) = registry().await;
        let two = Registry::open(store).await.unwrap();
        let (a, b) = tokio::join!(publish(&one, "one"), publish(&two, "two"));
        assert_ne!(a.version, b.version);
        assert_eq!(one.list(Kind::Model).await.unwrap(), two.list(Kind::Model).await.unwrap());
    }

    #[tokio::test]
    async fn a_record_of_a_newer_release_is_refused_plainly() {
        let (store, registry) = registry().await;
        let log = Log::open(store, "registry/model").await.unwrap();
        log.append(Bytes::from_static(br#"{"format": 99, "label": "x", "files": {}, "metadata": null}"#))
            .await
            .unwrap();
        let error = registry.latest(Kind::Model).await.unwrap_err().to_string();
        assert!(error.contains("99"), "{error}");
    }
}
