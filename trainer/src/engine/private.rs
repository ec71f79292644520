//! Negatives of single rows: mined hard ones, and what was shown to the row's user and not clicked.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    lists::Lists,
    sources::{Mixture, draw_count},
    targets::Target,
};
use crate::{
    data::{Timelines, mixed},
    mining::HardPools,
};

/// No number: the item was not drawn.
const NONE: u32 = u32::MAX;

/// Where they are drawn from.
pub(super) struct PrivateSources<'a> {
    hard: Option<&'a HardPools>,
    /// By user: distinct items shown in training's time that the user has no training positive of; empty without that source.
    exposed: Lists<u32>,
    /// By catalog item, while a batch is drawn: its number among those drawn; empty without sources.
    numbers: Vec<u32>,
}

/// One batch's, row after row. Rows draw the same items again and again, so that each is passed through the tower once.
pub(super) struct PrivateNegatives {
    /// Places in the catalog, each once.
    items: Vec<u32>,
    /// By row, with repetition: numbers of items.
    rows: Lists<u32>,
    /// For each of these, how often its row draws it from its own pool, in expectation.
    frequencies: Vec<f64>,
    pub(super) hard: u64,
    pub(super) exposed: u64,
}

/// What one row draws.
#[derive(Default)]
struct RowDraws {
    /// Places in the catalog, and how often the row draws each, in expectation.
    items: Vec<(u32, f64)>,
    hard: u64,
    exposed: u64,
}

impl PrivateNegatives {
    /// Places in the catalog, each once.
    pub(super) fn items(&self) -> &[u32] {
        &self.items
    }

    /// The catalog places of all that rows drew, with the frequency of each.
    pub(super) fn drawn(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        let items = self.rows.values().iter().map(|&number| self.items[number as usize]);
        items.zip(self.frequencies.iter().copied())
    }

    /// By row, with repetition: numbers of items; what else there is goes.
    pub(super) fn into_rows(self) -> Lists<u32> {
        self.rows
    }
}

impl<'a> PrivateSources<'a> {
    /// Mined ones, and exposed ones by user, either of which may be none, of a catalog of so many items.
    pub(super) fn new(hard: Option<&'a HardPools>, exposed: Lists<u32>, catalog: usize) -> Self {
        let used = hard.is_some() || exposed.len() > 0;
        Self { hard, exposed, numbers: vec![NONE; if used { catalog } else { 0 }] }
    }

    /// Draws each row's, with repetition; `hard` is how much of their number is drawn by now, 0 to 1. An item that the row's user has a
    /// training positive of is none.
    pub(super) fn draw(&mut self, targets: &[Target<'_>], mixture: &Mixture, hard: f64, seed: u64) -> PrivateNegatives {
        let mut all =
            PrivateNegatives { items: Vec::new(), rows: Lists::new(), frequencies: Vec::new(), hard: 0, exposed: 0 };
        if self.is_empty() {
            targets.iter().for_each(|_| all.rows.push([]));
            return all;
        }
        let numbered = targets.par_iter().enumerate();
        let rows: Vec<RowDraws> = numbered
            .map(|(row, target)| {
                let mut rng = ChaCha8Rng::seed_from_u64(mixed(&[seed, row as u64]));
                self.draw_row(target, mixture, hard, &mut rng)
            })
            .collect();
        for RowDraws { items, hard, exposed } in rows {
            all.hard += hard;
            all.exposed += exposed;
            all.frequencies.extend(items.iter().map(|&(_, frequency)| frequency));
            all.rows.push(items.into_iter().map(|(item, _)| number(&mut self.numbers, item, &mut all.items)));
        }
        all.items.iter().for_each(|&item| self.numbers[item as usize] = NONE);
        all
    }

    fn draw_row(&self, target: &Target<'_>, mixture: &Mixture, hard: f64, rng: &mut ChaCha8Rng) -> RowDraws {
        let (mut row, user) = (RowDraws::default(), target.timeline.user);
        if let Some(pools) = self.hard {
            row.hard = draw_from(pools.pool(user), target, mixture.hard * hard, &mut row.items, rng);
        }
        if (user as usize) < self.exposed.len() {
            row.exposed = draw_from(self.exposed.list(user as usize), target, mixture.exposed, &mut row.items, rng);
        }
        row
    }
}

/// The number of an item among those drawn, which it joins if it is new.
fn number(numbers: &mut [u32], item: u32, items: &mut Vec<u32>) -> u32 {
    let number = &mut numbers[item as usize];
    if *number == NONE {
        *number = items.len() as u32;
        items.push(item);
    }
    *number
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
    use super::*;

    #[test]
    fn rows_draw_from_the_pools_of_their_users_what_these_do_not_like() {
        let positives = Timelines::of_rows(&[(0, 5, 1), (0, 6, 2), (1, 7, 3)]);
        let shown = Timelines::of_rows(&[(0, 5, 1), (0, 8, 1), (0, 8, 2), (0, 9, 2)]);
        let exposed = exposed_items(2, &shown, &positives);
        assert_eq!((exposed.list(0), exposed.list(1)), (&[8, 9][..], &[0_u32; 0][..]));
        let mut sources = PrivateSources::new(None, exposed, 10);
        let targets = [0, 1, 0].map(|n| Target { timeline: positives.timeline(n), at: 0 });
        let mixture =
            Mixture { in_batch: false, uniform: 0, popularity: 0, cache: 0, hard: 0.0, exposed: 3.0, shares: [0.0; 6] };
        for seed in 0..20 {
            let drawn = sources.draw(&targets, &mixture, 1.0, seed);
            assert_eq!((drawn.rows.offsets(), drawn.exposed, drawn.hard), (&[0, 3, 3, 6][..], 6, 0));
            let mut items = drawn.items().to_vec();
            items.sort_unstable();
            items.dedup();
            assert_eq!(items.len(), drawn.items().len(), "each once");
            assert!(drawn.drawn().all(|(item, f)| [8, 9].contains(&item) && (f - 1.5).abs() < 1e-9));
        }
    }
}
