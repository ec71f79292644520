//! The inverse of a symmetric positive definite matrix, by halves, so that nearly all of the work is matrix products.
//!
//! Candle's product is fast and already here; a library of linear algebra would be the heaviest dependency of the workspace for this one call.

use candle_core::{Device, Result, Tensor};

/// Up to here rows are taken one by one.
const LEAF: usize = 96;

/// The inverse, `[n, n]`, in double precision: A = L L^T by Cholesky, so A^-1 = M^T M with M = L^-1. It takes 2 n^3 multiplications and
/// additions. By halves of A itself it would take a third less and lose twice as many digits.
pub(super) fn inverse(a: &Tensor) -> Result<Tensor> {
    square(&inverse_factor(a)?)
}

/// M = L^-1, `[n, n]`, lower triangular. By halves L21 = A21 M11^T, L22 is the factor of A22 - L21 L21^T, and M21 = -M22 L21 M11.
fn inverse_factor(a: &Tensor) -> Result<Tensor> {
    let n = a.dim(0)?;
    if n <= LEAF {
        return leaf(a);
    }
    let half = n / 2;
    let m11 = inverse_factor(&block(a, (0, half), (0, half))?)?;
    let l21 = block(a, (half, n), (0, half))?.matmul(&m11.t()?)?;
    let m22 = inverse_factor(&(block(a, (half, n), (half, n))? - l21.matmul(&l21.t()?)?)?)?;
    let m21 = m22.matmul(&l21)?.matmul(&m11)?.neg()?;
    join(&m11, &m21.zeros_like()?.t()?.contiguous()?, &m21, &m22)
}

/// M^T M of a lower triangular M, whose zeros are not multiplied.
fn square(m: &Tensor) -> Result<Tensor> {
    let n = m.dim(0)?;
    if n <= 4 * LEAF {
        return m.t()?.matmul(m);
    }
    let half = n / 2;
    let m21 = block(m, (half, n), (0, half))?;
    let m22 = block(m, (half, n), (half, n))?;
    let p11 = (square(&block(m, (0, half), (0, half))?)? + m21.t()?.matmul(&m21)?)?;
    let p21 = m22.t()?.matmul(&m21)?;
    join(&p11, &p21.t()?.contiguous()?, &p21, &square(&m22)?)
}

/// Rows and columns from the first to before the second of a pair.
fn block(a: &Tensor, rows: (usize, usize), columns: (usize, usize)) -> Result<Tensor> {
    a.narrow(0, rows.0, rows.1 - rows.0)?.narrow(1, columns.0, columns.1 - columns.0)?.contiguous()
}

fn join(a11: &Tensor, a12: &Tensor, a21: &Tensor, a22: &Tensor) -> Result<Tensor> {
    Tensor::cat(&[Tensor::cat(&[a11, a12], 1)?, Tensor::cat(&[a21, a22], 1)?], 0)
}

/// Row by row: L_ij = (A_ij - sum_k<j L_ik L_jk) / L_jj, beside it M_i = (e_i - sum_k<i L_ik M_k) / L_ii.
fn leaf(a: &Tensor) -> Result<Tensor> {
    let n = a.dim(0)?;
    let mut l: Vec<Vec<f64>> = a.to_vec2()?;
    let mut m = vec![vec![0_f64; n]; n];
    for i in 0..n {
        let (before, row) = l.split_at_mut(i);
        let row = &mut row[0];
        for (j, other) in before.iter().enumerate() {
            let known: f64 = row[..j].iter().zip(other).map(|(x, y)| x * y).sum();
            row[j] = (row[j] - known) / other[j];
        }
        row[i] = (row[i] - row[..i].iter().map(|x| x * x).sum::<f64>()).sqrt();
        let (before, inverse) = m.split_at_mut(i);
        inverse[0][i] = 1.0;
        for (factor, other) in row.iter().zip(before.iter()) {
            inverse[0].iter_mut().zip(other).for_each(|(value, x)| *value -= factor * x);
        }
        inverse[0].iter_mut().for_each(|value| *value /= row[i]);
    }
    Tensor::from_vec(m.concat(), (n, n), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B^T B + I, of a B that repeats nowhere.
    fn positive_definite(n: usize) -> Tensor {
        let values = (0..n * n).map(|i| ((i * i + 7 * i) % 101) as f64 / 101.0 - 0.5).collect();
        let b = Tensor::from_vec(values, (n, n), &Device::Cpu).unwrap();
        let eye = Tensor::eye(n, candle_core::DType::F64, &Device::Cpu).unwrap();
        (b.t().unwrap().matmul(&b).unwrap() + eye).unwrap()
    }

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        for n in [1, 2, LEAF, LEAF + 1, 202, 401, 4 * LEAF + 1] {
            let a = positive_definite(n);
            let product: Vec<Vec<f64>> = a.matmul(&inverse(&a).unwrap()).unwrap().to_vec2().unwrap();
            for (i, row) in product.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let expected = f64::from(u8::from(i == j));
                    assert!((value - expected).abs() < 1e-11, "{n}: [{i}, {j}] {value}");
                }
            }
        }
    }
}
