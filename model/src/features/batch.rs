//! [`EncodedBatch`]: encoded entities, column by column.

/// Many encoded entities of one side: one column per feature, in the schema's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedBatch {
    len: usize,
    columns: Vec<Column>,
}

/// One feature of all entities of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Bags of table rows, pooled by their mean: entity `i` has `rows[offsets[i]..offsets[i + 1]]`, which may be empty.
    Bags {
        /// `[len + 1]`, from 0.
        offsets: Vec<usize>,
        /// Row numbers of the feature's table.
        rows: Vec<u32>,
    },
    /// Numbers that enter the tower as they are: `[len, width]`.
    Floats {
        /// How many an entity has.
        width: usize,
        /// Row after row.
        values: Vec<f32>,
    },
}

impl Column {
    /// An empty column of bags.
    pub fn bags() -> Self {
        Self::Bags { offsets: vec![0], rows: Vec::new() }
    }

    /// An empty column of floats.
    pub fn floats(width: usize) -> Self {
        Self::Floats { width, values: Vec::new() }
    }

    /// Appends one entity's bag. Does nothing to a column of floats.
    pub fn push_bag(&mut self, bag: &[u32]) {
        if let Self::Bags { offsets, rows } = self {
            rows.extend_from_slice(bag);
            offsets.push(rows.len());
        }
    }

    /// Appends entity `i` of another column of the same form.
    pub fn push_from(&mut self, other: &Self, i: usize) {
        match (self, other) {
            (column @ Self::Bags { .. }, other @ Self::Bags { .. }) => column.push_bag(other.bag(i)),
            (Self::Floats { values, .. }, Self::Floats { width, values: from }) => {
                values.extend_from_slice(&from[i * width..(i + 1) * width]);
            }
            _ => unreachable!("columns of one feature have one form"),
        }
    }

    /// Entity `i`'s table rows; none for a column of floats.
    pub fn bag(&self, i: usize) -> &[u32] {
        match self {
            Self::Bags { offsets, rows } => &rows[offsets[i]..offsets[i + 1]],
            Self::Floats { .. } => &[],
        }
    }
}

impl EncodedBatch {
    /// No entities yet, with empty columns.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { len: 0, columns }
    }

    /// How many entities there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The columns, in the schema's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Appends one entity: `push` appends exactly one entry to the column it is given (number and column).
    pub fn push_with(&mut self, mut push: impl FnMut(usize, &mut Column)) {
        self.columns.iter_mut().enumerate().for_each(|(number, column)| push(number, column));
        self.len += 1;
    }

    /// Appends entity `i` of a batch of the same side.
    pub fn push_from(&mut self, other: &Self, i: usize) {
        self.push_with(|number, column| column.push_from(&other.columns[number], i));
    }
}
