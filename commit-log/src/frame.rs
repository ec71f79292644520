//! What a log object looks like on the store: a 40-byte header, then the payload.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `PAGODALG` |
//! | 8..10 | format version, little-endian like all that follows |
//! | 10..12 | zero |
//! | 12..28 | put id: random, tells a writer its own object from another's |
//! | 28..36 | payload length in bytes |
//! | 36..40 | CRC-32 of bytes 0..36 and the payload |

use bytes::{Bytes, BytesMut};

const MAGIC: &[u8; 8] = b"PAGODALG";
const FORMAT_VERSION: u16 = 1;
const CHECKED_HEADER_BYTES: usize = 36;
const HEADER_BYTES: usize = 40;

/// Tells one put from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutId(pub(crate) u128);

/// A log object, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) put_id: PutId,
    pub(crate) payload: Bytes,
}

/// Why bytes are no log object that this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than a header.
    #[error("torn: {found} bytes, a header has {HEADER_BYTES}")]
    TornHeader {
        /// The bytes there are.
        found: usize,
    },
    /// The first bytes are not a log object's.
    #[error("not a log object: the magic bytes are missing")]
    NoMagic,
    /// A newer program wrote it.
    #[error("log format version {found}, this program reads {FORMAT_VERSION}: use a newer one")]
    UnknownVersion {
        /// The version found.
        found: u16,
    },
    /// The payload is not as long as the header says.
    #[error("torn: the header says {expected} bytes of payload, found {found}")]
    WrongLength {
        /// As the header says.
        expected: u64,
        /// As there are.
        found: u64,
    },
    /// The checksum does not hold.
    #[error("corrupt: the checksum is {found:08x}, the header says {expected:08x}")]
    WrongChecksum {
        /// As the header says.
        expected: u32,
        /// As computed.
        found: u32,
    },
}

pub(crate) fn encode(frame: &Frame) -> Bytes {
    let mut object = BytesMut::with_capacity(HEADER_BYTES + frame.payload.len());
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    object.extend_from_slice(&[0; 2]);
    object.extend_from_slice(&frame.put_id.0.to_le_bytes());
    object.extend_from_slice(&(frame.payload.len() as u64).to_le_bytes());
    let checksum = checksum(&object, &frame.payload);
    object.extend_from_slice(&checksum.to_le_bytes());
    object.extend_from_slice(&frame.payload);
    object.freeze()
}

pub(crate) fn decode(object: &Bytes) -> Result<Frame, FrameError> {
    if object.len() < HEADER_BYTES {
        return Err(FrameError::TornHeader { found: object.len() });
    }
    if &object[..8] != MAGIC {
        return Err(FrameError::NoMagic);
    }
    let version = u16::from_le_bytes(field(object, 8));
    if version != FORMAT_VERSION {
        return Err(FrameError::UnknownVersion { found: version });
    }
    let payload = object.slice(HEADER_BYTES..);
    let (expected, found) = (u64::from_le_bytes(field(object, 28)), payload.len() as u64);
    if expected != found {
        return Err(FrameError::WrongLength { expected, found });
    }
    let expected = u32::from_le_bytes(field(object, CHECKED_HEADER_BYTES));
    match checksum(&object[..CHECKED_HEADER_BYTES], &payload) {
        found if found == expected => Ok(Frame { put_id: PutId(u128::from_le_bytes(field(object, 12))), payload }),
        found => Err(FrameError::WrongChecksum { expected, found }),
    }
}

fn field<const N: usize>(object: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&object[offset..offset + N]);
    bytes
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = Frame> {
        (any::<u128>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(put_id, payload)| Frame { put_id: PutId(put_id), payload: payload.into() })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frame in frame()) {
            prop_assert_eq!(decode(&encode(&frame)), Ok(frame));
        }

        #[test]
        fn any_flipped_bit_is_found(frame in frame(), bit in any::<prop::sample::Index>()) {
            let mut object = encode(&frame).to_vec();
            let bit = bit.index(object.len() * 8);
            object[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&object.into()).is_err());
        }

        #[test]
        fn any_truncation_is_found(frame in frame(), length in any::<prop::sample::Index>()) {
            let object = encode(&frame);
            prop_assert!(decode(&object.slice(..length.index(object.len()))).is_err());
        }

        #[test]
        fn random_bytes_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode(&bytes.into()).is_err());
        }
    }

    #[test]
    fn the_format_is_the_one_on_disk() {
        let object = encode(&Frame { put_id: PutId(1), payload: Bytes::from_static(b"x") });
        assert_eq!(object.len(), 41);
        assert_eq!(&object[..12], b"PAGODALG\x01\0\0\0");
    }
}
