//! [`Directory`]: the folder of a store, and only ever the one that was opened.
//!
//! A folder can vanish under a running process (a volume is unmounted, a folder renamed or removed), and another can come to lie in its
//! place. What is written there would be acknowledged and lost, and what is not found there may well exist. So a folder is known by its
//! id: an object `store-id` of random digits, which the first put writes and none changes. It stays the same where a volume is mounted
//! anew, over NFS too, and is never used twice; device and inode are neither. By these the folder is known only until it has its id.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use object_store::{ObjectStore, PutMode, local::LocalFileSystem, path::Path as ObjectPath};

use crate::store_error::{Access, StoreError};

const ID_OBJECT: &str = "store-id";

/// A folder that was opened, and its objects.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) objects: Arc<LocalFileSystem>,
    folder: PathBuf,
    opened: Inode,
    id: OnceLock<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Directory {
    /// Opens a folder, made when missing. Nothing is written into it.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|e| format!("cannot create the directory: {e}"))?;
        let folder = folder.canonicalize().map_err(|e| e.to_string())?;
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|e| e.to_string())?;
        let opened = Inode::of(&folder).map_err(|e| e.to_string())?;
        let id = read_id(&folder).map_err(|e| format!("cannot read its `{ID_OBJECT}`: {e}"))?;
        let id = id.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { objects: Arc::new(objects.with_fsync(true)), folder, opened, id })
    }

    /// Refuses a folder that is not the one that was opened.
    pub(crate) async fn require(self: &Arc<Self>) -> Result<(), StoreError> {
        self.check().await.map(drop)
    }

    /// As [`Directory::require`]; a folder that has no id yet gets one.
    pub(crate) async fn require_with_id(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.check().await? {
            return Ok(());
        }
        let id = format!("{:032x}\n", rand::random::<u128>());
        match self.objects.put_opts(&ObjectPath::from(ID_OBJECT), id.into(), PutMode::Create.into()).await {
            // Another process may have been first: its id is as good.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => self.require().await,
            Err(error) => {
                Err(StoreError::classify(self.folder.display().to_string().into(), Access::Write, ID_OBJECT, error))
            }
        }
    }

    /// Flushes the entries of one of its folders, such as `log`: an object can be seen there before it is flushed, and its put may have failed
    /// to do it.
    pub(crate) async fn flush(&self, folder: &str) -> io::Result<()> {
        let folder = self.folder.join(folder);
        let flushed = tokio::task::spawn_blocking(move || fs::File::open(folder)?.sync_all()).await;
        flushed.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    /// Removes one of its folders with all that lies in it. One to which a symbolic link leads is left.
    pub(crate) async fn remove(&self, folder: &str) -> io::Result<()> {
        let folder = self.folder.join(folder);
        let remove = move || match folder.canonicalize()? {
            found if found == folder => fs::remove_dir_all(found),
            _ => Ok(()),
        };
        match tokio::task::spawn_blocking(remove).await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Says of the folder that it is not to be used.
    pub(crate) fn lost(&self, why: String) -> StoreError {
        StoreError::FolderLost { folder: self.folder.clone(), why }
    }

    /// Whether the folder has its id; it is the one that was opened. Off the async threads: a disk may hang.
    async fn check(self: &Arc<Self>) -> Result<bool, StoreError> {
        let directory = self.clone();
        let checked = tokio::task::spawn_blocking(move || directory.has_id()).await;
        checked.unwrap_or_else(|e| Err(e.to_string())).map_err(|why| self.lost(why))
    }

    fn has_id(&self) -> Result<bool, String> {
        let found = read_id(&self.folder).map_err(|e| format!("cannot be read: {e}"))?;
        match (self.id.get(), found) {
            (Some(known), Some(found)) if *known == found => Ok(true),
            (Some(_), Some(_)) => Err("is another than was opened".into()),
            (Some(_), None) => Err(format!("is gone, or another than was opened: it has no `{ID_OBJECT}`")),
            (None, found) => {
                self.require_same_inode()?;
                Ok(found.map(|id| self.id.get_or_init(|| id)).is_some())
            }
        }
    }

    fn require_same_inode(&self) -> Result<(), String> {
        match Inode::of(&self.folder) {
            Ok(found) if found == self.opened => Ok(()),
            Ok(_) => Err("is another than was opened".into()),
            Err(error) => Err(format!("is gone: {error}")),
        }
    }
}

impl Inode {
    fn of(folder: &Path) -> io::Result<Self> {
        let found = fs::metadata(folder)?;
        Ok(Self { device: found.dev(), number: found.ino() })
    }
}

/// The id of the folder; none where there is no id, or no folder.
fn read_id(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(ID_OBJECT)) {
        Ok(id) => Ok(Some(id)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
