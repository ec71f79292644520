//! A generation as objects, and back. Pure: what is read here has passed its digest.

use bytes::Bytes;
use pagoda_ann::{Index, Matrix};

use super::{
    Blob, Manifest, Shard,
    manifest::{FORMAT_FLAT, FileDigest},
};
use crate::{
    attributes::{AttributeIndex, Columns},
    error::IndexError,
    ids::IdTable,
};

pub(super) const FAISS: &str = "faiss.index";
pub(super) const IDS: &str = "ids.bin";
/// The ids in format 1.
pub(super) const IDS_FLAT: &str = "items.txt";
pub(super) const VECTORS: &str = "vectors.f32";
/// Only where attributes are declared.
pub(super) const ATTRIBUTES: &str = "attributes.bin";
pub(super) const QUERIES: &str = "queries.f32";

/// An object to be written: its path relative to the generation, its bytes and their digest.
pub(super) struct Object {
    pub(super) path: String,
    pub(super) bytes: Bytes,
    pub(super) digest: FileDigest,
}

/// The objects of one shard, as they were read or mapped. Cheap to clone.
#[derive(Clone)]
pub(super) struct ShardBlobs {
    pub(super) number: u32,
    /// None where the shard has no rows.
    pub(super) faiss: Option<Blob>,
    pub(super) ids: Blob,
    pub(super) vectors: Blob,
    /// None where no attributes are declared.
    pub(super) attributes: Option<Blob>,
}

impl Object {
    pub(super) fn new(path: String, bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        Self { path, digest: FileDigest::of(&bytes), bytes }
    }
}

/// The object that the ids of a shard lie in.
pub(super) fn ids_name(manifest: &Manifest) -> &'static str {
    if manifest.format_version == FORMAT_FLAT { IDS_FLAT } else { IDS }
}

pub(super) fn shard_objects(manifest: &Manifest, shard: &Shard) -> Result<Vec<Object>, IndexError> {
    let path = |name| manifest.shard_path(shard.number, name);
    let mut objects = vec![
        Object::new(path(IDS), shard.items.encode()),
        Object::new(path(VECTORS), floats_to_bytes(shard.vectors.values())),
    ];
    if let Some(index) = &shard.index {
        objects.push(Object::new(path(FAISS), index.write()?));
    }
    if !manifest.attributes.is_empty() {
        objects.push(Object::new(path(ATTRIBUTES), shard.attributes.columns().encode()));
    }
    Ok(objects)
}

pub(super) fn queries_object(queries: &Matrix) -> Object {
    Object::new(QUERIES.to_owned(), floats_to_bytes(queries.values()))
}

pub(super) fn read_matrix(dim: usize, bytes: &[u8]) -> Result<Matrix, IndexError> {
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(mismatch("the values are not whole"));
    }
    Ok(Matrix::new(dim, floats.iter().map(|float| f32::from_le_bytes(*float)).collect())?)
}

/// Vectors and index stay mapped if they are; ids and attributes become tables in memory.
pub(super) fn read_shard(manifest: &Manifest, blobs: ShardBlobs) -> Result<Shard, IndexError> {
    let vectors = blobs.vectors.into_matrix(manifest.embedding_dim)?;
    let items = match manifest.format_version {
        FORMAT_FLAT => ids_from_lines(&blobs.ids)?,
        _ => IdTable::decode(&blobs.ids, vectors.rows()).map_err(|e| mismatch(&format!("{IDS}: {e}")))?,
    };
    let index = blobs.faiss.map(Blob::into_index).transpose()?;
    let indexed = index.as_ref().map_or(0, Index::rows);
    if [vectors.rows(), indexed] != [items.len(); 2]
        || index.as_ref().is_some_and(|index| index.dim() != manifest.embedding_dim)
    {
        return Err(mismatch("its parts have different numbers of rows or dimensions"));
    }
    let attributes = AttributeIndex::new(columns(manifest, blobs.attributes.as_deref(), items.len())?);
    Ok(Shard { number: blobs.number, index, tuning: manifest.tuning(blobs.number), items, vectors, attributes })
}

fn columns(manifest: &Manifest, bytes: Option<&[u8]>, rows: usize) -> Result<Columns, IndexError> {
    let columns = match bytes {
        Some(bytes) => Columns::decode(bytes, rows).map_err(|e| mismatch(&format!("{ATTRIBUTES}: {e}")))?,
        None => Columns::without_attributes(rows),
    };
    match columns.fit(&manifest.attributes) {
        true => Ok(columns),
        false => Err(mismatch("its attributes are not those that it declares")),
    }
}

/// One id a line.
fn ids_from_lines(bytes: &[u8]) -> Result<IdTable, IndexError> {
    let text = std::str::from_utf8(bytes).map_err(|_| mismatch("the ids are not UTF-8"))?;
    let lines: Vec<_> = text.lines().collect();
    IdTable::new(lines.iter().copied()).map_err(|e| mismatch(&e.to_string()))
}

fn floats_to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn mismatch(why: &str) -> IndexError {
    IndexError::Internal(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_first_format_are_read() {
        let table = ids_from_lines("a\né\n".as_bytes()).unwrap();
        assert_eq!((table.len(), table.row_of("é")), (2, Some(1)));
        assert!(ids_from_lines(b"b\na\n").is_err() && ids_from_lines(b"\xff\n").is_err());
    }
}
