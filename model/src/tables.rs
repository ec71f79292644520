//! Embedding tables, and how a tower's input is made of their rows.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use crate::{
    Side,
    features::{Column, Encoder, Encoding, IdRows},
    history::HistoryShape,
    schema::Schema,
    tower::FeatureSlot,
    two_tower::{Architecture, HistoryPooling},
};

/// The most features' dimensions may sum up to, and the longest row.
pub const DIM_LIMIT: usize = 4096;

/// How long the rows of each kind of feature are. Histories have the rows of the item id table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureDims {
    /// `id`, and with it `sequence`.
    pub id: usize,
    /// `categorical`.
    pub categorical: usize,
    /// `categorical_list`.
    pub categorical_list: usize,
    /// `numeric` with `scale = "bucket"`.
    pub bucket: usize,
    /// `text`.
    pub text: usize,
    /// Exceptions, by side and feature: `"item.genres" = 16`.
    #[serde(default)]
    pub features: BTreeMap<String, usize>,
}

impl FeatureDims {
    pub(crate) fn of(&self, side: Side, name: &str, by_kind: usize) -> usize {
        self.features.get(&format!("{side}.{name}")).copied().unwrap_or(by_kind)
    }
}

/// What a table is for and how large it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// `side.feature`.
    pub name: String,
    /// The side whose feature it belongs to. The item id table is the items', though histories use it as well.
    pub side: Side,
    /// Whether its rows are those of ids, which appended training may change.
    pub is_ids: bool,
    /// Whether ids share its rows by hashes; if so, no row is one item's own.
    pub is_hashed: bool,
    /// How many of its first rows are those of unknown ids; they begin at zero, which says nothing of an entity.
    pub unknown_rows: usize,
    /// How many rows it has.
    pub rows: usize,
    /// How long each is.
    pub dim: usize,
}

/// One embedding table: `[rows, dim]`, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name and shape.
    pub spec: TableSpec,
    /// Its numbers.
    pub values: Vec<f32>,
}

/// Where a feature's numbers come from and where they go in the tower's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The mean of rows of a table, `dim` numbers from `offset`; zeros for an empty bag.
    Pooled {
        /// The table's number.
        table: usize,
        /// Where in the input it begins.
        offset: usize,
        /// How many numbers it has.
        dim: usize,
    },
    /// The vector of a sequence of rows of a table, made by the model's history encoder; left to it by the gather.
    Sequence {
        /// The table's number.
        table: usize,
        /// Where in the input it begins.
        offset: usize,
        /// How many numbers it has; rows of the table may be shorter.
        dim: usize,
    },
    /// Numbers as they are.
    Floats {
        /// Where in the input they begin.
        offset: usize,
        /// How many there are.
        dim: usize,
    },
}

impl Input {
    /// Where in the input it begins and ends.
    pub fn range(&self) -> Range<usize> {
        match *self {
            Self::Pooled { offset, dim, .. } | Self::Sequence { offset, dim, .. } | Self::Floats { offset, dim } => {
                offset..offset + dim
            }
        }
    }
}

/// The tables of a model and both towers' inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Every table once.
    pub tables: Vec<TableSpec>,
    inputs: [Vec<Input>; 2],
    history: Option<HistoryPlace>,
}

/// Where the user's history comes from and where its vector goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPlace {
    /// The number of the column and of the input.
    pub column: usize,
    /// The table's number.
    pub table: usize,
    /// How many rows of the table an item has, of which a position's row is the mean.
    pub rows_per_item: usize,
    /// What encodes it.
    pub shape: HistoryShape,
    /// Where in the input its vector goes.
    pub slot: Range<usize>,
}

impl Layout {
    /// The layout that follows from the encoder's vocabularies and the sizes of the model.
    pub fn new(encoder: &Encoder, architecture: &Architecture) -> Self {
        let mut layout = LayoutBuilder { architecture, tables: Vec::new() };
        // Items first, so that the users' history finds the item id table.
        let item = layout.inputs(encoder, Side::Item);
        let user = layout.inputs(encoder, Side::User);
        let history = history(encoder, architecture, &user, &layout.tables);
        Self { tables: layout.tables, inputs: [user, item], history }
    }

    /// One side's inputs, in the order of its features.
    pub fn inputs(&self, side: Side) -> &[Input] {
        &self.inputs[side.index()]
    }

    /// The width of one side's input matrix.
    pub fn input_dim(&self, side: Side) -> usize {
        self.inputs(side).last().map_or(0, |input| input.range().end)
    }

    /// The user's history, if the schema declares one; under the mean as well, which the gather pools by itself.
    pub fn history(&self) -> Option<&HistoryPlace> {
        self.history.as_ref()
    }

    /// One side's features as its tower sees them.
    pub fn slots(&self, side: Side) -> Vec<FeatureSlot> {
        let slot = |input: &Input| {
            let id_vectors = match *input {
                Input::Pooled { table, .. } => usize::from(self.tables[table].is_ids),
                Input::Sequence { table, dim, .. } => dim / self.tables[table].dim,
                Input::Floats { .. } => 0,
            };
            FeatureSlot { dim: input.range().len(), id_vectors }
        };
        self.inputs(side).iter().map(slot).collect()
    }
}

/// Writes entity `i`'s numbers of one feature.
pub(crate) fn gather_one(tables: &[Table], input: &Input, column: &Column, i: usize, out: &mut [f32]) {
    match (input, column) {
        (Input::Pooled { table, dim, .. }, Column::Bags { .. }) => {
            mean_rows(&tables[*table].values, *dim, column.bag(i), out)
        }
        (Input::Sequence { .. }, Column::Bags { .. }) => out.fill(0.0),
        (Input::Floats { dim, .. }, Column::Floats { values, .. }) => {
            out.copy_from_slice(&values[i * dim..(i + 1) * dim])
        }
        _ => unreachable!("inputs and columns are made from the same encodings"),
    }
}

/// out = mean over the bag of table rows; 0 for an empty bag. Some numbers of all rows at a time: rows lie anywhere in memory, and are waited for
/// together rather than one after the other.
pub(crate) fn mean_rows(table: &[f32], dim: usize, bag: &[u32], out: &mut [f32]) {
    const LANES: usize = 16;
    let share = 1.0 / bag.len().max(1) as f32;
    for (number, means) in out.chunks_mut(LANES).enumerate() {
        let (first, mut sums) = (number * LANES, [0.0; LANES]);
        for &row in bag {
            let from = row as usize * dim + first;
            let values = &table[from..from + means.len()];
            match values.first_chunk::<LANES>() {
                Some(values) => (0..LANES).for_each(|i| sums[i] += values[i]),
                None => sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += v),
            }
        }
        means.iter_mut().zip(sums).for_each(|(mean, sum)| *mean = sum * share);
    }
}

fn feature_names(schema: &Schema, side: Side) -> impl Iterator<Item = &str> {
    let entity = if side == Side::User { &schema.user } else { &schema.item };
    entity.features.iter().map(|f| f.name.as_str())
}

fn history(
    encoder: &Encoder,
    architecture: &Architecture,
    inputs: &[Input],
    tables: &[TableSpec],
) -> Option<HistoryPlace> {
    let (column, max_length) = encoder.history_column()?;
    let (Input::Pooled { table, .. } | Input::Sequence { table, .. }) = inputs[column] else { return None };
    Some(HistoryPlace {
        column,
        table,
        rows_per_item: encoder.rows_per_item(),
        shape: architecture.history_shape(tables[table].dim, max_length),
        slot: inputs[column].range(),
    })
}

struct LayoutBuilder<'a> {
    architecture: &'a Architecture,
    tables: Vec<TableSpec>,
}

impl LayoutBuilder<'_> {
    fn inputs(&mut self, encoder: &Encoder, side: Side) -> Vec<Input> {
        let mut offset = 0;
        let features = feature_names(encoder.schema(), side).zip(encoder.encodings(side));
        let inputs = features.map(|(name, encoding)| {
            let input = self.input(side, name, encoding, offset);
            offset = input.range().end;
            input
        });
        inputs.collect()
    }

    fn input(&mut self, side: Side, name: &str, encoding: &Encoding, offset: usize) -> Input {
        let dims = &self.architecture.dims;
        let table = |rows: usize, by_kind: usize| {
            let (name, dim) = (format!("{side}.{name}"), dims.of(side, name, by_kind));
            TableSpec { name, side, is_ids: false, is_hashed: false, unknown_rows: 0, rows, dim }
        };
        let id_table = |ids: &IdRows| TableSpec {
            is_ids: true,
            is_hashed: ids.is_hashed(),
            unknown_rows: ids.unknown_rows(),
            ..table(ids.rows(), dims.id)
        };
        let spec = match encoding {
            Encoding::Number { .. } => return Input::Floats { offset, dim: 2 },
            Encoding::Dense { dim } => return Input::Floats { offset, dim: dim + 1 },
            Encoding::History { shared: true, .. } => {
                let items = self.tables.iter().position(|t| t.side == Side::Item && t.is_ids);
                return self.history(items.expect("a shared history has an item id table"), offset);
            }
            Encoding::History { ids, .. } => {
                self.tables.push(id_table(ids));
                return self.history(self.tables.len() - 1, offset);
            }
            Encoding::Id { ids } => id_table(ids),
            Encoding::Category { vocabulary } => table(vocabulary.rows(), dims.categorical),
            Encoding::Tags { vocabulary } => table(vocabulary.rows(), dims.categorical_list),
            Encoding::Bucket { bounds } => table(bounds.len() + 2, dims.bucket),
            Encoding::Text { buckets } => table(*buckets, dims.text),
        };
        self.tables.push(spec);
        Input::Pooled { table: self.tables.len() - 1, offset, dim: self.tables[self.tables.len() - 1].dim }
    }

    /// The gather pools a mean by itself.
    fn history(&self, table: usize, offset: usize) -> Input {
        let shape = self.architecture.history_shape(self.tables[table].dim, 0);
        match shape.pooling {
            HistoryPooling::Mean => Input::Pooled { table, offset, dim: shape.dim_out() },
            _ => Input::Sequence { table, offset, dim: shape.dim_out() },
        }
    }
}
