//! Users: several interests that drift, a taste in style, an age band and a region.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedIndex};

use crate::{
    random::{Part, normal, stream},
    society::{AGE_BANDS, REGIONS, Society, Style},
    themes::Themes,
};

/// The standard deviation of the logarithm of how much users visit.
const ACTIVITY_SPREAD: f64 = 0.9;

/// A user's nature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct User {
    pub(crate) age_band: usize,
    pub(crate) region: usize,
    pub(crate) interests: Vec<Interest>,
    pub(crate) style: Style,
    /// How often the user visits, up to a factor.
    pub(crate) activity: f64,
}

/// How much a user cares for a theme, from the log's start to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interest {
    pub(crate) theme: usize,
    pub(crate) category: usize,
    pub(crate) at_start: f64,
    pub(crate) at_end: f64,
}

impl Interest {
    /// Its strength between 0 and 1 after a share of the log.
    pub(crate) fn strength(&self, log_share: f64) -> f64 {
        self.at_start + (self.at_end - self.at_start) * log_share
    }
}

/// All users, the most active first.
pub(crate) fn draw_users(seed: u64, count: usize, themes: &Themes, society: &Society) -> Vec<User> {
    let rng = &mut stream(seed, Part::Activity);
    let mut activities: Vec<f64> = (0..count).map(|_| (ACTIVITY_SPREAD * normal(rng)).exp()).collect();
    activities.sort_unstable_by(|a, b| b.total_cmp(a));
    let users = activities.into_iter().enumerate();
    users.map(|(place, activity)| draw_user(&mut stream(seed, Part::User(place)), activity, themes, society)).collect()
}

fn draw_user(rng: &mut ChaCha8Rng, activity: f64, themes: &Themes, society: &Society) -> User {
    let (age_band, region) = (rng.random_range(0..AGE_BANDS.len()), rng.random_range(0..REGIONS.len()));
    let interests = draw_interests(rng, &society.appeal(age_band, region), themes);
    User { age_band, region, interests, style: Style::draw(rng), activity }
}

/// Three to five themes of two or three categories, more or less.
fn draw_interests(rng: &mut ChaCha8Rng, appeal: &[f64], themes: &Themes) -> Vec<Interest> {
    let by_appeal = WeightedIndex::new(appeal).expect("appeals are positive");
    let categories: Vec<usize> = (0..rng.random_range(2..=3)).map(|_| by_appeal.sample(rng)).collect();
    let count = rng.random_range(3..=5);
    let mut candidates: Vec<usize> = categories.iter().flat_map(|&category| themes.within(category)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates.shuffle(rng);
    candidates.truncate(count);
    candidates.into_iter().map(|theme| draw_interest(rng, theme, themes.category_of(theme))).collect()
}

/// Half of all interests stay; the others rise or fade.
fn draw_interest(rng: &mut ChaCha8Rng, theme: usize, category: usize) -> Interest {
    let (strong, weak) = (rng.random_range(0.7..1.0), rng.random_range(0.0..0.3));
    let ways = [(strong, strong), (strong, strong), (weak, strong), (strong, weak)];
    let (at_start, at_end) = *ways.choose(rng).expect("there are four");
    Interest { theme, category, at_start, at_end }
}
