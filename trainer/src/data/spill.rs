//! [`Spill`]: rows in a temporary file, bucket by bucket. It has no name, so that nothing is left of it when the process ends, however it does.
//!
//! One file for all buckets: each has a buffer, and a full buffer becomes a block at the file's end. So writing is sequential, and open
//! files do not grow with buckets.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use super::rows::Row;

/// Rows of a block.
const BLOCK_ROWS: usize = 4096;

/// Rows by bucket, each bucket in the order in which its rows came.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    end: u64,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    buffer: Vec<u8>,
    blocks: Vec<Block>,
}

/// So many rows from a place in the file on.
#[derive(Clone, Copy, Debug)]
struct Block {
    at: u64,
    rows: usize,
}

impl Spill {
    /// Without rows yet; the file is in the system's directory for temporary files (`TMPDIR`).
    pub(super) fn new(buckets: usize) -> io::Result<Self> {
        let buckets = (0..buckets).map(|_| Bucket::default()).collect();
        Ok(Self { file: tempfile::tempfile()?, end: 0, buckets })
    }

    /// Appends a row to a bucket.
    pub(super) fn push(&mut self, bucket: usize, row: &Row) -> io::Result<()> {
        row.write(&mut self.buckets[bucket].buffer);
        if self.buckets[bucket].buffer.len() == BLOCK_ROWS * Row::BYTES { self.flush(bucket) } else { Ok(()) }
    }

    /// Ends writing: buckets become groups, each of the buckets in it.
    pub(super) fn regroup(mut self, groups: &[Vec<usize>]) -> io::Result<Self> {
        (0..self.buckets.len()).try_for_each(|bucket| self.flush(bucket))?;
        let blocks = |group: &Vec<usize>| group.iter().flat_map(|&b| self.buckets[b].blocks.clone()).collect();
        let buckets = groups.iter().map(|group| Bucket { buffer: Vec::new(), blocks: blocks(group) }).collect();
        Ok(Self { buckets, ..self })
    }

    /// Rows of a bucket.
    pub(super) fn len(&self, bucket: usize) -> usize {
        let Bucket { buffer, blocks } = &self.buckets[bucket];
        blocks.iter().map(|block| block.rows).sum::<usize>() + buffer.len() / Row::BYTES
    }

    /// Reads all rows of a bucket that has been written.
    pub(super) fn read(&mut self, bucket: usize) -> io::Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(self.len(bucket));
        let mut bytes = Vec::new();
        for block in &self.buckets[bucket].blocks {
            bytes.resize(block.rows * Row::BYTES, 0);
            self.file.seek(SeekFrom::Start(block.at))?;
            self.file.read_exact(&mut bytes)?;
            rows.extend(bytes.as_chunks().0.iter().map(Row::read));
        }
        Ok(rows)
    }

    /// Puts rows, no more than there are, in place of a bucket's.
    pub(super) fn rewrite(&mut self, bucket: usize, rows: &[Row]) -> io::Result<()> {
        let mut left = rows;
        let mut bytes = Vec::new();
        for block in &mut self.buckets[bucket].blocks {
            let (now, later) = left.split_at(left.len().min(block.rows));
            (left, block.rows) = (later, now.len());
            bytes.clear();
            now.iter().for_each(|row| row.write(&mut bytes));
            self.file.seek(SeekFrom::Start(block.at))?;
            self.file.write_all(&bytes)?;
        }
        debug_assert!(left.is_empty(), "a bucket never grows");
        Ok(())
    }

    fn flush(&mut self, bucket: usize) -> io::Result<()> {
        let Bucket { buffer, blocks } = &mut self.buckets[bucket];
        self.file.write_all(buffer)?;
        blocks.push(Block { at: self.end, rows: buffer.len() / Row::BYTES });
        self.end += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Part;

    fn rows(spill: &mut Spill, bucket: usize) -> Vec<u32> {
        spill.read(bucket).unwrap().iter().map(|row| row.item).collect()
    }

    #[test]
    fn groups_of_buckets_read_back_in_order_over_many_blocks_and_shrink_in_place() {
        let mut spill = Spill::new(3).unwrap();
        let count = 3 * 2 * BLOCK_ROWS as u32 + 5;
        for item in 0..count {
            let row = Row { user: 0, item, timestamp: 0, event: 0, part: Part::Train };
            spill.push(item as usize % 3, &row).unwrap();
        }
        let mut spill = spill.regroup(&[vec![2, 0], vec![1]]).unwrap();
        let of = |bucket: u32| (bucket..count).step_by(3);
        assert_eq!(rows(&mut spill, 0), of(2).chain(of(0)).collect::<Vec<_>>());
        let kept: Vec<Row> = spill.read(0).unwrap().into_iter().filter(|row| row.item % 2 == 0).collect();
        spill.rewrite(0, &kept).unwrap();
        assert_eq!(spill.read(0).unwrap(), kept);
        assert_eq!((spill.len(0), rows(&mut spill, 1)), (kept.len(), of(1).collect()));
    }
}
