//! [`Encoded`]: all users and the whole catalog, encoded once by the model's own encoder; batches are put together from it.

use pagoda_model::{
    Entity, Side,
    features::{Column, EncodedBatch, Encoder, OUT_OF_VOCABULARY},
};

use crate::{data::Data, error::TrainError};

/// Users without their histories, and the catalog.
pub(crate) struct Encoded {
    users: EncodedBatch,
    items: EncodedBatch,
    empty: [EncodedBatch; 2],
    /// The row of each catalog item in the table that histories use; 0 for what has none.
    item_rows: Vec<u32>,
    id_columns: [Option<usize>; 2],
    history: Option<(usize, usize)>,
}

/// One user of a batch.
pub(crate) struct UserExample<'a> {
    pub(crate) user: u32,
    /// Catalog items, oldest first.
    pub(crate) history: &'a [u32],
    /// Whether the user's own id is hidden.
    pub(crate) id_hidden: bool,
}

impl Encoded {
    /// Encodes everything once.
    pub(crate) fn new(encoder: &Encoder, data: &Data) -> Result<Self, TrainError> {
        Ok(Self {
            users: encode(encoder, Side::User, &data.users)?,
            items: encode(encoder, Side::Item, &data.catalog)?,
            empty: Side::BOTH.map(|side| encoder.empty_batch(side)),
            item_rows: data.catalog.iter().map(|item| encoder.item_row(&item.id)).collect(),
            id_columns: Side::BOTH.map(|side| encoder.id_column(side)),
            history: encoder.history_column(),
        })
    }

    /// The longest history that enters the tower; 0 if the schema declares none.
    pub(crate) fn history_length(&self) -> usize {
        self.history.map_or(0, |(_, max_length)| max_length)
    }

    /// A batch without entities.
    pub(crate) fn empty(&self, side: Side) -> EncodedBatch {
        self.empty[side.index()].clone()
    }

    /// Appends a user with a history.
    pub(crate) fn push_user(&self, batch: &mut EncodedBatch, example: &UserExample<'_>) {
        let id_column = self.id_columns[Side::User.index()].filter(|_| example.id_hidden);
        batch.push_with(|number, column| match self.history {
            Some((history, max_length)) if number == history => {
                column.push_bag(&self.history_rows(example.history, max_length))
            }
            _ => push_or_hide(column, &self.users.columns()[number], example.user as usize, id_column == Some(number)),
        });
    }

    /// Appends a catalog item.
    pub(crate) fn push_item(&self, batch: &mut EncodedBatch, item: u32, id_hidden: bool) {
        let id_column = self.id_columns[Side::Item.index()].filter(|_| id_hidden);
        batch.push_with(|number, column| {
            push_or_hide(column, &self.items.columns()[number], item as usize, id_column == Some(number));
        });
    }

    /// As the encoder does it: the newest that have a row, oldest first.
    fn history_rows(&self, items: &[u32], max_length: usize) -> Vec<u32> {
        let rows = items.iter().rev().map(|&item| self.item_rows[item as usize]);
        let mut rows: Vec<u32> = rows.filter(|&row| row != OUT_OF_VOCABULARY).take(max_length).collect();
        rows.reverse();
        rows
    }
}

fn push_or_hide(column: &mut Column, from: &Column, i: usize, hide: bool) {
    if hide { column.push_bag(&[OUT_OF_VOCABULARY]) } else { column.push_from(from, i) }
}

fn encode(encoder: &Encoder, side: Side, entities: &[Entity]) -> Result<EncodedBatch, TrainError> {
    let mut batch = encoder.empty_batch(side);
    for entity in entities {
        let fault = |source| TrainError::Features { side, id: entity.id.clone(), source };
        encoder.encode_into(side, entity, &mut batch).map_err(fault)?;
    }
    Ok(batch)
}
