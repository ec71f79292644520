//! Filters that an index is calibrated with: of several selectivities, unrelated to where rows lie and going with it.

use crate::{AnnError, Bitmap, FilterKind, Matrix, scan::scores};

/// Shares of rows that random filters let pass, in percent.
const RANDOM_PERCENT: [u64; 3] = [95, 30, 5];
/// Shares of rows that filters which go with their places let pass, in percent.
const PLACED_PERCENT: [(FilterKind, usize); 4] =
    [(FilterKind::Cluster, 10), (FilterKind::Far, 10), (FilterKind::Near, 10), (FilterKind::Far, 60)];

/// A filter and what it is like.
pub(crate) struct CalibrationFilter {
    pub(crate) kind: FilterKind,
    pub(crate) allowed: Bitmap,
}

/// The filters for rows that are searched with such queries. Those that would let nothing pass are left out.
pub(crate) fn calibration_filters(rows: &Matrix, queries: &Matrix) -> Result<Vec<CalibrationFilter>, AnnError> {
    let count = rows.rows();
    let random = RANDOM_PERCENT.map(|percent| {
        let members = (0..count as u32).filter(|row| scattered(u64::from(*row), percent) < percent);
        CalibrationFilter { kind: FilterKind::Random, allowed: Bitmap::of(count, members) }
    });
    let mut filters = Vec::from(random);
    let towards = mean(queries);
    for (kind, percent) in PLACED_PERCENT {
        let allowed = match kind {
            FilterKind::Far => around(rows, &towards.iter().map(|v| -v).collect::<Vec<_>>(), percent)?,
            FilterKind::Cluster => around(rows, rows.row(count as u32 / 3), percent)?,
            FilterKind::Near | FilterKind::Random => around(rows, &towards, percent)?,
        };
        filters.push(CalibrationFilter { kind, allowed });
    }
    filters.retain(|filter| filter.allowed.count() > 0);
    Ok(filters)
}

/// So many percent of the rows: the nearest to a place.
fn around(rows: &Matrix, place: &[f32], percent: usize) -> Result<Bitmap, AnnError> {
    let scores = scores(rows, place)?;
    let mut order: Vec<u32> = (0..rows.rows() as u32).collect();
    let count = rows.rows() * percent / 100;
    if count < order.len() {
        order.select_nth_unstable_by(count, |a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
    }
    Ok(Bitmap::of(rows.rows(), order[..count].iter().copied()))
}

fn mean(queries: &Matrix) -> Vec<f32> {
    let mut mean = vec![0.0; queries.dim()];
    for query in queries.values().chunks(queries.dim()) {
        mean.iter_mut().zip(query).for_each(|(sum, value)| *sum += value / queries.rows() as f32);
    }
    mean
}

/// A number below 100 that looks random and is the same every time: splitmix64.
fn scattered(n: u64, salt: u64) -> u64 {
    let mut z = (n ^ salt << 40).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ z >> 31) % 100
}
