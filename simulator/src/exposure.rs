//! What is shown: a pool of candidates from several sources, and a ranker that sees the truth through noise.

use std::collections::HashSet;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gumbel, weighted::WeightedIndex};

use crate::{
    item::{Catalog, Item},
    preference,
    time::{DAY, log_share},
    user::User,
};

/// How many items are shown at once.
pub const SLATE_SIZE: usize = 10;

const DRAWS: usize = 60;
const FRESH_SHARE: f64 = 0.02;

const PREFERENCE_WEIGHT: f64 = 0.8;
const POPULARITY_WEIGHT: f64 = 0.5;
const FRESHNESS_WEIGHT: f64 = 0.5;
const NOISE: f64 = 0.7;

/// The memory of what was clicked, and the ranker that uses it.
pub(crate) struct Exposure<'w> {
    catalog: &'w Catalog,
    /// Every click's item, oldest first.
    clicks: Vec<u32>,
    clicks_by_item: Vec<u32>,
    clicked_by_user: Vec<HashSet<u32>>,
}

/// A visit: who, and when.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'w> {
    pub(crate) place: usize,
    pub(crate) user: &'w User,
    pub(crate) time: i64,
}

impl<'w> Exposure<'w> {
    pub(crate) fn new(catalog: &'w Catalog, users: usize) -> Self {
        let clicks_by_item = vec![0; catalog.items.len()];
        Self { catalog, clicks: Vec::new(), clicks_by_item, clicked_by_user: vec![HashSet::new(); users] }
    }

    /// Places of the items to show, best position first; at least one, at most [`SLATE_SIZE`].
    pub(crate) fn slate(&self, visit: Visit<'_>, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let pool = self.pool(visit, rng);
        let mut scored: Vec<(f64, u32)> = pool.into_iter().map(|item| (self.score(visit, item, rng), item)).collect();
        scored.sort_unstable_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
        scored.truncate(SLATE_SIZE);
        scored.into_iter().map(|(_, item)| item).collect()
    }

    pub(crate) fn item(&self, place: u32) -> &'w Item {
        &self.catalog.items[place as usize]
    }

    pub(crate) fn record_click(&mut self, user: usize, item: u32) {
        self.clicks.push(item);
        self.clicks_by_item[item as usize] += 1;
        self.clicked_by_user[user].insert(item);
    }

    /// Living items that the user has not clicked yet; the immortal first one where all of those drawn were.
    fn pool(&self, visit: Visit<'_>, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let sources = Sources::new(self, visit);
        let mut pool = Vec::with_capacity(DRAWS);
        for _ in 0..DRAWS {
            let Some(item) = sources.draw(rng) else { continue };
            let lives = self.item(item).lives_at(visit.time);
            if lives && !self.clicked_by_user[visit.place].contains(&item) && !pool.contains(&item) {
                pool.push(item);
            }
        }
        if pool.is_empty() { vec![0] } else { pool }
    }

    fn score(&self, visit: Visit<'_>, place: u32, rng: &mut ChaCha8Rng) -> f64 {
        let item = self.item(place);
        let popularity = f64::from(1 + self.clicks_by_item[place as usize]).ln();
        let age_weeks = (visit.time - item.born) as f64 / (7 * DAY) as f64;
        let noise: f64 = Gumbel::new(0.0, NOISE).expect("the scale is positive").sample(rng);
        PREFERENCE_WEIGHT * preference::logit(visit.user, item, log_share(visit.time))
            + POPULARITY_WEIGHT * popularity
            + FRESHNESS_WEIGHT * (-age_weeks).exp()
            + noise
    }
}

/// Where the candidates of one visit come from.
struct Sources<'a> {
    exposure: &'a Exposure<'a>,
    user: &'a User,
    /// How many items are born.
    born: usize,
    interests: WeightedIndex<f64>,
}

impl<'a> Sources<'a> {
    fn new(exposure: &'a Exposure<'a>, visit: Visit<'a>) -> Self {
        let strengths = visit.user.interests.iter().map(|interest| interest.strength(log_share(visit.time)) + 1e-6);
        Self {
            exposure,
            user: visit.user,
            born: exposure.catalog.born_by(visit.time),
            interests: WeightedIndex::new(strengths).expect("strengths are positive"),
        }
    }

    /// A candidate from the user's interests, from what others clicked, from the newest items, or from anywhere.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Option<u32> {
        match rng.random::<f64>() {
            x if x < 0.55 => self.of_interest(rng),
            x if x < 0.82 => self.of_the_popular(rng),
            x if x < 0.92 => Some(self.of_the_newest(rng)),
            _ => Some(rng.random_range(0..self.born as u32)),
        }
    }

    fn of_interest(&self, rng: &mut ChaCha8Rng) -> Option<u32> {
        let theme = self.user.interests[self.interests.sample(rng)].theme;
        choose(self.exposure.catalog.of_theme(theme, self.born), rng)
    }

    /// In proportion to the newest half of all clicks.
    fn of_the_popular(&self, rng: &mut ChaCha8Rng) -> Option<u32> {
        let clicks = &self.exposure.clicks;
        choose(&clicks[clicks.len() / 2..], rng)
    }

    fn of_the_newest(&self, rng: &mut ChaCha8Rng) -> u32 {
        let newest = ((self.born as f64 * FRESH_SHARE) as usize).max(1);
        rng.random_range((self.born - newest) as u32..self.born as u32)
    }
}

fn choose(places: &[u32], rng: &mut ChaCha8Rng) -> Option<u32> {
    if places.is_empty() { None } else { Some(places[rng.random_range(0..places.len())]) }
}

/// The probability that a user looks at a position of a slate, from 0: `1 / sqrt(position + 1)`.
pub(crate) fn examination(position: usize) -> f64 {
    1.0 / ((position + 1) as f64).sqrt()
}
