//! Files as memory: [`MappedFile`], and what may lie in one, [`Region`] for bytes, [`Floats`] for values.

use std::{
    fmt,
    fs::File,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::{Advice, Mmap};

use crate::AnnError;

#[cfg(target_endian = "big")]
compile_error!("values are mapped as they lie on disk, little-endian");

/// A file that is read as memory. A clone is the same mapping.
///
/// The file must stay as it is: whoever opens it owns a file that nobody writes to or truncates. One that is removed, or replaced by a rename,
/// keeps its old content for who has it mapped. Reading past a truncation, or what the disk fails to read, ends the process (SIGBUS).
#[derive(Clone)]
pub struct MappedFile {
    map: Arc<Mmap>,
    path: Arc<PathBuf>,
}

/// Bytes that are owned or mapped, and shared as they are.
#[derive(Clone)]
pub(crate) enum Region {
    Owned(Arc<Vec<u8>>),
    Mapped(MappedFile),
}

/// 32-bit floats that are owned or mapped. A copy of mapped ones is the same mapping.
#[derive(Clone)]
pub(crate) enum Floats {
    Owned(Vec<f32>),
    Mapped(MappedFile),
}

impl MappedFile {
    /// Maps a file, and has its pages read ahead.
    pub fn open(path: &Path) -> Result<Self, AnnError> {
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        // SAFETY: the mapping is read alone; that nobody truncates the file is this type's contract with who opens it.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| unreadable(path, error))?;
        // Only advice: without it the pages come when they are first read.
        let _ = map.advise(Advice::WillNeed);
        Ok(Self { map: Arc::new(map), path: Arc::new(path.into()) })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({}, {} bytes)", self.path.display(), self.len())
    }
}

impl Region {
    /// The bytes that are owned, rather than the file's.
    pub(crate) fn owned_bytes(&self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len(),
            Self::Mapped(_) => 0,
        }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(file) => file,
        }
    }
}

impl Floats {
    /// A file of little-endian 32-bit floats.
    pub(crate) fn mapped(file: MappedFile) -> Result<Self, AnnError> {
        if !file.len().is_multiple_of(size_of::<f32>()) {
            return Err(unreadable(&file.path, format!("{} bytes are no whole number of 32-bit floats", file.len())));
        }
        Ok(Self::Mapped(file))
    }

    /// The values as a vector that can grow; mapped ones are copied.
    pub(crate) fn to_mut(&mut self) -> &mut Vec<f32> {
        if let Self::Mapped(_) = self {
            *self = Self::Owned(self.to_vec());
        }
        match self {
            Self::Owned(values) => values,
            Self::Mapped(_) => unreachable!("just copied"),
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped(file) => {
                // SAFETY: any bits are a float. Where the mapping does not begin at a float's boundary, the middle is shorter than the
                // mapping, which the assertion below refuses; mappings begin at pages.
                let (before, values, after) = unsafe { file.align_to::<f32>() };
                assert!(before.is_empty() && after.is_empty(), "a mapping begins at a page and was found whole");
                values
            }
        }
    }
}

fn unreadable(path: &Path, why: impl ToString) -> AnnError {
    AnnError::Unreadable { path: path.display().to_string(), why: why.to_string() }
}
