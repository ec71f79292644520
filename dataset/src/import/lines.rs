//! Text files line by line, in UTF-8 or, where a line is not, in Latin-1, which older data sets use.

use std::{
    borrow::Cow,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use crate::{
    bad_rows::{BadRows, Limits, RowCounter},
    error::DatasetError,
};

/// Visits every line that is not blank. An error of `visit` makes the line a bad row.
pub(super) fn read_lines(
    path: &Path,
    limits: &Limits,
    mut visit: impl FnMut(&str) -> Result<(), String>,
) -> Result<BadRows, DatasetError> {
    let name = path.display().to_string();
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(|e| DatasetError::io(path, e))?);
    let mut counter = RowCounter::new(&name, limits);
    let mut line = Vec::new();
    for number in 1.. {
        if !read_line(&mut reader, &mut line, limits.row_bytes_max).map_err(|e| at_row(&name, number, e))? {
            break;
        }
        if !line.trim_ascii().is_empty() {
            counter.count(number, visit(decoded(line.trim_ascii_end()).trim_start_matches('\u{feff}')))?;
        }
    }
    counter.finish()
}

fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: usize) -> Result<bool, std::io::Error> {
    line.clear();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let count = std::io::Read::take(reader, limit).read_until(b'\n', line)?;
    if count > bytes_max && !line.ends_with(b"\n") {
        return Err(std::io::Error::other(format!("a row has at most {bytes_max} bytes, found a longer one")));
    }
    Ok(count > 0)
}

fn at_row(name: &str, row: u64, error: std::io::Error) -> DatasetError {
    DatasetError::malformed(name, format!("row {row}: {error}"))
}

/// Latin-1's bytes are Unicode's first 256 characters.
fn decoded(line: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(line).map_or_else(|_| line.iter().map(|&b| char::from(b)).collect(), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_decoded_tolerantly() {
        assert_eq!(decoded("à".as_bytes()), "à");
        assert_eq!(decoded(b"\xe0 l'ombre"), "à l'ombre");
    }
}
