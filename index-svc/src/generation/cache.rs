//! [`Cache`]: objects of generations in a local directory, so that a restart need not read them again, nor have a store at all.
//!
//! What it holds is only ever a copy whose digest its reader checks; a file is complete once it has its name. It never fails its
//! caller: what cannot be kept is not kept.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::Blob;
use crate::ids::GenerationId;

const PARTIAL: &str = ".partial";

/// A local directory of one index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: Arc<Path>,
    bytes_max: u64,
    used: Arc<Mutex<Used>>,
}

/// When which generation was used last, by count.
#[derive(Debug, Default)]
struct Used {
    clock: u64,
    last: HashMap<GenerationId, u64>,
}

impl Cache {
    /// Opens a directory (made when missing) and removes what an earlier process left unfinished.
    pub fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        let generations = directory.join("generations");
        fs::create_dir_all(&generations)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&generations)? {
            let entry = entry?;
            remove_partial(&entry.path())?;
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<GenerationId>().ok()) {
                found.push((entry.metadata()?.modified()?, id));
            }
        }
        remove_partial(directory)?;
        let cache = Self { directory: directory.into(), bytes_max, used: Arc::default() };
        found.sort();
        found.iter().for_each(|(_, id)| cache.note_use(id));
        Ok(cache)
    }

    /// An object of a generation, if it is here, mapped or read. Files are never written to once they have their name: a mapped one stays what
    /// it is, also when it is removed.
    pub(super) async fn read(&self, id: &GenerationId, name: &str, map: bool) -> Option<Blob> {
        self.note_use(id);
        Blob::of_file(self.path(id, name), map).await
    }

    /// Keeps an object, making room by removing the generations that were used least recently.
    pub(super) async fn write(&self, id: &GenerationId, name: &str, bytes: Blob) {
        self.note_use(id);
        let (cache, id, path) = (self.clone(), id.clone(), self.path(id, name));
        let kept = tokio::task::spawn_blocking(move || {
            cache.make_room(&id, bytes.len() as u64)?;
            write_whole(&path, &bytes)
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an object was not kept in the cache"),
            Err(error) => tracing::warn!(%error, "an object was not kept in the cache"),
        }
    }

    /// Removes a generation.
    pub fn forget(&self, id: &GenerationId) {
        self.lock().last.remove(id);
        // Whatever cannot be removed now will be when room is needed.
        let _ = fs::remove_dir_all(self.generation(id));
    }

    /// The file of the index's state.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.directory.join("state.bin")
    }

    fn make_room(&self, keep: &GenerationId, bytes: u64) -> io::Result<()> {
        let mut held: Vec<_> = self.lock().last.iter().map(|(id, used)| (*used, id.clone())).collect();
        held.sort();
        let sizes: Vec<u64> = held.iter().map(|(_, id)| directory_bytes(&self.generation(id)).unwrap_or(0)).collect();
        let mut total = sizes.iter().sum::<u64>() + bytes;
        for ((_, id), size) in held.iter().zip(sizes) {
            if total > self.bytes_max && id != keep {
                self.forget(id);
                total -= size;
            }
        }
        if total <= self.bytes_max { Ok(()) } else { Err(io::Error::other("it is larger than cache.bytes_max")) }
    }

    /// Notes that a generation is used now.
    pub(super) fn note_use(&self, id: &GenerationId) {
        let mut used = self.lock();
        used.clock += 1;
        let now = used.clock;
        used.last.insert(id.clone(), now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self, id: &GenerationId) -> PathBuf {
        self.directory.join("generations").join(id.as_str())
    }

    /// Flat: the names of objects have at most one folder.
    fn path(&self, id: &GenerationId, name: &str) -> PathBuf {
        self.generation(id).join(name.replace('/', "-"))
    }
}

/// Writes a file so that it has its name only once it is complete and on the disk.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let partial = PathBuf::from(format!("{}{PARTIAL}", path.display()));
    let written = fs::File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    crate::failpoint::reached("cache_file_written");
    let renamed = written.and_then(|()| fs::rename(&partial, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&partial);
    }
    renamed
}

fn remove_partial(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(PARTIAL)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn directory_bytes(directory: &Path) -> io::Result<u64> {
    fs::read_dir(directory)?.map(|entry| entry?.metadata().map(|meta| meta.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> GenerationId {
        format!("00000000000000aa-0-{n}").parse().unwrap()
    }

    #[tokio::test]
    async fn the_least_recently_used_generations_go_and_partial_files_are_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 10).unwrap();
        let bytes = || Blob::Read("four".into());
        cache.write(&id(1), "shard-0/a", bytes()).await;
        cache.write(&id(2), "a", bytes()).await;
        assert!(cache.read(&id(1), "shard-0/a", true).await.is_some());
        cache.write(&id(3), "a", bytes()).await;
        let held = async |n| cache.read(&id(n), if n == 1 { "shard-0/a" } else { "a" }, true).await.is_some();
        assert_eq!((held(1).await, held(2).await, held(3).await), (true, false, true));
        cache.write(&id(3), "b", Blob::Read(vec![0; 11].into())).await;
        assert!(cache.read(&id(3), "b", true).await.is_none(), "larger than the cache");

        let partial = dir.path().join(format!("generations/{}/c.partial", id(3)));
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, "half").unwrap();
        Cache::open(dir.path(), 10).unwrap();
        assert!(!partial.exists());
    }
}
