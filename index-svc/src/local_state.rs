//! [`LocalState`]: a copy of the fold on the local disk, for a start while the store is away.

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::{generation::blocking, state::State};

const MAGIC: &[u8; 8] = b"PAGODAST";
const DIGEST_BYTES: usize = 32;

/// The file of an index's state: magic bytes, the SHA-256 of the rest, the SHA-256 of the store's address and the index's name, the state.
#[derive(Clone, Debug)]
pub(crate) struct LocalState {
    path: PathBuf,
    owner: [u8; DIGEST_BYTES],
}

impl LocalState {
    /// The file of the index of this name on the store of this address.
    pub(crate) fn new(path: &Path, store_url: &str, index_name: &str) -> Self {
        let owner =
            Sha256::new().chain_update(store_url).chain_update([0u8]).chain_update(index_name).finalize().into();
        Self { path: path.into(), owner }
    }

    /// Keeps an encoded state. What cannot be kept is not, with a warning.
    pub(crate) async fn write(&self, state: Bytes) {
        let this = self.clone();
        let written = blocking(move || {
            let mut body = BytesMut::with_capacity(DIGEST_BYTES + state.len());
            body.put_slice(&this.owner);
            body.put_slice(&state);
            let digest: [u8; DIGEST_BYTES] = Sha256::digest(&body).into();
            let file = [MAGIC.as_slice(), &digest, &body].concat();
            Ok(crate::generation::write_whole(&this.path, &file))
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, path = %self.path.display(), "the state was not kept on the local disk");
        }
    }

    /// The state that was kept, if it is whole and of this index on this store.
    pub(crate) fn read(&self) -> Option<State> {
        let file = Bytes::from(std::fs::read(&self.path).ok()?);
        let (head, body) = (MAGIC.len() + DIGEST_BYTES, MAGIC.len() + 2 * DIGEST_BYTES);
        let whole = file.len() >= body
            && file.starts_with(MAGIC)
            && file[MAGIC.len()..head] == Sha256::digest(&file[head..])[..]
            && file[head..body] == self.owner;
        whole.then(|| State::decode(file.slice(body..)).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_whole_state_of_the_same_index_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.bin");
        let local = LocalState::new(&path, "s3://a", "main");
        assert!(local.read().is_none());
        local.write(State::default().encode()).await;
        assert!(local.read().is_some());
        assert!(LocalState::new(&path, "s3://b", "main").read().is_none());
        let mut torn = std::fs::read(&path).unwrap();
        torn.pop();
        std::fs::write(&path, &torn).unwrap();
        assert!(local.read().is_none());
    }
}
