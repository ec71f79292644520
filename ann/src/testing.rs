//! What only tests may ask of an index: the feature `testing`.

use crate::{AnnError, Bitmap, Hit, Index, Mask, Parameters, Stop, check_vector, index::Visit, top::best_first};

impl Index {
    /// The nearest rows that are allowed (all, without a bitmap), best first, ties by row, with scores as the index has them: those of 8-bit
    /// codes and of a fast scan are close to the rows', no more, and a graph's are those of a query within bounds. May be fewer than k although more are allowed, unless the index is flat:
    /// the search visits only as much as the parameters say. [`Index::find`] is the search without these reservations.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        allowed: Option<&Bitmap>,
        parameters: Parameters,
    ) -> Result<Vec<Hit>, AnnError> {
        check_vector(query, self.dim())?;
        let sieve = Mask { allowed, excluded: &[] }.sieve(self.rows())?;
        let (k, stop) = (k.min(self.rows()), Stop::NEVER);
        let mut hits = self.visit(&Visit { query, k, sieve: &sieve, parameters, stop })?;
        hits.sort_unstable_by(best_first);
        Ok(hits)
    }
}
