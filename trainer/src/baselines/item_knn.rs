//! Item-kNN: items are alike that the same users had (Sarwar et al., "Item-based collaborative filtering", WWW 2001).

use rayon::prelude::*;

use super::{Scorer, UserItems};

/// The most neighbours of an item that count.
const NEIGHBOURS_MAX: usize = 200;
/// Added to the denominator of a similarity: of pairs that few users had, a coincidence is likelier.
const SHRINKAGE: f32 = 20.0;

/// The score of an item is the sum of its similarities to those of its [`NEIGHBOURS_MAX`] nearest that the user had, where
/// sim(i, j) = users of both / (sqrt(users of i * users of j) + [`SHRINKAGE`]). Items without such a neighbour follow below 0, by
/// popularity, and so does everything where there is no history.
pub(crate) struct ItemKnn {
    /// By history item: the items whose neighbour it is, and how alike they are. `neighbour_of[offsets[i]..offsets[i + 1]]` is i's.
    offsets: Vec<usize>,
    neighbour_of: Vec<(u32, f32)>,
    /// Popularity in -1 to 0, `[catalog]`.
    below: Vec<f32>,
}

impl ItemKnn {
    /// Counts pairs item by item: memory is that of the matrix twice over and of the neighbours kept, whatever the number of pairs.
    pub(crate) fn fit(users: &UserItems) -> Self {
        Self::with(users, NEIGHBOURS_MAX, SHRINKAGE)
    }

    pub(super) fn with(users: &UserItems, neighbours_max: usize, shrinkage: f32) -> Self {
        let items = users.transposed();
        let counts = users.user_counts();
        let neighbours: Vec<Vec<(u32, f32)>> = (0..users.catalog())
            .into_par_iter()
            .map_init(
                || Pairs::new(users.catalog()),
                |pairs, item| {
                    pairs.count(item, users, &items);
                    pairs.nearest(item, &counts, neighbours_max, shrinkage)
                },
            )
            .collect();
        let (offsets, neighbour_of) = by_neighbour(&neighbours, users.catalog());
        Self { offsets, neighbour_of, below: below(&counts) }
    }
}

impl Scorer for ItemKnn {
    fn score(&self, history: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.below);
        for &item in history {
            let item = item as usize;
            for &(candidate, similarity) in &self.neighbour_of[self.offsets[item]..self.offsets[item + 1]] {
                let score = &mut scores[candidate as usize];
                *score = score.max(0.0) + similarity;
            }
        }
    }
}

/// With how many users each item shares one: counts that are cleared by what was touched.
struct Pairs {
    counts: Vec<u32>,
    touched: Vec<u32>,
}

impl Pairs {
    fn new(catalog: usize) -> Self {
        Self { counts: vec![0; catalog], touched: Vec::new() }
    }

    fn count(&mut self, item: usize, users: &UserItems, items: &UserItems) {
        for &user in items.of(item) {
            for &other in users.of(user as usize) {
                if self.counts[other as usize] == 0 {
                    self.touched.push(other);
                }
                self.counts[other as usize] += 1;
            }
        }
    }

    /// The nearest to `item`, by descending similarity, ties by the smaller place. Clears the counts.
    fn nearest(&mut self, item: usize, counts: &[u32], neighbours_max: usize, shrinkage: f32) -> Vec<(u32, f32)> {
        let mut nearest: Vec<(u32, f32)> = Vec::with_capacity(self.touched.len());
        for other in self.touched.drain(..) {
            let both = std::mem::take(&mut self.counts[other as usize]) as f32;
            let norm = (counts[item] as f32 * counts[other as usize] as f32).sqrt();
            if other as usize != item {
                nearest.push((other, both / (norm + shrinkage)));
            }
        }
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if nearest.len() > neighbours_max {
            nearest.select_nth_unstable_by(neighbours_max, order);
            nearest.truncate(neighbours_max);
        }
        nearest.sort_unstable_by(order);
        nearest.shrink_to_fit();
        nearest
    }
}

/// From each item's neighbours to, by neighbour, whose it is.
fn by_neighbour(neighbours: &[Vec<(u32, f32)>], catalog: usize) -> (Vec<usize>, Vec<(u32, f32)>) {
    let mut offsets = vec![0; catalog + 1];
    neighbours.iter().flatten().for_each(|&(neighbour, _)| offsets[neighbour as usize + 1] += 1);
    (0..catalog).for_each(|item| offsets[item + 1] += offsets[item]);
    let mut next = offsets.clone();
    let mut neighbour_of = vec![(0, 0.0); offsets[catalog]];
    for (item, nearest) in neighbours.iter().enumerate() {
        for &(neighbour, similarity) in nearest {
            neighbour_of[next[neighbour as usize]] = (item as u32, similarity);
            next[neighbour as usize] += 1;
        }
    }
    (offsets, neighbour_of)
}

/// Counts scaled into -1 to 0, in their order.
fn below(counts: &[u32]) -> Vec<f32> {
    let most = counts.iter().max().map_or(1.0, |&most| most as f64 + 1.0);
    counts.iter().map(|&count| (f64::from(count) / most - 1.0) as f32).collect()
}
