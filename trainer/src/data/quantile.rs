//! [`nth_timestamp`]: an exact quantile of timestamps that do not fit into memory.

use crate::error::TrainError;

/// Counters of a pass: 512 KB.
const BUCKETS: u64 = 1 << 16;

/// A timestamp, and how many are earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nth {
    pub(super) timestamp: i64,
    pub(super) earlier: u64,
}

/// The timestamp at a place, from 0, of the ascending order of all. Each pass counts the timestamps of a range in buckets of
/// equal width, and the next one looks into the bucket that holds the place: two passes for ranges below 136 years.
/// `pass` visits all timestamps, none outside of the range from the first to the last.
pub(super) fn nth_timestamp(
    place: u64,
    (first, last): (i64, i64),
    mut pass: impl FnMut(&mut dyn FnMut(i64)) -> Result<(), TrainError>,
) -> Result<Nth, TrainError> {
    let (mut low, mut span, mut earlier) = (first, last.abs_diff(first).saturating_add(1), 0);
    loop {
        let width = span.div_ceil(BUCKETS);
        let mut counts = vec![0_u64; BUCKETS as usize];
        pass(&mut |timestamp| {
            let offset = timestamp.abs_diff(low);
            if timestamp >= low && offset < span {
                counts[(offset / width) as usize] += 1;
            }
        })?;
        let mut bucket = 0;
        while bucket + 1 < counts.len() && earlier + counts[bucket] <= place {
            earlier += counts[bucket];
            bucket += 1;
        }
        low = low.saturating_add_unsigned(bucket as u64 * width);
        span = width;
        if width == 1 {
            return Ok(Nth { timestamp: low, earlier });
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn agrees_with_sorting_whatever_the_range() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for range in [1, 3, 70_000, 4_000_000_000, i64::MAX] {
            let times: Vec<i64> =
                (0..500).map(|i| if i % 3 == 0 { range / 2 } else { rng.random_range(0..range) }).collect();
            let mut sorted = times.clone();
            sorted.sort_unstable();
            for place in [0, 1, 166, 250, 400, 499] {
                let all = |visit: &mut dyn FnMut(i64)| {
                    times.iter().for_each(|&t| visit(t));
                    Ok(())
                };
                let found = nth_timestamp(place, (sorted[0], sorted[499]), all).unwrap();
                let timestamp = sorted[place as usize];
                let earlier = sorted.partition_point(|&t| t < timestamp) as u64;
                assert_eq!(found, Nth { timestamp, earlier }, "{range} {place}");
            }
        }
    }
}
