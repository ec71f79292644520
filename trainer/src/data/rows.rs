//! [`Row`]: one row of the log as numbers, as it is kept in memory and in the temporary file.

use std::collections::HashSet;

use rayon::slice::ParallelSliceMut;

use super::Part;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The user's place.
    pub(crate) user: u32,
    /// The item's place.
    pub(crate) item: u32,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: i64,
    /// The event's place in the weights of events.
    pub(crate) event: u8,
    /// While the log is not split: test where the table says so, else train.
    pub(crate) part: Part,
}

impl Row {
    /// The length of a row in the file: its fields one after another, little-endian.
    pub(super) const BYTES: usize = 18;

    /// Appends the row's bytes.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.user.to_le_bytes());
        bytes.extend_from_slice(&self.item.to_le_bytes());
        bytes.extend_from_slice(&self.timestamp.to_le_bytes());
        bytes.extend_from_slice(&[self.event, u8::from(self.part == Part::Test)]);
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(bytes: &[u8; Self::BYTES]) -> Self {
        let [u0, u1, u2, u3, i0, i1, i2, i3, t0, t1, t2, t3, t4, t5, t6, t7, event, test] = *bytes;
        Self {
            user: u32::from_le_bytes([u0, u1, u2, u3]),
            item: u32::from_le_bytes([i0, i1, i2, i3]),
            timestamp: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            event,
            part: if test == 1 { Part::Test } else { Part::Train },
        }
    }
}

/// Sorts rows by (user, time, order in the log) and drops those that repeat an earlier one in every column.
pub(super) fn settle(rows: &mut Vec<Row>) {
    rows.par_sort_by_key(|row| (row.user, row.timestamp));
    let mut moment = None;
    let mut seen = HashSet::new();
    rows.retain(|row| {
        if moment != Some((row.user, row.timestamp)) {
            moment = Some((row.user, row.timestamp));
            seen.clear();
        }
        seen.insert((row.item, row.event, row.part == Part::Test))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: u32, item: u32, timestamp: i64, event: u8) -> Row {
        Row { user, item, timestamp, event, part: Part::Train }
    }

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let rows = [
            Row { user: u32::MAX - 1, item: 7, timestamp: i64::MAX, event: 255, part: Part::Test },
            row(0, u32::MAX, -1, 0),
        ];
        for row in rows {
            let mut bytes = Vec::new();
            row.write(&mut bytes);
            assert_eq!(Row::read(&bytes.try_into().unwrap()), row);
        }
    }

    #[test]
    fn rows_are_sorted_with_ties_in_the_order_of_the_log_and_exact_repeats_dropped() {
        let mut rows =
            vec![row(1, 9, 5, 0), row(0, 3, 8, 0), row(1, 2, 5, 0), row(1, 9, 5, 0), row(1, 9, 5, 1), row(1, 9, 6, 0)];
        settle(&mut rows);
        assert_eq!(rows, [row(0, 3, 8, 0), row(1, 9, 5, 0), row(1, 2, 5, 0), row(1, 9, 5, 1), row(1, 9, 6, 0)]);
    }
}
