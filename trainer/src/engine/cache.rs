//! [`EmbeddingCache`]: embeddings of earlier batches' positives, as they were then (Wang et al., CBNS, SIGIR 2021).

/// A queue of embeddings in the order in which [`super::batches::Batcher`] remembers their items.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EmbeddingCache {
    /// `[cached, dim]`, oldest first.
    values: Vec<f32>,
    /// The most numbers.
    capacity: usize,
}

impl EmbeddingCache {
    /// For so many embeddings.
    pub(super) fn new(capacity: usize, dim: usize) -> Self {
        Self { values: Vec::new(), capacity: capacity * dim }
    }

    /// The numbers, `[cached, dim]`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Puts back what was kept.
    pub(super) fn restore(&mut self, values: Vec<f32>) {
        self.values = values;
    }

    /// Appends a batch's; the oldest leave.
    pub(super) fn push(&mut self, embeddings: &[f32]) {
        if self.capacity > 0 {
            self.values.extend_from_slice(embeddings);
            self.values.drain(..self.values.len().saturating_sub(self.capacity));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave() {
        let mut cache = EmbeddingCache::new(3, 2);
        cache.push(&[1.0, 1.0, 2.0, 2.0]);
        cache.push(&[3.0, 3.0, 4.0, 4.0]);
        assert_eq!(cache.values(), [2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
        let mut none = EmbeddingCache::new(0, 2);
        none.push(&[1.0, 1.0]);
        assert!(none.values().is_empty());
    }
}
