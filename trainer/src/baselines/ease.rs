//! EASE: the linear model of items from items that is best in the least squares, in closed form (Steck, "Embarrassingly shallow autoencoders
//! for sparse data", WWW 2019).

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::{Popularity, Scorer, UserItems, inverse::inverse};

/// B = I - P diag(1 / diag P) with P = (X^T X + lambda I)^-1, where X is `[users, items]`. The score of an item is the sum of its column of B over
/// the history. Items outside the most popular ones that it was made of are all last; without a known item in the history,
/// the ranking is popularity's.
pub(crate) struct Ease {
    /// `[items, items]`, by history item.
    weights: Vec<f32>,
    /// Places in the catalog of the items that it knows, ascending.
    items: Vec<u32>,
    /// By place in the catalog: the place in `items`.
    place: Vec<Option<u32>>,
    popularity: Popularity,
}

impl Ease {
    /// Of at most so many items, the most popular (ties by the smaller place), with lambda chosen by [`lambda`]. Memory peaks at
    /// several times 8 bytes times the square of the items, and stays at 4.
    pub(crate) fn fit(users: &UserItems, items_max: usize) -> Result<Self> {
        let counts = users.user_counts();
        let items = most_popular(&counts, items_max);
        let kept: Vec<u32> = items.iter().map(|&item| counts[item as usize]).collect();
        Self::with(users, items, lambda(&kept))
    }

    pub(super) fn with(users: &UserItems, items: Vec<u32>, lambda: f64) -> Result<Self> {
        let mut place = vec![None; users.catalog()];
        items.iter().enumerate().for_each(|(at, &item)| place[item as usize] = Some(at as u32));
        let popularity = Popularity::of_users(&users.user_counts());
        let weights = weights(&users.renamed(&place, items.len()), lambda)?;
        Ok(Self { weights, items, place, popularity })
    }
}

impl Scorer for Ease {
    fn score(&self, history: &[u32], scores: &mut [f32]) {
        let known: Vec<u32> = history.iter().filter_map(|&item| self.place[item as usize]).collect();
        if known.is_empty() {
            return self.popularity.score(history, scores);
        }
        let mut sums = vec![0_f32; self.items.len()];
        for row in known {
            let row = &self.weights[row as usize * sums.len()..][..sums.len()];
            sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight);
        }
        scores.fill(f32::MIN);
        self.items.iter().zip(sums).for_each(|(&item, sum)| scores[item as usize] = sum);
    }
}

/// The mean of the items' counts, 50 to 500: what fits grows with how much there is to fit. Tried leaving each user's last item out: at a mean of
/// 290 (MovieLens 1M) recall_at_20 is 0.178 to 0.180 for 200 to 1000 and 0.167 for 50; at a mean of 10 (the small one) 50 is best of 20, 50, 100.
fn lambda(counts: &[u32]) -> f64 {
    let mean = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / counts.len().max(1) as f64;
    mean.clamp(50.0, 500.0)
}

/// At most so many of the items that anybody had, as ascending places.
fn most_popular(counts: &[u32], items_max: usize) -> Vec<u32> {
    let mut items: Vec<u32> = (0..counts.len() as u32).filter(|&item| counts[item as usize] > 0).collect();
    items.sort_by_key(|&item| std::cmp::Reverse(counts[item as usize]));
    items.truncate(items_max);
    items.sort_unstable();
    items
}

/// B, `[items, items]`.
fn weights(users: &UserItems, lambda: f64) -> Result<Vec<f32>> {
    let n = users.catalog();
    if n == 0 {
        return Ok(Vec::new());
    }
    let p = inverse(&gram(users, lambda)?)?;
    let p: Vec<f64> = p.flatten_all()?.to_vec1()?;
    let diagonal: Vec<f64> = (0..n).map(|i| p[i * n + i]).collect();
    let mut weights = vec![0_f32; n * n];
    weights.par_chunks_mut(n).zip(p.par_chunks(n)).enumerate().for_each(|(i, (row, p))| {
        row.iter_mut().zip(p).zip(&diagonal).for_each(|((weight, p), d)| *weight = (-p / d) as f32);
        row[i] = 0.0;
    });
    Ok(weights)
}

/// X^T X + lambda I, `[items, items]`, in double precision.
fn gram(users: &UserItems, lambda: f64) -> Result<Tensor> {
    let n = users.catalog();
    let items = users.transposed();
    let mut gram = vec![0_f64; n * n];
    gram.par_chunks_mut(n).enumerate().for_each(|(item, row)| {
        for &user in items.of(item) {
            users.of(user as usize).iter().for_each(|&other| row[other as usize] += 1.0);
        }
        row[item] += lambda;
    });
    Tensor::from_vec(gram, (n, n), &Device::Cpu)
}
