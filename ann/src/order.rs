//! [`Order`]: cells from the best to the worst, sorted only as far as they are asked for.

/// Cells sorted at first; each time more are needed, twice as many.
const FIRST: usize = 64;

/// Cells by descending score. A cell and its score are one number, so that selecting and sorting compare nothing else.
#[derive(Debug)]
pub(crate) struct Order {
    /// The complement of the score's rank, then the cell: ascending is best first.
    keys: Vec<u64>,
    next: usize,
    sorted: usize,
}

impl Order {
    /// Of cells with these scores.
    pub(crate) fn new(scores: &[f32]) -> Self {
        let keys = (0u64..).zip(scores).map(|(cell, score)| u64::from(!rank(*score)) << 32 | cell).collect();
        Self { keys, next: 0, sorted: 0 }
    }

    /// The next best cell and its score.
    pub(crate) fn next(&mut self) -> Option<(u32, f32)> {
        if self.next == self.sorted {
            self.sort_more();
        }
        let key = *self.keys.get(self.next)?;
        self.next += 1;
        Some((key as u32, score(!((key >> 32) as u32))))
    }

    fn sort_more(&mut self) {
        let end = (self.sorted.max(FIRST / 2) * 2).min(self.keys.len());
        let rest = &mut self.keys[self.sorted..];
        let n = end - self.sorted;
        if n < rest.len() {
            rest.select_nth_unstable(n);
        }
        rest[..n].sort_unstable();
        self.sorted = end;
    }
}

/// Greater for a greater score.
fn rank(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn score(rank: u32) -> f32 {
    f32::from_bits(if rank >> 31 == 1 { rank & !(1 << 31) } else { !rank })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cells_come_best_first(scores in prop::collection::vec(-2.0f32..2.0, 0..400)) {
            let mut order = Order::new(&scores);
            let found: Vec<_> = std::iter::from_fn(|| order.next()).collect();
            let mut expected: Vec<_> = (0u32..).zip(scores.iter().copied()).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            prop_assert_eq!(found, expected);
        }
    }
}
