//! A reader that refuses a CSV record longer than a limit before it is gathered in memory.

use std::io::{self, Read};

/// Passes bytes on while no record is longer than `limit` bytes. Follows quotes as RFC 4180 has them, so that a
/// quote never closed is one record.
pub(crate) struct RecordLimit<R> {
    inner: R,
    limit: usize,
    length: usize,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    QuoteInQuoted,
}

impl<R> RecordLimit<R> {
    pub(crate) fn new(inner: R, limit: usize) -> Self {
        Self { inner, limit, length: 0, state: State::FieldStart }
    }

    fn pass(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| {
            self.state = self.state.after(byte);
            let ended = byte == b'\n' && matches!(self.state, State::FieldStart);
            self.length = if ended { 0 } else { self.length + 1 };
            self.length <= self.limit
        })
    }
}

impl State {
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::FieldStart | Self::QuoteInQuoted, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::QuoteInQuoted,
            (Self::Quoted, _) => Self::Quoted,
            (_, b',' | b'\n') => Self::FieldStart,
            (_, _) => Self::Unquoted,
        }
    }
}

impl<R: Read> Read for RecordLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if self.pass(&buffer[..count]) {
            Ok(count)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a row has at most {} bytes, found a longer one", self.limit),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str, limit: usize) -> bool {
        io::copy(&mut RecordLimit::new(text.as_bytes(), limit), &mut io::sink()).is_ok()
    }

    #[test]
    fn a_long_record_is_refused() {
        assert!(passes("abc,d\nabc,d\n", 5));
        assert!(!passes("abc,d\nabc,de\n", 5));
    }

    #[test]
    fn quotes_join_lines_only_where_they_open_a_field() {
        assert!(!passes("\"ab\ncd\nef\"\n", 5));
        assert!(passes("5\" a\n5\" b\n5\" c\n", 5));
        assert!(passes("\"\"\"\"\n\"\"\"\"\n", 5));
    }
}
