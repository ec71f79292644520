//! [`Blob`]: the bytes of an object, in memory or in a mapped file. Whose digest holds is for its reader to say.

use std::{fs, ops::Deref, path::PathBuf};

use bytes::Bytes;
use pagoda_ann::{Index, MappedFile, Matrix};

use super::files;
use crate::error::IndexError;

/// The bytes of an object. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Blob {
    Read(Bytes),
    Mapped(MappedFile),
}

impl Blob {
    /// A file of this machine, mapped or read; none where that fails.
    pub(super) async fn of_file(path: PathBuf, map: bool) -> Option<Self> {
        let open = move || match map {
            true => MappedFile::open(&path).ok().map(Self::Mapped),
            false => fs::read(path).ok().map(|bytes| Self::Read(bytes.into())),
        };
        tokio::task::spawn_blocking(open).await.ok()?
    }

    /// As rows of so many values. What is mapped stays so.
    pub(super) fn into_matrix(self, dim: usize) -> Result<Matrix, IndexError> {
        match self {
            Self::Read(bytes) => files::read_matrix(dim, &bytes),
            Self::Mapped(file) => Ok(Matrix::mapped(file, dim)?),
        }
    }

    /// As an index. What is mapped stays so, what was read is kept, neither is copied.
    pub(super) fn into_index(self) -> Result<Index, IndexError> {
        match self {
            Self::Read(bytes) => Ok(Index::from_bytes(bytes.into())?),
            Self::Mapped(file) => Ok(Index::mapped(file)?),
        }
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(file) => file,
        }
    }
}
