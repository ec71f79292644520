//! A fast e^x for arguments that are not above 0, which compilers vectorise where the caller dispatches on the processor's instructions.

/// e^x for x <= 0, within 3e-7 relative; 0 below -87; NaN for NaN. By Cody and Waite's reduction and a polynomial of degree 7.
#[inline(always)]
pub(super) fn exp_non_positive(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// 1.5 * 2^23: adding it rounds to the nearest integer, which then is the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would hide a NaN.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let tail = r.mul_add(1.987_569_1e-4, 1.398_2e-3);
    let tail = r.mul_add(tail, 8.333_452e-3);
    let tail = r.mul_add(tail, 4.166_579_6e-2);
    let tail = r.mul_add(tail, 1.666_666_5e-1);
    let tail = r.mul_add(tail, 0.5);
    let polynomial = (r * r).mul_add(tail, 1.0 + r);
    // The low bits of `shifted` are n, and the higher ones leave at the top.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { polynomial * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_library() {
        for i in 0..87_000 {
            let x = -(i as f32) / 1000.0;
            let (found, expected) = (f64::from(exp_non_positive(x)), f64::from(x).exp());
            assert!((found - expected).abs() <= 3e-7 * expected, "e^{x}: {found} {expected}");
        }
        assert_eq!(exp_non_positive(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_non_positive(-100.0), 0.0);
    }
}
