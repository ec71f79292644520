//! Embedding tables, and how a tower's input is made of their rows.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use crate::{
    Side,
    features::{Column, Encoder, Encoding},
    schema::Schema,
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
    fn of(&self, side: Side, name: &str, by_kind: usize) -> usize {
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
            Self::Pooled { offset, dim, .. } | Self::Floats { offset, dim } => offset..offset + dim,
        }
    }
}

/// The tables of a model and both towers' inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Every table once.
    pub tables: Vec<TableSpec>,
    inputs: [Vec<Input>; 2],
}

impl Layout {
    /// The layout that follows from the encoder's vocabularies and the dimensions.
    pub fn new(encoder: &Encoder, dims: &FeatureDims) -> Self {
        let mut tables = Vec::new();
        // Items first, so that the users' history finds the item id table.
        let item = side_inputs(encoder, Side::Item, dims, &mut tables);
        let user = side_inputs(encoder, Side::User, dims, &mut tables);
        Self { tables, inputs: [user, item] }
    }

    /// One side's inputs, in the order of its features.
    pub fn inputs(&self, side: Side) -> &[Input] {
        &self.inputs[side.index()]
    }

    /// The width of one side's input matrix.
    pub fn input_dim(&self, side: Side) -> usize {
        self.inputs(side).last().map_or(0, |input| input.range().end)
    }
}

/// Writes entity `i`'s numbers of one feature.
pub(crate) fn gather_one(tables: &[Table], input: &Input, column: &Column, i: usize, out: &mut [f32]) {
    match (input, column) {
        (Input::Pooled { table, dim, .. }, Column::Bags { .. }) => {
            mean_rows(&tables[*table].values, *dim, column.bag(i), out)
        }
        (Input::Floats { dim, .. }, Column::Floats { values, .. }) => {
            out.copy_from_slice(&values[i * dim..(i + 1) * dim])
        }
        _ => unreachable!("inputs and columns are made from the same encodings"),
    }
}

/// out = mean over the bag of table rows; 0 for an empty bag.
fn mean_rows(table: &[f32], dim: usize, bag: &[u32], out: &mut [f32]) {
    out.fill(0.0);
    for &row in bag {
        let from = row as usize * dim;
        out.iter_mut().zip(&table[from..from + dim]).for_each(|(o, v)| *o += v);
    }
    if bag.len() > 1 {
        let share = 1.0 / bag.len() as f32;
        out.iter_mut().for_each(|o| *o *= share);
    }
}

fn side_inputs(encoder: &Encoder, side: Side, dims: &FeatureDims, tables: &mut Vec<TableSpec>) -> Vec<Input> {
    let mut offset = 0;
    let features = feature_names(encoder.schema(), side).zip(encoder.encodings(side));
    let inputs = features.map(|(name, encoding)| {
        let input = input_of(name, encoding, side, dims, tables, offset);
        offset = input.range().end;
        input
    });
    inputs.collect()
}

fn feature_names(schema: &Schema, side: Side) -> impl Iterator<Item = &str> {
    let entity = if side == Side::User { &schema.user } else { &schema.item };
    entity.features.iter().map(|f| f.name.as_str())
}

#[expect(clippy::too_many_arguments, reason = "one private step of a fold, called once")]
fn input_of(
    name: &str,
    encoding: &Encoding,
    side: Side,
    dims: &FeatureDims,
    tables: &mut Vec<TableSpec>,
    offset: usize,
) -> Input {
    let (rows, dim, is_ids) = match encoding {
        Encoding::Number { .. } => return Input::Floats { offset, dim: 2 },
        Encoding::Dense { dim } => return Input::Floats { offset, dim: dim + 1 },
        Encoding::History { shared: true, .. } => {
            let table = tables
                .iter()
                .position(|t| t.side == Side::Item && t.is_ids)
                .expect("a shared history has an item id table");
            return Input::Pooled { table, offset, dim: tables[table].dim };
        }
        Encoding::History { vocabulary, .. } => (vocabulary.rows(), dims.of(side, name, dims.id), true),
        Encoding::Row { vocabulary, is_id: true } => (vocabulary.rows(), dims.of(side, name, dims.id), true),
        Encoding::Row { vocabulary, .. } => (vocabulary.rows(), dims.of(side, name, dims.categorical), false),
        Encoding::Tags { vocabulary } => (vocabulary.rows(), dims.of(side, name, dims.categorical_list), false),
        Encoding::Bucket { bounds } => (bounds.len() + 2, dims.of(side, name, dims.bucket), false),
        Encoding::Text { buckets } => (*buckets, dims.of(side, name, dims.text), false),
    };
    tables.push(TableSpec { name: format!("{side}.{name}"), side, is_ids, rows, dim });
    Input::Pooled { table: tables.len() - 1, offset, dim }
}
