//! What an object of a log looks like on the store: a 40-byte header, then the payload.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `PAGODALG` |
//! | 8..10 | format version, little-endian like all that follows: 1 for commits, 2 for stubs and checkpoints |
//! | 10..12 | kind: 0 commit, 1 stub, 2 checkpoint |
//! | 12..28 | put id of a commit: random, tells a writer its own object from another's; a stub keeps that of the commit it replaced; a checkpoint's position |
//! | 28..36 | payload length in bytes |
//! | 36..40 | CRC-32 of bytes 0..36 and the payload |
//!
//! A stub's payload is the position up to which the log was cleaned. Programs that know version 1 alone read every commit, and refuse a
//! stub and a checkpoint by their version.

use bytes::{Bytes, BytesMut};

use crate::log::Lsn;

const MAGIC: &[u8; 8] = b"PAGODALG";
const COMMIT_VERSION: u16 = 1;
const NEWEST_VERSION: u16 = 2;
const CHECKED_HEADER_BYTES: usize = 36;
const HEADER_BYTES: usize = 40;
/// The size of a whole stub.
pub(crate) const STUB_BYTES: u64 = 48;

/// Tells one put from every other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PutId(pub(crate) u128);

/// An object of a log, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Commit {
        put_id: PutId,
        payload: Bytes,
    },
    /// What is left of a commit that a checkpoint covers.
    Stub {
        put_id: PutId,
        cleaned_to: Lsn,
    },
    Checkpoint {
        lsn: Lsn,
        payload: Bytes,
    },
}

/// What an object of a log is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A payload at a position.
    Commit,
    /// What is left of a commit that a checkpoint covers.
    Stub,
    /// The state after a position.
    Checkpoint,
}

/// Why bytes are no object of a log that this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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
    #[error("log format version {found}, this program reads up to {NEWEST_VERSION}: use a newer one")]
    UnknownVersion {
        /// The version found.
        found: u16,
    },
    /// The version has no such kind of object.
    #[error("log format version {version} has no kind {found}")]
    UnknownKind {
        /// The version of the object.
        version: u16,
        /// The kind found.
        found: u16,
    },
    /// An object of another kind belongs here.
    #[error("a {found} lies where a {expected} belongs")]
    Misplaced {
        /// What belongs here.
        expected: FrameKind,
        /// What was found.
        found: FrameKind,
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
    /// Whole, and yet no program of ours writes it so.
    #[error("invalid: {why}")]
    Invalid {
        /// What is wrong.
        why: &'static str,
    },
}

impl Frame {
    pub(crate) fn kind(&self) -> FrameKind {
        match self {
            Self::Commit { .. } => FrameKind::Commit,
            Self::Stub { .. } => FrameKind::Stub,
            Self::Checkpoint { .. } => FrameKind::Checkpoint,
        }
    }
}

impl std::fmt::Display for FrameKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Commit => "commit",
            Self::Stub => "stub",
            Self::Checkpoint => "checkpoint",
        })
    }
}

pub(crate) fn encode(frame: &Frame) -> Bytes {
    match frame {
        Frame::Commit { put_id, payload } => object(COMMIT_VERSION, 0, put_id.0, payload),
        Frame::Stub { put_id, cleaned_to } => object(NEWEST_VERSION, 1, put_id.0, &cleaned_to.0.to_le_bytes()),
        Frame::Checkpoint { lsn, payload } => object(NEWEST_VERSION, 2, lsn.0.into(), payload),
    }
}

pub(crate) fn decode(object: &Bytes) -> Result<Frame, FrameError> {
    if object.len() < HEADER_BYTES {
        return Err(FrameError::TornHeader { found: object.len() });
    }
    if &object[..8] != MAGIC {
        return Err(FrameError::NoMagic);
    }
    let version = u16::from_le_bytes(field(object, 8));
    if !(COMMIT_VERSION..=NEWEST_VERSION).contains(&version) {
        return Err(FrameError::UnknownVersion { found: version });
    }
    let payload = object.slice(HEADER_BYTES..);
    check(object, &payload)?;
    let id = u128::from_le_bytes(field(object, 12));
    match (version, u16::from_le_bytes(field(object, 10))) {
        (COMMIT_VERSION, 0) => Ok(Frame::Commit { put_id: PutId(id), payload }),
        (NEWEST_VERSION, 1) => stub(PutId(id), &payload),
        (NEWEST_VERSION, 2) => checkpoint(id, payload),
        (version, found) => Err(FrameError::UnknownKind { version, found }),
    }
}

/// The put id of what may be an object of a log, from its header alone: nothing is checked.
pub(crate) fn put_id(header: &[u8]) -> PutId {
    if header.len() < HEADER_BYTES { PutId::default() } else { PutId(u128::from_le_bytes(field(header, 12))) }
}

fn object(version: u16, kind: u16, id: u128, payload: &[u8]) -> Bytes {
    let mut object = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&version.to_le_bytes());
    object.extend_from_slice(&kind.to_le_bytes());
    object.extend_from_slice(&id.to_le_bytes());
    object.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let checksum = checksum(&object, payload);
    object.extend_from_slice(&checksum.to_le_bytes());
    object.extend_from_slice(payload);
    object.freeze()
}

fn check(object: &[u8], payload: &[u8]) -> Result<(), FrameError> {
    let (expected, found) = (u64::from_le_bytes(field(object, 28)), payload.len() as u64);
    if expected != found {
        return Err(FrameError::WrongLength { expected, found });
    }
    let expected = u32::from_le_bytes(field(object, CHECKED_HEADER_BYTES));
    match checksum(&object[..CHECKED_HEADER_BYTES], payload) {
        found if found == expected => Ok(()),
        found => Err(FrameError::WrongChecksum { expected, found }),
    }
}

fn stub(put_id: PutId, payload: &[u8]) -> Result<Frame, FrameError> {
    let cleaned_to = payload.try_into().map_err(|_| FrameError::Invalid { why: "a stub holds one position" })?;
    Ok(Frame::Stub { put_id, cleaned_to: Lsn(u64::from_le_bytes(cleaned_to)) })
}

fn checkpoint(lsn: u128, payload: Bytes) -> Result<Frame, FrameError> {
    let lsn = lsn.try_into().map_err(|_| FrameError::Invalid { why: "the checkpoint's position is past 64 bits" })?;
    Ok(Frame::Checkpoint { lsn: Lsn(lsn), payload })
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

    fn payload() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            (any::<u128>(), payload()).prop_map(|(id, payload)| Frame::Commit { put_id: PutId(id), payload }),
            (any::<u128>(), any::<u64>()).prop_map(|(id, to)| Frame::Stub { put_id: PutId(id), cleaned_to: Lsn(to) }),
            (any::<u64>(), payload()).prop_map(|(lsn, payload)| Frame::Checkpoint { lsn: Lsn(lsn), payload }),
        ]
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

        /// Headers that are nearly right, with a checksum that holds: what hides behind the checksum is checked, too.
        #[test]
        fn a_forged_header_is_read_only_as_what_a_program_of_ours_writes(
            version in 0..4u16, kind in 0..4u16, id in any::<u128>(), payload in payload(),
        ) {
            let forged = object(version, kind, id, &payload);
            match decode(&forged) {
                Ok(frame) => prop_assert_eq!(encode(&frame), forged),
                Err(error) => prop_assert_ne!(std::mem::discriminant(&error), std::mem::discriminant(&FrameError::WrongChecksum { expected: 0, found: 0 })),
            }
        }
    }

    #[test]
    fn the_format_is_the_one_on_disk() {
        let commit = encode(&Frame::Commit { put_id: PutId(1), payload: Bytes::from_static(b"x") });
        assert_eq!(commit.len(), 41);
        assert_eq!(&commit[..12], b"PAGODALG\x01\0\0\0");
        let stub = encode(&Frame::Stub { put_id: PutId(1), cleaned_to: Lsn(7) });
        assert_eq!(&stub[..12], b"PAGODALG\x02\0\x01\0");
        assert_eq!((stub.len() as u64, &stub[HEADER_BYTES..]), (STUB_BYTES, 7_u64.to_le_bytes().as_slice()));
        let checkpoint = encode(&Frame::Checkpoint { lsn: Lsn(7), payload: Bytes::from_static(b"x") });
        assert_eq!(&checkpoint[..12], b"PAGODALG\x02\0\x02\0");
    }
}
