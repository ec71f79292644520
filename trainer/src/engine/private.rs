//! Negatives of single rows: mined hard ones, and what was shown to the row's user and not clicked.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    lists::Lists,
    sources::{Mixture, draw_count},
    targets::Target,
};
use crate::{data::Timelines, mining::HardPools};

/// Where they are drawn from.
pub(super) struct PrivateSources<'a> {
    pub(super) hard: Option<&'a HardPools>,
    /// By user: distinct items shown in training's time that the user has no training positive of; empty without that source.
    pub(super) exposed: Lists<u32>,
}

/// One batch's, row after row.
pub(super) struct PrivateNegatives {
    items: Lists<u32>,
    /// For each, how often its row draws it from its own pool, in expectation.
    frequencies: Vec<f64>,
    pub(super) hard: u64,
    pub(super) exposed: u64,
}

impl PrivateNegatives {
    /// Places in the catalog, row after row.
    pub(super) fn items(&self) -> &[u32] {
        self.items.values()
    }

    /// `[rows + 1]`.
    pub(super) fn offsets(&self) -> &[usize] {
        self.items.offsets()
    }

    pub(super) fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }
}

impl PrivateSources<'_> {
    /// Draws each row's, with repetition; `hard` is how much of their number is drawn by now, 0 to 1. An item that the row's user has a
    /// training positive of is none.
    pub(super) fn draw(
        &self,
        targets: &[Target<'_>],
        mixture: &Mixture,
        hard: f64,
        rng: &mut ChaCha8Rng,
    ) -> PrivateNegatives {
        let mut all = PrivateNegatives { items: Lists::new(), frequencies: Vec::new(), hard: 0, exposed: 0 };
        for target in targets {
            let mut row = Vec::new();
            let user = target.timeline.user;
            if let Some(pools) = self.hard {
                all.hard += draw_from(pools.pool(user), target, mixture.hard * hard, &mut row, rng);
            }
            if (user as usize) < self.exposed.len() {
                all.exposed += draw_from(self.exposed.list(user as usize), target, mixture.exposed, &mut row, rng);
            }
            all.items.push(row.iter().map(|&(item, _)| item));
            all.frequencies.extend(row.iter().map(|&(_, frequency)| frequency));
        }
        all
    }
}

impl PrivateSources<'_> {
    /// The pools of a row, each with how often the row draws one item of it.
    pub(super) fn pools(&self, target: &Target<'_>, mixture: &Mixture, hard: f64) -> [(&[u32], f64); 2] {
        let user = target.timeline.user;
        let mined = self.hard.map_or(&[][..], |pools| pools.pool(user));
        let shown = if (user as usize) < self.exposed.len() { self.exposed.list(user as usize) } else { &[] };
        [(mined, mixture.hard * hard), (shown, mixture.exposed)]
            .map(|(pool, mean)| (pool, mean / pool.len().max(1) as f64))
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.hard.is_none() && self.exposed.len() == 0
    }
}

/// Draws about `mean` items of a pool with their expected frequencies; returns how many.
fn draw_from(pool: &[u32], target: &Target<'_>, mean: f64, row: &mut Vec<(u32, f64)>, rng: &mut ChaCha8Rng) -> u64 {
    if pool.is_empty() || mean <= 0.0 {
        return 0;
    }
    let before = row.len();
    for _ in 0..draw_count(mean, rng) {
        let item = pool[rng.random_range(0..pool.len())];
        if !target.timeline.items.contains(&item) {
            row.push((item, mean / pool.len() as f64));
        }
    }
    (row.len() - before) as u64
}

/// By user (their number given): distinct items of impressions that the user has no positive of.
pub(super) fn exposed_items(users: usize, exposed: &Timelines, positives: &Timelines) -> Lists<u32> {
    let of_user = |user: u32| {
        let Some(n) = exposed.of_user(user) else { return Vec::new() };
        let liked = positives.of_user(user).map_or(&[][..], |n| positives.timeline(n).items);
        let mut items: Vec<u32> = exposed.timeline(n).items.iter().copied().filter(|i| !liked.contains(i)).collect();
        items.sort_unstable();
        items.dedup();
        items
    };
    (0..users as u32).map(of_user).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn rows_draw_from_the_pools_of_their_users_what_these_do_not_like() {
        let positives = Timelines::of_rows(&[(0, 5, 1), (0, 6, 2), (1, 7, 3)]);
        let shown = Timelines::of_rows(&[(0, 5, 1), (0, 8, 1), (0, 8, 2), (0, 9, 2)]);
        let exposed = exposed_items(2, &shown, &positives);
        assert_eq!((exposed.list(0), exposed.list(1)), (&[8, 9][..], &[0_u32; 0][..]));
        let sources = PrivateSources { hard: None, exposed };
        let targets = [0, 1].map(|n| Target { timeline: positives.timeline(n), at: 0 });
        let mixture =
            Mixture { in_batch: false, uniform: 0, popularity: 0, cache: 0, hard: 0.0, exposed: 3.0, shares: [0.0; 6] };
        let drawn = sources.draw(&targets, &mixture, 1.0, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!((drawn.offsets(), drawn.exposed, drawn.hard), (&[0, 3, 3][..], 3, 0));
        assert!(drawn.items().iter().all(|item| [8, 9].contains(item)));
        assert!(drawn.frequencies().iter().all(|&f| (f - 1.5).abs() < 1e-9));
    }
}
