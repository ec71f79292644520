//! Tensor operations of one pass over memory, each with its gradient: bias, bias and ReLU, layer norm, causal softmax.
//!
//! candle's own fused softmax and layer norm have no gradient and do not say so; composed of its elementwise operations these
//! are five to ten passes. Nothing here knows of towers or histories. All tensors are `f32` and contiguous.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};

const LAYER_NORM_EPSILON: f32 = 1e-5;
/// Partial sums kept apart, so that the compiler may add several at once.
const LANES: usize = 8;

/// x + b, `[rows, width]` and `[width]`.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, Bias { relu: false })
}

/// max(x + b, 0), `[rows, width]` and `[width]`. NaN stays NaN.
pub(crate) fn bias_relu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, Bias { relu: true })
}

/// gain (x - mean) / sqrt(variance + 1e-5) + bias, by row of `[.., width]` (Ba et al., 2016).
pub(crate) fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(gain, bias, LayerNorm)
}

/// p\[b, t, j\] = softmax over j <= t of scale scores\[b, t, j\]; 0 for j > t. `[batch, length, length]`.
pub(crate) fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(CausalSoftmax { scale })
}

/// The same of scale scores\[b\] + bias\[b mod heads\]: `[n heads, length, length]` and `[heads, length, length]`.
pub(crate) fn causal_softmax_biased(scores: &Tensor, bias: &Tensor, scale: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op2(&bias.contiguous()?, CausalSoftmax { scale })
}

/// The numbers of a contiguous tensor.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("expected a contiguous tensor, found strides {:?}", layout.stride()),
    }
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// The inner product.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

fn sum(a: &[f32]) -> f32 {
    let (chunks, rest) = a.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    chunks.iter().for_each(|chunk| (0..LANES).for_each(|i| sums[i] += chunk[i]));
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// Splits `[rows + extra, width]` into its first rows, in the shape of `like`, and the vectors behind them.
fn split_rows(all: &Tensor, like: &Tensor, extra: usize) -> Result<(Tensor, Vec<Tensor>)> {
    let rows = all.dim(0)? - extra;
    let vectors: Result<Vec<Tensor>> = (rows..rows + extra).map(|row| all.get(row)).collect();
    Ok((all.narrow(0, 0, rows)?.reshape(like.shape())?, vectors?))
}

struct Bias {
    relu: bool,
}

impl CustomOp2 for Bias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, bias: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (contiguous(x, lx)?, contiguous(bias, lb)?);
        let mut sums = Vec::with_capacity(x.len());
        for row in x.chunks_exact(bias.len()) {
            let row = row.iter().zip(bias).map(|(x, b)| x + b);
            if self.relu {
                sums.extend(row.map(|v| if v < 0.0 { 0.0 } else { v }));
            } else {
                sums.extend(row);
            }
        }
        Ok(tensor(sums, lx.shape()))
    }

    fn bwd(&self, _x: &Tensor, bias: &Tensor, res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let width = bias.dim(0)?;
        if self.relu {
            let both = res.apply_op2_no_bwd(&grad, &BiasReluGradient { width })?;
            let (d_x, d_bias) = split_rows(&both, res, 1)?;
            return Ok((Some(d_x), d_bias.into_iter().next()));
        }
        let d_bias = grad.apply_op1_no_bwd(&ColumnSums { width })?;
        Ok((Some(grad), Some(d_bias)))
    }
}

struct ColumnSums {
    width: usize,
}

impl CustomOp1 for ColumnSums {
    fn name(&self) -> &'static str {
        "column-sums"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut sums = vec![0.0; self.width];
        for row in contiguous(x, layout)?.chunks_exact(self.width) {
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        }
        Ok(tensor(sums, self.width))
    }
}

/// `[rows + 1, width]`: the gradient where the result is above 0, and its column sums.
struct BiasReluGradient {
    width: usize,
}

impl CustomOp2 for BiasReluGradient {
    fn name(&self) -> &'static str {
        "bias-relu-gradient"
    }

    fn cpu_fwd(&self, res: &CpuStorage, lr: &Layout, grad: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        let (res, grad) = (contiguous(res, lr)?, contiguous(grad, lg)?);
        let width = self.width;
        let mut all = vec![0.0; res.len() + width];
        let (rows, sums) = all.split_at_mut(res.len());
        let results = res.chunks_exact(width).zip(grad.chunks_exact(width));
        for (out, (res, grad)) in rows.chunks_exact_mut(width).zip(results) {
            let passed = res.iter().zip(grad).map(|(res, grad)| if *res > 0.0 { *grad } else { 0.0 });
            out.iter_mut().zip(passed).for_each(|(out, passed)| *out = passed);
            sums.iter_mut().zip(&*out).for_each(|(sum, out)| *sum += out);
        }
        Ok(tensor(all, (res.len() / width + 1, width)))
    }
}

struct LayerNorm;

/// The mean of a row, and 1 / sqrt(variance + epsilon).
fn moments(row: &[f32]) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = sum(row) / width;
    let mut squares = 0.0;
    row.iter().for_each(|v| squares += (v - mean) * (v - mean));
    (mean, 1.0 / (squares / width + LAYER_NORM_EPSILON).sqrt())
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gain: &CpuStorage,
        lg: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gain, bias) = (contiguous(x, lx)?, contiguous(gain, lg)?, contiguous(bias, lb)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(gain.len()) {
            let (mean, scale) = moments(row);
            out.extend(row.iter().zip(gain).zip(bias).map(|((x, g), b)| (x - mean) * scale * g + b));
        }
        Ok(tensor(out, lx.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let all = x.apply_op3_no_bwd(gain, &grad.contiguous()?, &LayerNormGradient)?;
        let (d_x, vectors) = split_rows(&all, x, 2)?;
        let mut vectors = vectors.into_iter();
        Ok((Some(d_x), vectors.next(), vectors.next()))
    }
}

/// `[rows + 2, width]`: the gradients of x, of the gain and of the bias. With z = (x - mean) s and h = grad gain:
/// dx = s (h - mean(h) - z mean(h z)), dgain = sum grad z, dbias = sum grad.
struct LayerNormGradient;

impl CustomOp3 for LayerNormGradient {
    fn name(&self) -> &'static str {
        "layer-norm-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gain: &CpuStorage,
        lg: &Layout,
        grad: &CpuStorage,
        lgrad: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gain, grad) = (contiguous(x, lx)?, contiguous(gain, lg)?, contiguous(grad, lgrad)?);
        let width = gain.len();
        let mut all = vec![0.0; x.len() + 2 * width];
        let (rows, sums) = all.split_at_mut(x.len());
        let (d_gain, d_bias) = sums.split_at_mut(width);
        let (mut z, mut h) = (vec![0.0; width], vec![0.0; width]);
        let inputs = x.chunks_exact(width).zip(grad.chunks_exact(width));
        for (out, (x, grad)) in rows.chunks_exact_mut(width).zip(inputs) {
            let (mean, scale) = moments(x);
            for i in 0..width {
                z[i] = (x[i] - mean) * scale;
                h[i] = grad[i] * gain[i];
                d_gain[i] += grad[i] * z[i];
                d_bias[i] += grad[i];
            }
            let (h_mean, hz_mean) = (sum(&h) / width as f32, dot(&h, &z) / width as f32);
            (0..width).for_each(|i| out[i] = scale * (h[i] - h_mean - z[i] * hz_mean));
        }
        Ok(tensor(all, (x.len() / width + 2, width)))
    }
}

#[derive(Clone, Copy)]
struct CausalSoftmax {
    scale: f32,
}

impl CausalSoftmax {
    /// `bias` has one matrix per head, or one row of zeros' worth of nothing.
    fn forward(self, scores: &[f32], bias: Option<&[f32]>, length: usize) -> Vec<f32> {
        let mut out = vec![0.0; scores.len()];
        for (n, (out, scores)) in out.chunks_exact_mut(length).zip(scores.chunks_exact(length)).enumerate() {
            let seen = n % length + 1;
            let out = &mut out[..seen];
            out.iter_mut().zip(scores).for_each(|(o, s)| *o = s * self.scale);
            if let Some(bias) = bias {
                let from = n * length % bias.len();
                out.iter_mut().zip(&bias[from..from + seen]).for_each(|(o, b)| *o += b);
            }
            softmax(out);
        }
        out
    }

    /// The gradient of scale scores + bias: p (grad - sum p grad), by row.
    fn backward(self, p: &Tensor, grad: &Tensor) -> Result<Tensor> {
        p.apply_op2_no_bwd(&grad.contiguous()?, &CausalSoftmaxGradient)
    }
}

/// In place; NaN if any is.
fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|v| *v = (*v - max).exp());
    let share = 1.0 / sum(row);
    row.iter_mut().for_each(|v| *v *= share);
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let length = layout.shape().dim(D::Minus1)?;
        Ok(tensor(self.forward(contiguous(scores, layout)?, None, length), layout.shape()))
    }

    fn bwd(&self, _scores: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        (self.backward(res, grad)? * f64::from(self.scale)).map(Some)
    }
}

impl CustomOp2 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax-biased"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, ls: &Layout, bias: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let length = ls.shape().dim(D::Minus1)?;
        let values = self.forward(contiguous(scores, ls)?, Some(contiguous(bias, lb)?), length);
        Ok(tensor(values, ls.shape()))
    }

    fn bwd(
        &self,
        _scores: &Tensor,
        bias: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let inner = self.backward(res, grad)?;
        let d_bias = inner.apply_op1_no_bwd(&ColumnSums { width: bias.elem_count() })?.reshape(bias.shape())?;
        Ok((Some((inner * f64::from(self.scale))?), Some(d_bias)))
    }
}

struct CausalSoftmaxGradient;

impl CustomOp2 for CausalSoftmaxGradient {
    fn name(&self) -> &'static str {
        "causal-softmax-gradient"
    }

    fn cpu_fwd(&self, p: &CpuStorage, lp: &Layout, grad: &CpuStorage, lg: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, grad) = (contiguous(p, lp)?, contiguous(grad, lg)?);
        let length = lp.shape().dim(D::Minus1)?;
        let mut out = vec![0.0; p.len()];
        let rows = p.chunks_exact(length).zip(grad.chunks_exact(length));
        for (n, (out, (p, grad))) in out.chunks_exact_mut(length).zip(rows).enumerate() {
            let seen = n % length + 1;
            let (p, grad) = (&p[..seen], &grad[..seen]);
            let mean = dot(p, grad);
            out.iter_mut().zip(p).zip(grad).for_each(|((o, p), g)| *o = p * (g - mean));
        }
        Ok(tensor(out, lp.shape()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::test_gradients::{assert_gradients, noise};

    #[test]
    fn every_operation_has_the_gradient_of_its_formula() {
        assert_gradients(&[noise(&[5, 3], 1), noise(&[3], 2)], |x| add_bias(&x[0], &x[1]));
        assert_gradients(&[noise(&[5, 3], 1), noise(&[3], 2)], |x| bias_relu(&x[0], &x[1]));
        assert_gradients(&[noise(&[2, 3, 11], 1), noise(&[11], 2), noise(&[11], 3)], |x| {
            layer_norm(&x[0], &x[1], &x[2])
        });
        assert_gradients(&[noise(&[2, 11, 11], 1)], |x| causal_softmax(&x[0], 0.7));
        assert_gradients(&[noise(&[4, 5, 5], 1), noise(&[2, 5, 5], 2)], |x| causal_softmax_biased(&x[0], &x[1], 0.7));
    }

    #[test]
    fn layer_norm_has_mean_0_and_deviation_1_and_a_constant_row_is_no_nan() {
        let x = Tensor::new(&[[1f32, 2.0, 3.0, 6.0], [5.0; 4]], &Device::Cpu).unwrap();
        let (one, zero) =
            (Tensor::new(&[1f32; 4], &Device::Cpu).unwrap(), Tensor::new(&[0f32; 4], &Device::Cpu).unwrap());
        let y: Vec<Vec<f32>> = layer_norm(&x, &one, &zero).unwrap().to_vec2().unwrap();
        assert!(y[0].iter().sum::<f32>().abs() < 1e-5 && (y[0].iter().map(|v| v * v).sum::<f32>() - 4.0).abs() < 1e-3);
        assert_eq!(y[1], [0.0; 4]);
    }

    #[test]
    fn the_softmax_is_over_the_past_alone() {
        let scores =
            Tensor::new(&[[[0f32, 9.0], [2f32.ln(), 0.0]], [[5.0, f32::NAN], [800.0, 0.0]]], &Device::Cpu).unwrap();
        let p: Vec<Vec<Vec<f32>>> = causal_softmax(&scores, 1.0).unwrap().to_vec3().unwrap();
        assert_eq!((p[0][0].as_slice(), p[1][0].as_slice()), (&[1.0, 0.0][..], &[1.0, 0.0][..]));
        assert!((p[0][1][0] - 2.0 / 3.0).abs() < 1e-6 && (p[0][1][1] - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(p[1][1], [1.0, 0.0]);
    }

    #[test]
    fn nan_is_never_hidden() {
        let (x, bias) =
            (Tensor::new(&[[f32::NAN, 1.0]], &Device::Cpu).unwrap(), Tensor::new(&[0f32; 2], &Device::Cpu).unwrap());
        assert!(bias_relu(&x, &bias).unwrap().to_vec2::<f32>().unwrap()[0][0].is_nan());
        let scores = Tensor::new(&[[[0f32, 0.0], [f32::NAN, 0.0]]], &Device::Cpu).unwrap();
        assert!(causal_softmax(&scores, 1.0).unwrap().to_vec3::<f32>().unwrap()[0][1].iter().all(|v| v.is_nan()));
    }
}
