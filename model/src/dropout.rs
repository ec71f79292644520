//! [`Dropout`]: seeded inverted dropout (Srivastava et al., JMLR 2014). Serving has it off.
//!
//! Masks come from a counter-based generator, because candle's own on the CPU can not be seeded.

use std::cell::Cell;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::ops::contiguous;

/// Numbers that one draw of 64 bits decides.
const LANES: usize = 4;

/// Off, or on with a rate and a seed. One per pass: every application of one value has a mask of its own.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// A number is dropped when its 16 bits are below this.
    threshold: u32,
    seed: u64,
    applications: Cell<u64>,
}

impl Dropout {
    /// Nothing is dropped.
    pub const fn off() -> Self {
        Self { threshold: 0, seed: 0, applications: Cell::new(0) }
    }

    /// Drops each number with the probability `rate` (0 to below 1, kept to 1/65536), and scales the others by its inverse.
    pub fn new(rate: f64, seed: u64) -> Self {
        let threshold = (rate.clamp(0.0, 1.0) * 65_536.0).round().min(65_535.0) as u32;
        Self { threshold, seed, applications: Cell::new(0) }
    }

    /// x with a fresh mask; x itself when off. Of any shape.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if self.threshold == 0 {
            return Ok(x.clone());
        }
        let application = self.applications.replace(self.applications.get() + 1);
        let mask = Mask { threshold: self.threshold, stream: mixed(self.seed ^ mixed(application)) };
        x.contiguous()?.apply_op1(mask)
    }
}

/// One mask, which is made anew for the gradient instead of being kept.
#[derive(Clone, Copy)]
struct Mask {
    threshold: u32,
    stream: u64,
}

impl CustomOp1 for Mask {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(storage, layout)?;
        let scale = 65_536.0 / (65_536 - self.threshold) as f32;
        let mut kept = Vec::with_capacity(x.len());
        for (chunk, values) in x.chunks(LANES).enumerate() {
            let bits = mixed(self.stream.wrapping_add(chunk as u64));
            let lanes = values.iter().enumerate();
            kept.extend(lanes.map(|(lane, v)| {
                let drawn = (bits >> (16 * lane)) as u32 & 0xffff;
                if drawn < self.threshold { 0.0 } else { v * scale }
            }));
        }
        Ok((CpuStorage::F32(kept), layout.shape().clone()))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad_res: &Tensor) -> Result<Option<Tensor>> {
        grad_res.contiguous()?.apply_op1_no_bwd(self).map(Some)
    }
}

/// A step of `splitmix64` (Steele et al., OOPSLA 2014).
const fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    fn dropped(dropout: &Dropout) -> Vec<f32> {
        let ones = Tensor::ones(40_001, DType::F32, &Device::Cpu).unwrap();
        dropout.apply(&ones).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_rate_is_kept_and_the_mean_is_unchanged() {
        for rate in [0.1, 0.5, 0.9] {
            let x = dropped(&Dropout::new(rate, 3));
            let zeros = x.iter().filter(|v| **v == 0.0).count() as f64 / x.len() as f64;
            assert!((zeros - rate).abs() < 0.01, "{zeros} for {rate}");
            let mean = x.iter().sum::<f32>() / x.len() as f32;
            assert!((mean - 1.0).abs() < 0.06, "{mean} for {rate}");
        }
    }

    #[test]
    fn a_seed_fixes_the_masks_and_each_application_has_its_own() {
        let (a, b) = (Dropout::new(0.5, 3), Dropout::new(0.5, 3));
        let first = dropped(&a);
        assert_eq!(first, dropped(&b));
        let second = dropped(&a);
        assert_ne!(first, second);
        assert_eq!(second, dropped(&b));
        assert_ne!(first, dropped(&Dropout::new(0.5, 4)));
        // Independent masks of one half agree on one half.
        let agree = first.iter().zip(&second).filter(|(a, b)| a == b).count() as f64 / first.len() as f64;
        assert!((agree - 0.5).abs() < 0.02, "{agree}");
    }

    #[test]
    fn the_gradient_has_the_same_mask() {
        let x = Var::ones(1000, DType::F32, &Device::Cpu).unwrap();
        let y = Dropout::new(0.3, 1).apply(x.as_tensor()).unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>().unwrap(), y.to_vec1::<f32>().unwrap());
    }

    #[test]
    fn off_is_the_identity() {
        assert!(dropped(&Dropout::off()).iter().chain(&dropped(&Dropout::new(0.0, 1))).all(|&v| v == 1.0));
    }
}
