//! TensorBoard event files, of scalars alone.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of the length, message, masked CRC-32C of the message), each an `Event` of
//! tensorflow/core/util/event.proto. The messages below have the fields that scalars need, under their numbers there.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    time::Instant,
};

use prost::Message;

/// What the first event of a file says; TensorBoard refuses other versions.
const FILE_VERSION: &str = "brain.Event:2";

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// Writes events.
pub struct EventWriter<W: Write = BufWriter<File>> {
    out: W,
    /// Seconds since 1970 at `created`.
    wall_time_s: f64,
    created: Instant,
}

impl EventWriter {
    /// A new file in the directory, which is made if it is missing. `wall_time_s` is in seconds since 1970. Two runs that begin in one
    /// second and one directory are refused rather than mixed.
    pub fn create(dir: &Path, wall_time_s: f64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("events.out.tfevents.{wall_time_s:010.0}.pagoda"));
        Self::new(BufWriter::new(File::create_new(path)?), wall_time_s)
    }
}

impl<W: Write> EventWriter<W> {
    fn new(out: W, wall_time_s: f64) -> io::Result<Self> {
        let mut writer = Self { out, wall_time_s, created: Instant::now() };
        writer.write(&Event { wall_time: wall_time_s, step: 0, what: Some(What::FileVersion(FILE_VERSION.into())) })?;
        Ok(writer)
    }

    /// Appends a value of the curve `tag` and flushes it, so that a run can be watched.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> io::Result<()> {
        let wall_time = self.wall_time_s + self.created.elapsed().as_secs_f64();
        self.scalar_at(wall_time, tag, step, value)
    }

    fn scalar_at(&mut self, wall_time: f64, tag: &str, step: u64, value: f64) -> io::Result<()> {
        let summary = Summary { value: vec![Value { tag: tag.into(), simple_value: value as f32 }] };
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.write(&Event { wall_time, step, what: Some(What::Summary(summary)) })?;
        self.out.flush()
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked_crc(&length).to_le_bytes())?;
        self.out.write_all(&message)?;
        self.out.write_all(&masked_crc(&message).to_le_bytes())
    }
}

/// CRC-32C turned by 15 bits and moved by a constant: TFRecord's guard against checksums of checksums.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut writer = EventWriter::new(Vec::new(), 1.5).unwrap();
        writer.scalar_at(2.5, "loss/train", 7, 0.25).unwrap();
        writer.out
    }

    /// The bytes were made by TensorBoard 2.21's own messages and checksum, and read by its own reader, when they were put here.
    #[test]
    fn the_bytes_are_tensorboard_s() {
        let hex: String = file().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c2000000000000000",
                "29eda95009000000000000044010072a130a110a0a6c6f73732f747261696e150000803e01407433",
            )
        );
    }

    #[test]
    fn the_crc_is_castagnoli_s() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let mut writer = EventWriter::create(&dir, 1_700_000_000.25).unwrap();
        writer.scalar("loss/train", 1, 0.5).unwrap();
        let path = dir.join("events.out.tfevents.1700000000.pagoda");
        assert!(fs::read(&path).unwrap().len() > 60);
        assert_eq!(EventWriter::create(&dir, 1_700_000_000.25).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    }
}
