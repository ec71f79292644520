//! [`ColumnsByItem`]: which columns of a batch are no negatives of a row, because the row's user is known to like their items.

use std::ops::Range;

use rayon::prelude::*;

use super::{ledger::Pairs, lists::Lists, sources::Source, targets::Target};

const NONE: u32 = u32::MAX;

/// Finds the columns of an item: a linked list through a batch's columns, by catalog item.
pub(super) struct ColumnsByItem {
    first: Vec<u32>,
    next: Vec<u32>,
}

/// One row's masked columns, and counts of them by shared source.
#[derive(Default)]
struct Hits {
    columns: Vec<u32>,
    known: [u64; Source::SHARED],
    later: [u64; Source::SHARED],
}

impl ColumnsByItem {
    /// For a catalog of so many items.
    pub(super) fn new(catalog: usize) -> Self {
        Self { first: vec![NONE; catalog], next: Vec::new() }
    }

    /// For each row its own column (where positives are columns) and those of items that its user is known to like, in training: the
    /// row's own item elsewhere among them. These are no negatives. `segments` are the columns of each shared source.
    pub(super) fn masked(
        &mut self,
        targets: &[Target<'_>],
        columns: &[u32],
        own: bool,
        segments: &[Range<usize>],
    ) -> (Lists<u32>, Pairs) {
        self.link(columns);
        let ends: Vec<u32> = segments.iter().map(|segment| segment.end as u32).collect();
        let hits: Vec<Hits> =
            targets.par_iter().enumerate().map(|(row, target)| self.hits(row, target, own, &ends)).collect();
        columns.iter().for_each(|&item| self.first[item as usize] = NONE);
        let mut pairs = Pairs::default();
        let (mut masked, rows) = (Lists::new(), targets.len() as u64);
        for (source, segment) in segments.iter().enumerate() {
            let own = if own && source == 0 { rows } else { 0 };
            pairs.drawn[source] = segment.len() as u64 * rows - own;
        }
        for hits in hits {
            for source in 0..Source::SHARED {
                pairs.masked[source] += hits.known[source];
                pairs.later[source] += hits.later[source];
            }
            masked.push(hits.columns);
        }
        (masked, pairs)
    }

    /// For each row the columns of items that it may also draw from a pool of its own, and what that adds to the log of how often it
    /// draws them. `pools` are a row's, each with the frequency of one item of it.
    pub(super) fn adjusted<'p>(
        &mut self,
        targets: &[Target<'_>],
        columns: &[u32],
        log_q: &[f32],
        pools: impl Fn(&Target<'_>) -> [(&'p [u32], f64); 2] + Sync,
    ) -> Lists<(u32, f32)> {
        self.link(columns);
        let of_row = |target: &Target<'_>| {
            let mut row = Vec::new();
            for (pool, frequency) in pools(target) {
                for &item in pool {
                    let mut column = self.first[item as usize];
                    while column != NONE {
                        let more = (frequency / f64::from(log_q[column as usize]).exp()).ln_1p();
                        row.push((column, more as f32));
                        column = self.next[column as usize];
                    }
                }
            }
            row
        };
        let rows: Vec<Vec<(u32, f32)>> = targets.par_iter().map(of_row).collect();
        columns.iter().for_each(|&item| self.first[item as usize] = NONE);
        rows.into_iter().collect()
    }

    fn link(&mut self, columns: &[u32]) {
        self.next.clear();
        for (column, &item) in columns.iter().enumerate() {
            self.next.push(self.first[item as usize]);
            self.first[item as usize] = column as u32;
        }
    }

    fn hits(&self, row: usize, target: &Target<'_>, own: bool, ends: &[u32]) -> Hits {
        let mut met: Vec<(u32, bool)> = Vec::new();
        for (at, &item) in target.timeline.items.iter().enumerate() {
            let mut column = self.first[item as usize];
            while column != NONE {
                met.push((column, at > target.at));
                column = self.next[column as usize];
            }
        }
        // An item that is liked twice is met twice; it turned positive the first time.
        met.sort_unstable();
        met.dedup_by_key(|&mut (column, _)| column);
        let mut hits = Hits::default();
        for (column, later) in met {
            hits.columns.push(column);
            if !(own && column as usize == row) {
                let source = ends.partition_point(|&end| end <= column).min(Source::SHARED - 1);
                hits.known[source] += 1;
                hits.later[source] += u64::from(later);
            }
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Timelines;

    #[test]
    fn a_users_positives_are_masked_and_counted_by_source() {
        let timelines = Timelines::of_rows(&[(0, 5, 1), (0, 6, 2), (1, 7, 3), (2, 5, 4)]);
        let targets = [(0, 0), (1, 0), (2, 0)].map(|(n, at)| Target { timeline: timelines.timeline(n), at });
        let mut columns = ColumnsByItem::new(10);
        let segments = [0..3, 3..6, 6..6, 6..6];
        for _ in 0..2 {
            let (masked, pairs) = columns.masked(&targets, &[5, 7, 5, 6, 8, 7], true, &segments);
            assert_eq!((masked.list(0), masked.list(1), masked.list(2)), (&[0, 2, 3][..], &[1, 5][..], &[0, 2][..]));
            assert_eq!(pairs.drawn[..2], [6, 9]);
            assert_eq!(pairs.masked[..2], [2, 2]);
            assert_eq!(pairs.later[..2], [0, 1], "item 6 turns positive later");
        }
        let twice = Timelines::of_rows(&[(0, 5, 1), (0, 6, 2), (0, 5, 3)]);
        let target = Target { timeline: twice.timeline(0), at: 1 };
        let (masked, pairs) = columns.masked(&[target], &[5], false, &[0..0, 0..1, 1..1, 1..1]);
        assert_eq!((masked.list(0), pairs.masked[1], pairs.later[1]), (&[0][..], 1, 0), "a repeat counts once");
        let (masked, pairs) = columns.masked(&targets[1..2], &[7, 8], false, &[0..0, 0..2, 2..2, 2..2]);
        assert_eq!((masked.list(0), pairs.drawn[1], pairs.masked[1]), (&[0][..], 2, 1));
    }
}
