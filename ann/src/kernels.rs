//! The inner products of `cpp/kernels.cpp`, behind slices whose lengths are checked here.

use crate::Hit;

/// Rows that one call scores: their positions and scores lie on its caller's stack.
pub(crate) const BLOCK_ROWS: usize = 512;

unsafe extern "C" {
    fn pagoda_ann_dots(query: *const f32, rows: *const u8, n: usize, dim: usize, scores: *mut f32);
    fn pagoda_ann_dots_above(
        query: *const f32,
        rows: *const u8,
        n: usize,
        dim: usize,
        threshold: f32,
        ahead: *const RawAhead,
        positions: *mut u32,
        scores: *mut f32,
    ) -> usize;
    fn pagoda_ann_dots_at(
        query: *const f32,
        rows: *const u8,
        dim: usize,
        positions: *const u32,
        n: usize,
        scores: *mut f32,
    );
    fn pagoda_ann_byte_dots_above(
        query: *const i16,
        codes: *const u8,
        n: usize,
        dim: usize,
        threshold: i32,
        ahead: *const RawAhead,
        positions: *mut u32,
        sums: *mut i32,
    ) -> usize;
    fn pagoda_ann_byte_dots_at(
        query: *const i16,
        codes: *const u8,
        dim: usize,
        positions: *const u32,
        n: usize,
        sums: *mut i32,
    );
}

/// Rows of 32-bit floats that lie end to end, at any address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    bytes: &'a [u8],
    dim: usize,
}

/// What is read after some rows, so that it can be fetched in time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead<'a> {
    /// From those rows on, all that is read in this place.
    pub(crate) rest: &'a [u8],
    /// What is read then.
    pub(crate) next: &'a [u8],
}

#[repr(C)]
struct RawAhead {
    rest: *const u8,
    rest_bytes: usize,
    next: *const u8,
    next_bytes: usize,
}

impl Ahead<'_> {
    fn raw(&self) -> RawAhead {
        let Self { rest, next } = self;
        RawAhead { rest: rest.as_ptr(), rest_bytes: rest.len(), next: next.as_ptr(), next_bytes: next.len() }
    }
}

/// Positions and scores of the rows of a block, as many as were found.
pub(crate) struct Block<T> {
    positions: [u32; BLOCK_ROWS],
    scores: [T; BLOCK_ROWS],
    found: usize,
}

impl<T: Copy + Default> Block<T> {
    pub(crate) fn new() -> Self {
        Self { positions: [0; BLOCK_ROWS], scores: [T::default(); BLOCK_ROWS], found: 0 }
    }

    /// What was found: positions with scores.
    pub(crate) fn found(&self) -> impl Iterator<Item = (u32, T)> + '_ {
        let found = ..self.found;
        self.positions[found].iter().copied().zip(self.scores[found].iter().copied())
    }

    /// Sets the positions to be scored, at most [`BLOCK_ROWS`].
    pub(crate) fn set_positions(&mut self, positions: impl Iterator<Item = u32>) {
        self.found = 0;
        for position in positions {
            self.positions[self.found] = position;
            self.found += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found == 0
    }
}

impl<'a> Rows<'a> {
    /// The rows of a matrix.
    pub(crate) fn of(values: &'a [f32], dim: usize) -> Self {
        // SAFETY: a float is four bytes of any value, and the slice is as long in bytes as it says.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        Self { bytes, dim }
    }

    /// Bytes as rows; what is behind the last whole one is none.
    pub(crate) fn from_bytes(bytes: &'a [u8], dim: usize) -> Self {
        Self { bytes, dim }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / (size_of::<f32>() * self.dim)
    }

    /// So many rows from one on.
    pub(crate) fn part(self, from: usize, n: usize) -> Self {
        let row_bytes = size_of::<f32>() * self.dim;
        Self { bytes: &self.bytes[from * row_bytes..][..n * row_bytes], dim: self.dim }
    }

    /// Blocks of so many rows, the last one shorter.
    pub(crate) fn blocks(self, rows: usize) -> impl Iterator<Item = Self> {
        let whole = self.len() * self.dim * size_of::<f32>();
        let blocks = self.bytes[..whole].chunks(rows * self.dim * size_of::<f32>());
        blocks.map(move |bytes| Self { bytes, dim: self.dim })
    }

    /// The score of every row.
    pub(crate) fn scores(self, query: &[f32], scores: &mut [f32]) {
        assert!(
            query.len() == self.dim && scores.len() == self.len(),
            "a query of the rows' dimension, a score for each"
        );
        // SAFETY: there are scores.len() rows of query.len() values, as just asserted.
        unsafe {
            pagoda_ann_dots(query.as_ptr(), self.bytes.as_ptr(), scores.len(), self.dim, scores.as_mut_ptr());
        }
    }

    /// The rows, at most [`BLOCK_ROWS`], that are not below a threshold.
    pub(crate) fn above(self, query: &[f32], threshold: f32, ahead: Ahead, block: &mut Block<f32>) {
        let n = self.len();
        assert!(query.len() == self.dim && n <= BLOCK_ROWS, "a query of the rows' dimension, a block of rows");
        let (positions, scores) = (block.positions.as_mut_ptr(), block.scores.as_mut_ptr());
        let (query, rows) = (query.as_ptr(), self.bytes.as_ptr());
        // SAFETY: there are n rows of query.len() values, and the block has room for n. What lies ahead is not read.
        block.found =
            unsafe { pagoda_ann_dots_above(query, rows, n, self.dim, threshold, &ahead.raw(), positions, scores) };
    }

    /// The scores of the rows at the block's positions.
    pub(crate) fn at(self, query: &[f32], block: &mut Block<f32>) {
        let positions = &block.positions[..block.found];
        assert!(query.len() == self.dim && are_below(positions, self.len()), "positions of rows");
        let (positions, scores) = (positions.as_ptr(), block.scores.as_mut_ptr());
        // SAFETY: every position is one of the rows', which have query.len() values.
        unsafe {
            pagoda_ann_dots_at(query.as_ptr(), self.bytes.as_ptr(), self.dim, positions, block.found, scores);
        }
    }

    /// Sets each hit's score to that of its row; panics where there is no such row.
    pub(crate) fn score_hits(self, query: &[f32], hits: &mut [Hit]) {
        let mut block = Block::new();
        for hits in hits.chunks_mut(BLOCK_ROWS) {
            block.set_positions(hits.iter().map(|hit| hit.row));
            self.at(query, &mut block);
            hits.iter_mut().zip(block.scores).for_each(|(hit, score)| hit.score = score);
        }
    }
}

/// Sums of products of a query's 16-bit and rows' 8-bit numbers that are not below a threshold; at most [`BLOCK_ROWS`] rows.
pub(crate) fn byte_dots_above(query: &[i16], codes: &[u8], threshold: i32, ahead: Ahead, block: &mut Block<i32>) {
    let n = codes.len() / query.len();
    assert!(n <= BLOCK_ROWS, "a block of rows");
    let (positions, sums) = (block.positions.as_mut_ptr(), block.scores.as_mut_ptr());
    let (dim, query, codes) = (query.len(), query.as_ptr(), codes.as_ptr());
    // SAFETY: there are n codes of query.len() bytes, and the block has room for n. What lies ahead is not read.
    block.found = unsafe { pagoda_ann_byte_dots_above(query, codes, n, dim, threshold, &ahead.raw(), positions, sums) };
}

/// The sums at the block's positions.
pub(crate) fn byte_dots_at(query: &[i16], codes: &[u8], block: &mut Block<i32>) {
    let positions = &block.positions[..block.found];
    assert!(are_below(positions, codes.len() / query.len()), "positions of codes");
    let (dim, positions, sums) = (query.len(), positions.as_ptr(), block.scores.as_mut_ptr());
    // SAFETY: every position is one of the codes', which have query.len() bytes.
    unsafe { pagoda_ann_byte_dots_at(query.as_ptr(), codes.as_ptr(), dim, positions, block.found, sums) }
}

fn are_below(positions: &[u32], n: usize) -> bool {
    positions.iter().fold(true, |below, position| below & ((*position as usize) < n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(query: &[f32], row: &[f32]) -> f64 {
        query.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    proptest! {
        #[test]
        fn one_pair_scores_alike_wherever_it_is_computed(
            dim in 1usize..70, n in 1usize..12, shift in 0usize..4, numbers in prop::collection::vec(-1.0f32..1.0, 13 * 70), threshold in -1.0f32..1.0,
        ) {
            let (query, values) = (&numbers[..dim], &numbers[dim..dim * (n + 1)]);
            // At an address that is no multiple of four.
            let mut bytes = vec![0; shift];
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            let (rows, shifted) = (Rows::of(values, dim), Rows::from_bytes(&bytes[shift..], dim));
            let mut scores = vec![0.0; n];
            rows.scores(query, &mut scores);
            for (score, row) in scores.iter().zip(values.chunks(dim)) {
                prop_assert!((f64::from(*score) - reference(query, row)).abs() < 1e-4);
            }
            let mut block = Block::new();
            shifted.above(query, threshold, Ahead::default(), &mut block);
            let expected: Vec<_> = (0..).zip(scores.iter().copied()).filter(|(_, score)| *score >= threshold).collect();
            prop_assert_eq!(block.found().collect::<Vec<_>>(), expected);
            block.set_positions((0..n as u32).rev());
            shifted.at(query, &mut block);
            prop_assert!(block.found().all(|(row, score)| score.to_bits() == scores[row as usize].to_bits()));
        }

        #[test]
        fn sums_of_bytes_are_whole_numbers(
            dim in 1usize..70, n in 1usize..12, query in prop::collection::vec(any::<i16>(), 70), codes in prop::collection::vec(any::<u8>(), 12 * 70),
        ) {
            let (query, codes) = (&query[..dim], &codes[..dim * n]);
            let sum = |code: &[u8]| query.iter().zip(code).map(|(q, c)| i32::from(*q) * i32::from(*c)).sum::<i32>();
            let sums: Vec<_> = (0..).zip(codes.chunks(dim).map(sum)).collect();
            let mut block = Block::new();
            byte_dots_above(query, codes, i32::MIN, Ahead::default(), &mut block);
            prop_assert_eq!(block.found().collect::<Vec<_>>(), sums.clone());
            byte_dots_above(query, codes, sums[0].1, Ahead::default(), &mut block);
            prop_assert_eq!(block.found().collect::<Vec<_>>(), sums.iter().copied().filter(|(_, sum)| *sum >= sums[0].1).collect::<Vec<_>>());
            block.set_positions(0..n as u32);
            byte_dots_at(query, codes, &mut block);
            prop_assert_eq!(block.found().collect::<Vec<_>>(), sums);
        }
    }

    #[test]
    #[should_panic(expected = "positions of rows")]
    fn a_row_beyond_the_end_is_not_read() {
        Rows::of(&[0.0; 6], 2).score_hits(&[1.0, 1.0], &mut [Hit { row: 3, score: 0.0 }]);
    }
}
