//! [`Delta`]: the fresh items of a space, searched exactly.
//!
//! Two parts, so that a write copies the small one only: a tail that grows with every write, and what was folded out of it. Copies are
//! made when a snapshot still holds the old part (`Arc::make_mut`).

use std::{collections::HashMap, sync::Arc};

use pagoda_ann::{AnnError, Bitmap, Screened, check_vector};

use crate::{
    attributes::{Columns, Declarations},
    ids::ItemId,
    item::{Attributes, Item},
};

/// The tail is folded once it has this many rows, or an eighth of the folded part.
const TAIL_ROWS: usize = 1024;

/// Items that were upserted after the generation's catalog was read, the latest embedding of each.
#[derive(Clone, Debug)]
pub struct Delta {
    folded: Part,
    tail: Part,
    declared: Declarations,
}

/// Rows that are only added, and which of them live.
#[derive(Clone, Debug)]
pub struct Part {
    rows: Arc<Rows>,
    living: Arc<Bitmap>,
}

#[derive(Clone, Debug)]
struct Rows {
    ids: Vec<ItemId>,
    /// The last row of each id.
    by_id: HashMap<ItemId, u32>,
    /// Of the folded part sealed, since nothing is added to it.
    embeddings: Screened,
    /// Of each row.
    attributes: Vec<Attributes>,
    /// The same, those that the generation declares.
    columns: Columns,
}

impl Delta {
    /// No items, each to have an embedding of `dim` values and attributes as they are declared.
    pub fn empty(dim: usize, declared: &Declarations) -> Self {
        Self { folded: Part::empty(dim, declared), tail: Part::empty(dim, declared), declared: declared.clone() }
    }

    /// Many items at once, each of another id. What does not fit in is left out, and told of.
    pub fn of<'a>(
        dim: usize,
        declared: &Declarations,
        items: impl Iterator<Item = &'a Item>,
    ) -> (Self, Vec<(&'a ItemId, AnnError)>) {
        let mut delta = Self::empty(dim, declared);
        let push = |item: &'a Item| {
            let pushed = check_vector(&item.embedding, dim)
                .and_then(|()| delta.folded.push(&item.id, &item.embedding, &item.attributes));
            pushed.err().map(|error| (&item.id, error))
        };
        let left_out = items.filter_map(push).collect();
        delta.folded.seal();
        (delta, left_out)
    }

    /// Sets an item's embedding and attributes.
    pub fn upsert(&mut self, item: &Item) -> Result<(), AnnError> {
        check_vector(&item.embedding, self.tail.rows.embeddings.rows().dim())?;
        self.remove(&item.id);
        self.tail.push(&item.id, &item.embedding, &item.attributes)?;
        if self.tail.rows() >= TAIL_ROWS.max(self.folded.rows() / 8) { self.fold() } else { Ok(()) }
    }

    /// Removes an item, if it is here.
    pub fn remove(&mut self, id: &ItemId) {
        self.folded.remove(id);
        self.tail.remove(id);
    }

    /// How many items live.
    pub fn len(&self) -> usize {
        self.folded.living.count() + self.tail.living.count()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an item lives here.
    pub fn contains(&self, id: &ItemId) -> bool {
        self.folded.living_row(id).or(self.tail.living_row(id)).is_some()
    }

    /// Its parts, each to be searched by itself.
    pub fn parts(&self) -> [&Part; 2] {
        [&self.folded, &self.tail]
    }

    /// The living items.
    pub fn iter(&self) -> impl Iterator<Item = (&ItemId, &[f32], &Attributes)> {
        self.folded.iter().chain(self.tail.iter())
    }

    fn fold(&mut self) -> Result<(), AnnError> {
        let dim = self.tail.rows.embeddings.rows().dim();
        let mut folded = Part::empty(dim, &self.declared);
        for (id, embedding, attributes) in self.iter() {
            folded.push(id, embedding, attributes)?;
        }
        folded.seal();
        self.tail = Part::empty(dim, &self.declared);
        self.folded = folded;
        Ok(())
    }
}

impl Part {
    fn empty(dim: usize, declared: &Declarations) -> Self {
        let rows = Rows {
            ids: Vec::new(),
            by_id: HashMap::new(),
            embeddings: Screened::empty(dim),
            attributes: Vec::new(),
            columns: Columns::new(declared),
        };
        Self { rows: Arc::new(rows), living: Arc::new(Bitmap::none(0)) }
    }

    fn push(&mut self, id: &ItemId, embedding: &[f32], attributes: &Attributes) -> Result<(), AnnError> {
        let rows = Arc::make_mut(&mut self.rows);
        let row = rows.embeddings.push(embedding)?;
        rows.ids.push(id.clone());
        rows.attributes.push(attributes.clone());
        rows.columns.push(attributes);
        rows.by_id.insert(id.clone(), row);
        Arc::make_mut(&mut self.living).push();
        Ok(())
    }

    fn seal(&mut self) {
        Arc::make_mut(&mut self.rows).embeddings.seal();
    }

    fn remove(&mut self, id: &ItemId) {
        if let Some(row) = self.living_row(id) {
            Arc::make_mut(&mut self.living).remove(row);
        }
    }

    /// How many rows there are, living or not.
    pub fn rows(&self) -> usize {
        self.rows.ids.len()
    }

    /// Those that live.
    pub fn living(&self) -> &Bitmap {
        &self.living
    }

    /// The id of a row.
    pub fn id(&self, row: u32) -> &ItemId {
        &self.rows.ids[row as usize]
    }

    /// The embeddings by row.
    pub fn embeddings(&self) -> &Screened {
        &self.rows.embeddings
    }

    /// The attributes by row.
    pub fn columns(&self) -> &Columns {
        &self.rows.columns
    }

    /// The row of an item, if it lives.
    pub fn living_row(&self, id: &ItemId) -> Option<u32> {
        self.rows.by_id.get(id).copied().filter(|row| self.living.contains(*row))
    }

    fn iter(&self) -> impl Iterator<Item = (&ItemId, &[f32], &Attributes)> {
        let item = |row: u32| {
            let attributes = &self.rows.attributes[row as usize];
            (self.id(row), self.rows.embeddings.rows().row(row), attributes)
        };
        self.living.iter().map(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ItemId {
        ItemId::new(&format!("item{n}")).unwrap()
    }

    fn item(n: usize, embedding: &[f32]) -> Item {
        Item::new(id(n), embedding.to_vec())
    }

    #[test]
    fn the_latest_embedding_holds_across_folds_and_old_copies_stay_as_they_were() {
        let mut delta = Delta::empty(2, &Declarations::default());
        for n in 0..3000 {
            delta.upsert(&item(n % 2000, &[n as f32, 0.0])).unwrap();
        }
        let before = delta.clone();
        delta.remove(&id(999));
        delta.upsert(&item(1, &[9000.0, 0.0])).unwrap();
        assert_eq!((before.len(), delta.len()), (2000, 1999));
        let best = |delta: &Delta| {
            let living = |part: &Part| {
                let rows = part.living().iter().map(|row| (part.embeddings().rows().row(row)[0], part.id(row).clone()));
                rows.collect::<Vec<_>>()
            };
            let mut found: Vec<_> = delta.parts().into_iter().flat_map(living).collect();
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            found.into_iter().take(2).collect::<Vec<_>>()
        };
        assert_eq!(best(&before), [(2999.0, id(999)), (2998.0, id(998))]);
        assert_eq!(best(&delta), [(9000.0, id(1)), (2998.0, id(998))]);
        assert!(!delta.contains(&id(999)) && delta.contains(&id(998)));
    }

    #[test]
    fn a_wrong_embedding_changes_nothing() {
        let mut delta = Delta::empty(2, &Declarations::default());
        delta.upsert(&item(1, &[1.0, 0.0])).unwrap();
        assert!(delta.upsert(&item(1, &[1.0])).is_err());
        assert!(delta.upsert(&item(1, &[f32::NAN, 1.0])).is_err());
        assert_eq!(delta.len(), 1);
    }
}
