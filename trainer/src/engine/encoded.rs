//! [`Encoded`]: all users and the whole catalog, encoded once by the model's own encoder; batches are put together from it.

use pagoda_model::{
    Entity, Side,
    features::{Column, EncodedBatch, Encoder},
};

use crate::{data::Data, error::TrainError};

/// Users without their histories, and the catalog.
pub(crate) struct Encoded {
    users: EncodedBatch,
    items: EncodedBatch,
    empty: [EncodedBatch; 2],
    /// The rows of each catalog item in the table that histories use; none for what has none.
    item_rows: Column,
    /// The rows that each entity's id would have if it was unknown.
    hidden: [Column; 2],
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
            item_rows: bags(&data.catalog, |item| encoder.history_rows(&item.id)),
            hidden: [
                bags(&data.users, |user| encoder.hidden_id_rows(Side::User, &user.id)),
                bags(&data.catalog, |item| encoder.hidden_id_rows(Side::Item, &item.id)),
            ],
            id_columns: Side::BOTH.map(|side| encoder.id_column(side)),
            history: encoder.history_column(),
        })
    }

    /// The longest history that enters the tower; 0 if the schema declares none.
    pub(crate) fn history_length(&self) -> usize {
        self.history.map_or(0, |(_, max_length)| max_length)
    }

    /// Whether histories have rows for an item.
    pub(crate) fn is_known(&self, item: u32) -> bool {
        !self.item_rows.bag(item as usize).is_empty()
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
            _ => self.push(Side::User, (number, column), example.user as usize, id_column),
        });
    }

    /// Appends a catalog item.
    pub(crate) fn push_item(&self, batch: &mut EncodedBatch, item: u32, id_hidden: bool) {
        let id_column = self.id_columns[Side::Item.index()].filter(|_| id_hidden);
        batch.push_with(|number, column| self.push(Side::Item, (number, column), item as usize, id_column));
    }

    /// Appends one feature of entity `i`; of the hidden column what the entity would have if its id was unknown.
    fn push(&self, side: Side, (number, column): (usize, &mut Column), i: usize, hidden: Option<usize>) {
        let encoded = if side == Side::User { &self.users } else { &self.items };
        if hidden == Some(number) {
            column.push_from(&self.hidden[side.index()], i);
        } else {
            column.push_from(&encoded.columns()[number], i);
        }
    }

    /// As the encoder does it: the newest that have rows, oldest first.
    fn history_rows(&self, items: &[u32], max_length: usize) -> Vec<u32> {
        let bags = items.iter().rev().map(|&item| self.item_rows.bag(item as usize));
        let mut rows: Vec<u32> =
            bags.filter(|bag| !bag.is_empty()).take(max_length).flat_map(|bag| bag.iter().rev()).copied().collect();
        rows.reverse();
        rows
    }
}

fn bags(entities: &[Entity], rows: impl Fn(&Entity) -> Vec<u32>) -> Column {
    let mut column = Column::bags();
    entities.iter().for_each(|entity| column.push_bag(&rows(entity)));
    column
}

fn encode(encoder: &Encoder, side: Side, entities: &[Entity]) -> Result<EncodedBatch, TrainError> {
    let mut batch = encoder.empty_batch(side);
    for entity in entities {
        let fault = |source| TrainError::Features { side, id: entity.id.clone(), source };
        encoder.encode_into(side, entity, &mut batch).map_err(fault)?;
    }
    Ok(batch)
}
