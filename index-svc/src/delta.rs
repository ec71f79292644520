//! [`Delta`]: the fresh items of a space, searched exactly.
//!
//! Two parts, so that a write copies the small one only: a tail that grows with every write, and what was folded out of it. Copies are
//! made when a snapshot still holds the old part (`Arc::make_mut`).

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use pagoda_ann::{AnnError, Matrix, check_vector, scores};

use crate::ids::ItemId;

/// The tail is folded once it has this many rows, or an eighth of the folded part.
const TAIL_ROWS: usize = 1024;

/// Items that were upserted after the generation's catalog was read, the latest embedding of each.
#[derive(Clone, Debug)]
pub struct Delta {
    folded: Part,
    tail: Part,
}

/// Rows that are only added, and which of them live.
#[derive(Clone, Debug)]
struct Part {
    rows: Arc<Rows>,
    living: Arc<Vec<bool>>,
    living_count: usize,
}

#[derive(Clone, Debug)]
struct Rows {
    ids: Vec<ItemId>,
    /// The last row of each id.
    by_id: HashMap<ItemId, u32>,
    embeddings: Matrix,
}

impl Delta {
    /// No items, each to have an embedding of `dim` values.
    pub fn empty(dim: usize) -> Self {
        Self { folded: Part::empty(dim), tail: Part::empty(dim) }
    }

    /// Sets an item's embedding.
    pub fn upsert(&mut self, id: &ItemId, embedding: &[f32]) -> Result<(), AnnError> {
        check_vector(embedding, self.tail.rows.embeddings.dim())?;
        self.remove(id);
        self.tail.push(id, embedding)?;
        if self.tail.living.len() >= TAIL_ROWS.max(self.folded.living.len() / 8) { self.fold() } else { Ok(()) }
    }

    /// Removes an item, if it is here.
    pub fn remove(&mut self, id: &ItemId) {
        self.folded.remove(id);
        self.tail.remove(id);
    }

    /// How many items live.
    pub fn len(&self) -> usize {
        self.folded.living_count + self.tail.living_count
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of these ids (each given once) live here.
    pub fn count_of(&self, ids: &[ItemId]) -> usize {
        ids.iter().filter(|id| self.folded.living_row(id).or(self.tail.living_row(id)).is_some()).count()
    }

    /// The k best living items that are not excluded, in no particular order; ties are settled by id.
    pub fn search(&self, query: &[f32], k: usize, exclude: &[ItemId]) -> Result<Vec<(&ItemId, f32)>, AnnError> {
        let mut found = self.folded.search(query, exclude)?;
        found.extend(self.tail.search(query, exclude)?);
        if k < found.len() {
            found.select_nth_unstable_by(k, best_first);
            found.truncate(k);
        }
        Ok(found)
    }

    fn fold(&mut self) -> Result<(), AnnError> {
        let mut folded = Part::empty(self.tail.rows.embeddings.dim());
        for (id, embedding) in self.folded.iter().chain(self.tail.iter()) {
            folded.push(id, embedding)?;
        }
        *self = Self { tail: Part::empty(folded.rows.embeddings.dim()), folded };
        Ok(())
    }
}

impl Part {
    fn empty(dim: usize) -> Self {
        let rows = Rows { ids: Vec::new(), by_id: HashMap::new(), embeddings: Matrix::empty(dim) };
        Self { rows: Arc::new(rows), living: Arc::default(), living_count: 0 }
    }

    fn push(&mut self, id: &ItemId, embedding: &[f32]) -> Result<(), AnnError> {
        let rows = Arc::make_mut(&mut self.rows);
        let row = rows.embeddings.push(embedding)?;
        rows.ids.push(id.clone());
        rows.by_id.insert(id.clone(), row);
        Arc::make_mut(&mut self.living).push(true);
        self.living_count += 1;
        Ok(())
    }

    fn remove(&mut self, id: &ItemId) {
        if let Some(row) = self.living_row(id) {
            Arc::make_mut(&mut self.living)[row as usize] = false;
            self.living_count -= 1;
        }
    }

    fn living_row(&self, id: &ItemId) -> Option<u32> {
        self.rows.by_id.get(id).copied().filter(|row| self.living[*row as usize])
    }

    fn iter(&self) -> impl Iterator<Item = (&ItemId, &[f32])> {
        let rows = (0..).zip(&self.rows.ids).zip(self.living.iter()).filter(|(_, living)| **living);
        rows.map(|((row, id), _)| (id, self.rows.embeddings.row(row)))
    }

    fn search(&self, query: &[f32], exclude: &[ItemId]) -> Result<Vec<(&ItemId, f32)>, AnnError> {
        let mut allowed = self.living.as_ref().clone();
        for row in exclude.iter().filter_map(|id| self.living_row(id)) {
            allowed[row as usize] = false;
        }
        let scored = self.rows.ids.iter().zip(scores(&self.rows.embeddings, query)?).zip(allowed);
        Ok(scored.filter(|(_, allowed)| *allowed).map(|(hit, _)| hit).collect())
    }
}

fn best_first(a: &(&ItemId, f32), b: &(&ItemId, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ItemId {
        ItemId::new(&format!("item{n}")).unwrap()
    }

    #[test]
    fn the_latest_embedding_holds_across_folds_and_old_copies_stay_as_they_were() {
        let mut delta = Delta::empty(2);
        for n in 0..3000 {
            delta.upsert(&id(n % 2000), &[n as f32, 0.0]).unwrap();
        }
        let before = delta.clone();
        delta.remove(&id(999));
        delta.upsert(&id(1), &[9000.0, 0.0]).unwrap();
        assert_eq!((before.len(), delta.len()), (2000, 1999));
        let ids = |delta: &Delta, exclude: &[ItemId]| {
            let mut found: Vec<_> = delta.search(&[1.0, 0.0], 2, exclude).unwrap();
            found.sort_by(best_first);
            found.into_iter().map(|(id, score)| (id.clone(), score)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&before, &[]), [(id(999), 2999.0), (id(998), 2998.0)]);
        assert_eq!(ids(&delta, &[]), [(id(1), 9000.0), (id(998), 2998.0)]);
        assert_eq!(ids(&delta, &[id(1), id(998), id(7777)]), [(id(997), 2997.0), (id(996), 2996.0)]);
        assert_eq!(delta.count_of(&[id(1), id(999), id(7777)]), 1);
    }

    #[test]
    fn a_wrong_embedding_changes_nothing() {
        let mut delta = Delta::empty(2);
        delta.upsert(&id(1), &[1.0, 0.0]).unwrap();
        assert!(delta.upsert(&id(1), &[1.0]).is_err());
        assert!(delta.upsert(&id(1), &[f32::NAN, 1.0]).is_err());
        assert_eq!(delta.len(), 1);
    }
}
