//! [`mixed`]: the one hash behind every draw that must not depend on the order in which rows come. Not for hostile input.

/// A number in which every bit depends on every word and on their order: the finaliser of splitmix64 (Steele et al., OOPSLA 2014),
/// chained. It is the same on every machine and in every version, for draws by it are recorded by their seed alone.
pub(crate) fn mixed(words: &[u64]) -> u64 {
    words.iter().fold(0, |state, &word| finalised(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ word))
}

const fn finalised(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash as a number from 0 to below 1.
pub(super) fn share(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_order_matters() {
        let shares: Vec<f64> = (0..10_000).map(|i| share(mixed(&[7, i]))).collect();
        let mean = shares.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02 && shares.iter().all(|s| (0.0..1.0).contains(s)), "{mean}");
        assert_ne!(mixed(&[1, 2]), mixed(&[2, 1]));
        assert_ne!(mixed(&[0]), mixed(&[0, 0]));
    }
}
