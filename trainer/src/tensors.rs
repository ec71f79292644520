//! The numbers of tensors, read and changed where they are: matrix products are candle's, what lies between them is ours.

use std::cell::RefCell;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor};

/// A matrix `[rows, numbers / rows]` of a copy of the numbers.
pub(crate) fn matrix(values: &[f32], rows: usize) -> Result<Tensor> {
    Tensor::from_slice(values, (rows, values.len() / rows.max(1)), &Device::Cpu)
}

/// Reads the numbers of a contiguous tensor of f32 without copying them.
pub(crate) fn read<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    numbers(&storage, layout).map(read)
}

/// Reads the numbers of several, all at once.
pub(crate) fn read_all<T>(tensors: &[Tensor], read: impl FnOnce(&[&[f32]]) -> T) -> Result<T> {
    let guards: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let mut slices = Vec::with_capacity(guards.len());
    for (storage, layout) in &guards {
        slices.push(numbers(storage, layout)?);
    }
    Ok(read(&slices))
}

/// Changes the numbers of a contiguous tensor of f32 in place. Nothing else may hold the tensor's storage for another purpose.
pub(crate) fn change<T>(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
    let op = Change(RefCell::new((Some(change), None)));
    tensor.inplace_op1(&op)?;
    match op.0.into_inner().1 {
        Some(result) => Ok(result),
        None => candle_core::bail!("a change in place was not made"),
    }
}

fn numbers<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) => Ok(&values[from..to]),
        _ => candle_core::bail!("expected contiguous f32 on the processor, found {:?}", storage.dtype()),
    }
}

/// The change to make, and what it returned.
struct Change<F, T>(RefCell<(Option<F>, Option<T>)>);

impl<T, F: FnOnce(&mut [f32]) -> T> InplaceOp1 for Change<F, T> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("expected contiguous f32 on the processor")
        };
        let mut state = self.0.borrow_mut();
        if let Some(change) = state.0.take() {
            state.1 = Some(change(&mut values[from..to]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_changed_where_they_are() {
        let tensor = matrix(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2).unwrap();
        assert_eq!(tensor.dims(), [2, 3]);
        let second = tensor.narrow(0, 1, 1).unwrap();
        assert_eq!(read(&second, <[f32]>::to_vec).unwrap(), [4.0, 5.0, 6.0]);
        let sum = change(&second, |values| {
            values[0] = 10.0;
            values.iter().sum::<f32>()
        });
        assert_eq!(sum.unwrap(), 21.0);
        assert_eq!(read(&tensor, |values| values[3]).unwrap(), 10.0);
        assert!(read(&tensor.t().unwrap(), <[f32]>::to_vec).is_err());
    }
}
