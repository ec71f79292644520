//! [`Screened`]: rows with 8-bit codes beside them, by which a scan passes over most rows without reading them. Nothing is lost by it: how far the score
//! of a code can be from that of its row is known.

use crate::{
    AnnError, Hit, Mask, Matrix, ScanQuery, Stop, check_vector,
    kernels::{Ahead, BLOCK_ROWS, Block, Rows, byte_dots_above},
    mask::Sieve,
    scan::{CHECK_BLOCKS, scan_floored},
    top::Top,
};

/// The highest code.
const CODE_MAX: f64 = 255.0;
/// The largest weight of a query's value.
const WEIGHT_MAX: f64 = i16::MAX as f64;
/// The weights of a query, each times the highest code, are no more than this times that in all: a sum of 32 bits holds it, with room for rounding.
const WEIGHTS_SUM_MAX: f64 = 8e6;

/// Rows of `dim` finite values each, shape `[rows, dim]`, and codes of them once they are [`sealed`](Screened::seal).
#[derive(Clone, Debug)]
pub struct Screened {
    rows: Matrix,
    codes: Option<Codes>,
}

/// A code `c` stands for the value `lowest + step * c`.
#[derive(Clone, Debug)]
struct Codes {
    codes: Vec<u8>,
    lowest: f64,
    step: f64,
    /// The greatest distance of a row from what its code stands for.
    distance_max: f64,
    /// The greatest norm of a row.
    norm_max: f64,
}

/// A query in the numbers of codes.
struct Weighed {
    /// Each times `unit` is about the query's value.
    weights: Vec<i16>,
    /// Sums of weights times codes below it belong to rows that score below the floor.
    least: i32,
}

impl Screened {
    /// No rows yet, each to have `dim` values (at least 1).
    pub fn empty(dim: usize) -> Self {
        Self { rows: Matrix::empty(dim), codes: None }
    }

    /// Adds a row at the end and returns its number. The rows are no longer sealed.
    pub fn push(&mut self, row: &[f32]) -> Result<u32, AnnError> {
        self.codes = None;
        self.rows.push(row)
    }

    /// Makes codes of all rows, a quarter of their size.
    pub fn seal(&mut self) {
        self.codes = Codes::of(&self.rows);
    }

    /// The rows.
    pub fn rows(&self) -> &Matrix {
        &self.rows
    }

    /// The k best rows that a mask lets pass for each query, but for those that score below its floor: `[queries][at most k]`, best first, ties by row;
    /// [`AnnError::Cancelled`] soon after it is to stop. Exact, sealed or not.
    pub fn scan_many(
        &self,
        queries: &[ScanQuery<'_>],
        k: usize,
        mask: Mask,
        stop: Stop,
    ) -> Result<Vec<Vec<Hit>>, AnnError> {
        queries.iter().try_for_each(|query| check_vector(query.vector, self.rows.dim()))?;
        let sieve = mask.sieve(self.rows.rows())?;
        let weighed = |query: &ScanQuery<'_>| self.codes.as_ref()?.weigh(query);
        let weighed: Option<Vec<_>> = queries.iter().map(weighed).collect();
        let (Some(codes), Some(weighed), false) = (&self.codes, weighed, sieve.looks_first()) else {
            return scan_floored(&self.rows, queries, k, &sieve, stop);
        };
        let scan = |(query, weighed): (&ScanQuery<'_>, &Weighed)| {
            let mut candidates = codes.candidates(weighed, &sieve, stop)?;
            Rows::of(self.rows.values(), self.rows.dim()).score_hits(query.vector, &mut candidates);
            let mut top = Top::from_floor(k.min(sieve.count()), query.floor);
            candidates.into_iter().for_each(|hit| top.offer(hit));
            Ok(top.into_sorted())
        };
        queries.iter().zip(&weighed).map(scan).collect()
    }
}

impl Codes {
    /// None of no rows, and of rows whose values are too far apart for a step between them.
    fn of(rows: &Matrix) -> Option<Self> {
        let range = |(low, high): (f32, f32), value: &f32| (low.min(*value), high.max(*value));
        let (lowest, highest) = rows.values().iter().fold((f32::INFINITY, f32::NEG_INFINITY), range);
        let (lowest, highest) = (f64::from(lowest), f64::from(highest));
        let step = if highest > lowest { (highest - lowest) / CODE_MAX } else { 1.0 };
        if rows.rows() == 0 || !f32::is_normal(step as f32) {
            return None;
        }
        let code = |value: f32| ((f64::from(value) - lowest) / step).round().clamp(0.0, CODE_MAX);
        let mut codes =
            Self { codes: Vec::with_capacity(rows.values().len()), lowest, step, distance_max: 0.0, norm_max: 0.0 };
        for row in rows.values().chunks(rows.dim()) {
            let (mut distance, mut norm) = (0.0, 0.0);
            for value in row {
                let code = code(*value);
                codes.codes.push(code as u8);
                distance += (f64::from(*value) - lowest - step * code).powi(2);
                norm += f64::from(*value).powi(2);
            }
            codes.distance_max = codes.distance_max.max(distance.sqrt());
            codes.norm_max = codes.norm_max.max(norm.sqrt());
        }
        Some(codes)
    }

    /// The rows that a mask lets pass and that may reach the floor, not scored yet.
    fn candidates(&self, weighed: &Weighed, sieve: &Sieve, stop: Stop) -> Result<Vec<Hit>, AnnError> {
        let (mut block, mut candidates) = (Block::new(), Vec::new());
        let block_bytes = BLOCK_ROWS * weighed.weights.len();
        for (number, codes) in self.codes.chunks(block_bytes).enumerate() {
            if number % CHECK_BLOCKS == 0 {
                stop.check()?;
            }
            let ahead = Ahead { rest: &self.codes[number * block_bytes..], next: &[] };
            byte_dots_above(&weighed.weights, codes, weighed.least, ahead, &mut block);
            let rows = block.found().map(|(position, _)| (number * BLOCK_ROWS) as u32 + position);
            candidates.extend(rows.filter(|row| sieve.passes(*row)).map(|row| Hit { row, score: 0.0 }));
        }
        Ok(candidates)
    }

    /// None where codes cannot tell any row from those to be found: without a floor, or for a query without a direction.
    ///
    /// The score of a row differs from that of its code by at most the query's norm times the row's distance from its code (Cauchy-Schwarz), that of a code
    /// from its sum of weights by what rounding the weights makes of the highest codes, and a score in 32 bits from the true one by a rounding a value.
    fn weigh(&self, query: &ScanQuery<'_>) -> Option<Weighed> {
        let values = || query.vector.iter().map(|value| f64::from(*value));
        let (peak, sum) = values().fold((0.0f64, 0.0f64), |(peak, sum), v| (peak.max(v.abs()), sum + v.abs()));
        let unit = (peak / WEIGHT_MAX).max(sum / WEIGHTS_SUM_MAX);
        if !query.floor.is_finite() || !unit.is_normal() {
            return None;
        }
        let weights: Vec<i16> = values().map(|value| (value / unit).round() as i16).collect();
        let norm = values().map(|value| value * value).sum::<f64>().sqrt();
        let rounded: f64 =
            values().zip(&weights).map(|(value, weight)| (value - unit * f64::from(*weight)).abs()).sum();
        let off = norm * self.distance_max
            + rounded * self.step * CODE_MAX
            + norm * self.norm_max * (query.vector.len() + 8) as f64 * f64::from(f32::EPSILON);
        let of_lowest = self.lowest * values().sum::<f64>();
        // As a cast does it, what is beyond 32 bits becomes the nearest that is not.
        let least = ((f64::from(query.floor) - off - of_lowest) / (self.step * unit)).floor() as i32;
        Some(Weighed { weights, least: least.saturating_sub(1) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Bitmap, scan::scan_many};

    fn sealed(dim: usize, values: &[f32]) -> Screened {
        let mut rows = Screened::empty(dim);
        values.chunks_exact(dim).for_each(|row| assert!(rows.push(row).is_ok()));
        rows.seal();
        rows
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_of_the_rows_finds(
            dim in 1usize..40, numbers in prop::collection::vec(-1.0f32..1.0, 40..8000), scale in prop::sample::select(vec![1e-6f32, 1.0, 1e3]),
            k in 0usize..30, at in 0.0f64..1.0, nudge in -1i32..=1, stride in 1u32..4,
        ) {
            let values: Vec<f32> = numbers.iter().map(|number| number * scale).collect();
            let (query, values) = values.split_at(dim);
            let rows = sealed(dim, values);
            prop_assume!(rows.rows().rows() > 0);
            let allowed = Bitmap::of(rows.rows().rows(), (0..rows.rows().rows() as u32).step_by(stride as usize));
            let mask = Mask { allowed: (stride > 1).then_some(&allowed), excluded: &[] };
            // The floor is the score of a row, or next to it.
            let all = [ScanQuery { vector: query, floor: f32::NEG_INFINITY }];
            let everything = scan_many(rows.rows(), &all, usize::MAX, Mask::default(), Stop::NEVER).unwrap().remove(0);
            let score = everything[((everything.len() - 1) as f64 * at) as usize].score;
            let floor = match nudge { -1 => score.next_down(), 0 => score, _ => score.next_up() };
            let queries = [ScanQuery { vector: query, floor }, all[0]];
            for queries in [&queries[..1], &queries] {
                let found = rows.scan_many(queries, k, mask, Stop::NEVER).unwrap();
                prop_assert_eq!(found, scan_many(rows.rows(), queries, k, mask, Stop::NEVER).unwrap());
            }
        }
    }

    #[test]
    fn a_high_floor_passes_over_nearly_all_rows() {
        let values: Vec<f32> = (0..64_000).map(|n| ((n * 7919 % 1009) as f32 / 1009.0 - 0.5) / 4.0).collect();
        let rows = sealed(64, &values);
        let query = ScanQuery { vector: &values[..64], floor: 0.3 };
        let codes = rows.codes.as_ref().unwrap();
        let weighed = codes.weigh(&query).unwrap();
        let mut block = Block::new();
        byte_dots_above(&weighed.weights, &codes.codes[..512 * 64], weighed.least, Ahead::default(), &mut block);
        let found = rows.scan_many(&[query], 1000, Mask::default(), Stop::NEVER).unwrap().remove(0);
        let candidates = block.found().count();
        assert!(candidates < 512 / 4 && !found.is_empty(), "{candidates} candidates, {} found", found.len());
    }

    #[test]
    fn rows_without_a_range_are_scanned_as_they_are() {
        for values in [vec![0.5; 8], vec![-1e38, 3e38, 1e38, 3e38], vec![]] {
            let rows = sealed(2, &values);
            let found =
                rows.scan_many(&[ScanQuery { vector: &[1e-3, 1e-3], floor: -1.0 }], 3, Mask::default(), Stop::NEVER);
            assert_eq!(found.unwrap()[0].len(), 3.min(values.len() / 2));
        }
    }

    #[test]
    fn a_row_more_unseals_and_a_wrong_query_is_refused() {
        let mut rows = sealed(1, &[0.1, 0.2]);
        rows.push(&[5.0]).unwrap();
        let query = |vector| ScanQuery { vector, floor: 0.15 };
        let found = rows.scan_many(&[query(&[1.0])], 3, Mask::default(), Stop::NEVER).unwrap().remove(0);
        assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [2, 1]);
        rows.seal();
        for vector in [[1.0, 1.0].as_slice(), &[f32::NAN]] {
            assert!(rows.scan_many(&[query(vector)], 3, Mask::default(), Stop::NEVER).is_err());
        }
    }
}
