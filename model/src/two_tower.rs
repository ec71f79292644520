//! [`TwoTower`]: encoder, tables, history encoder and both towers together; what the trainer trains and a bundle holds.

use std::{collections::BTreeMap, ops::Range};

use candle_core::{Device, Result, Tensor};

pub use crate::architecture::{Architecture, HistoryArchitecture, HistoryPooling};
use crate::{
    Side,
    dropout::Dropout,
    features::{EncodedBatch, Encoder},
    history::{HistoryEncoder, Sequences},
    tables::{HistoryPlace, Layout, Table, gather_one, mean_rows},
    tower::Tower,
};

/// Numbers of one head's attention matrices that a forward pass of serving holds at once, about.
const ATTENTION_LIMIT: usize = 1 << 21;

/// Weights by name, by [`Side::index`]; those of the history encoder are among the user's.
pub type Weights = [BTreeMap<String, Tensor>; 2];

/// A whole model. Its parts are public to be trained; a [`crate::bundle::ModelBundle`] is the immutable form.
#[derive(Clone, Debug)]
pub struct TwoTower {
    /// Features to rows.
    pub encoder: Encoder,
    /// Which tables there are and where their rows go.
    pub layout: Layout,
    /// The tables of the layout, in its order.
    pub tables: Vec<Table>,
    /// The user tower and the item tower, by [`Side::index`].
    pub towers: [Tower; 2],
    /// What encodes histories, if the schema declares one. Under the mean it has no weights, and serving does without it.
    pub history: Option<HistoryEncoder>,
}

impl TwoTower {
    /// Puts a model together: the weights have the names and shapes of [`Architecture::weights`], the tables are those of the layout.
    pub fn new(encoder: Encoder, architecture: &Architecture, tables: Vec<Table>, weights: &Weights) -> Result<Self> {
        let layout = Layout::new(&encoder, architecture);
        let tower = |side: Side| {
            let weights = &weights[side.index()];
            Tower::new(&architecture.stored_tower(&layout, side, |name| weights.contains_key(name)), weights)
        };
        let towers = [tower(Side::User)?, tower(Side::Item)?];
        let history = layout.history().map(|h| HistoryEncoder::new(&h.shape, &weights[Side::User.index()]));
        Ok(Self { history: history.transpose()?, encoder, layout, tables, towers })
    }

    /// One side's weights by name, those of the history encoder among the user's.
    pub fn weights(&self, side: Side) -> BTreeMap<String, Tensor> {
        let mut weights = self.towers[side.index()].weights();
        if let (Side::User, Some(history)) = (side, &self.history) {
            weights.extend(history.weights());
        }
        weights
    }

    /// The input matrix of a batch, `[batch, input_dim]`; zeros where the history encoder's vector goes.
    pub fn gather(&self, side: Side, batch: &EncodedBatch) -> Vec<f32> {
        self.gather_rows(side, batch, 0..batch.len())
    }

    /// Rows `range` of the input matrix of a batch, `[range.len(), input_dim]`; zeros where the history encoder's vector goes.
    pub fn gather_rows(&self, side: Side, batch: &EncodedBatch, range: Range<usize>) -> Vec<f32> {
        let width = self.layout.input_dim(side);
        let mut rows = vec![0.0; range.len() * width];
        for (input, column) in self.layout.inputs(side).iter().zip(batch.columns()) {
            for (i, row) in range.clone().zip(rows.chunks_exact_mut(width.max(1))) {
                gather_one(&self.tables, input, column, i, &mut row[input.range()]);
            }
        }
        rows
    }

    /// The item rows of the histories of users `range` of a batch; `None` if the schema declares no history. Of hashed ids a position's
    /// row is the mean of the item's: position t of user i has `bag(i)[t rows_per_item..(t + 1) rows_per_item]`.
    pub fn gather_sequences(&self, batch: &EncodedBatch, range: Range<usize>) -> Option<Sequences> {
        let HistoryPlace { column, table, rows_per_item, ref shape, .. } = *self.layout.history()?;
        let (column, table, dim) = (&batch.columns()[column], &self.tables[table].values, shape.dim);
        let lengths: Vec<usize> = range.clone().map(|i| column.bag(i).len() / rows_per_item).collect();
        let length = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut rows = vec![0.0; lengths.len() * length * dim];
        for (i, sequence) in range.zip(rows.chunks_exact_mut(length * dim)) {
            let positions = column.bag(i).chunks_exact(rows_per_item);
            positions.zip(sequence.chunks_exact_mut(dim)).for_each(|(bag, out)| mean_rows(table, dim, bag, out));
        }
        Some(Sequences { rows, lengths, length, dim })
    }

    /// Puts histories' vectors `[n, dim_out]` into the user tower's input `[n, input_dim]`, in place of what stands there.
    pub fn join(&self, flat: &Tensor, history: &Tensor) -> Result<Tensor> {
        let Some(HistoryPlace { slot, .. }) = self.layout.history() else { return Ok(flat.clone()) };
        let width = flat.dim(1)?;
        let mut parts = Vec::new();
        if slot.start > 0 {
            parts.push(flat.narrow(1, 0, slot.start)?);
        }
        parts.push(history.clone());
        if slot.end < width {
            parts.push(flat.narrow(1, slot.end, width - slot.end)?);
        }
        Tensor::cat(&parts, 1)
    }

    /// The tower's output for a batch, as serving needs it: `[batch, embedding_dim]`, rows of norm 1.
    pub fn forward(&self, side: Side, batch: &EncodedBatch) -> Result<Tensor> {
        match &self.history {
            Some(history) if side == Side::User && history.shape().pooling != HistoryPooling::Mean => {
                self.forward_sequences(history, batch)
            }
            _ => self.towers[side.index()].forward(&self.input(side, batch, 0..batch.len())?, &Dropout::off()),
        }
    }

    /// In parts, since attention needs memory by the square of the length.
    fn forward_sequences(&self, history: &HistoryEncoder, batch: &EncodedBatch) -> Result<Tensor> {
        let part = (ATTENTION_LIMIT / history.shape().max_length.pow(2)).max(1);
        let mut outputs = Vec::new();
        for start in (0..batch.len()).step_by(part) {
            let range = start..(start + part).min(batch.len());
            let flat = self.input(Side::User, batch, range.clone())?;
            let Some(sequences) = self.gather_sequences(batch, range) else { return Ok(flat) };
            let x = self.join(&flat, &history.encode(&sequences, &Dropout::off())?)?;
            outputs.push(self.towers[Side::User.index()].forward(&x, &Dropout::off())?);
        }
        if outputs.is_empty() {
            let input = self.input(Side::User, batch, 0..0)?;
            return self.towers[Side::User.index()].forward(&input, &Dropout::off());
        }
        Tensor::cat(&outputs, 0)
    }

    fn input(&self, side: Side, batch: &EncodedBatch, range: Range<usize>) -> Result<Tensor> {
        let shape = (range.len(), self.layout.input_dim(side));
        Tensor::from_vec(self.gather_rows(side, batch, range), shape, &Device::Cpu)
    }
}
