//! Items: what they are about, what they are like, and when they live.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    random::{Part, normal, stream},
    society::{Society, Style},
    themes::Themes,
    time::{DAY, HOUR, LOG_END, LOG_SPAN, LOG_START},
};

/// How many items are there before the log begins.
const OLD_SHARE: f64 = 0.7;
const OLDEST_DAYS: i64 = 180;
const MORTAL_SHARE: f64 = 0.15;
const SECOND_THEME_SHARE: f64 = 0.35;
const SAME_CATEGORY_SHARE: f64 = 0.6;

/// An item's nature. Its place in the catalog is its order of birth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) theme: usize,
    pub(crate) category: usize,
    /// A theme it touches besides.
    pub(crate) second_theme: Option<usize>,
    pub(crate) imprint: usize,
    pub(crate) style: Style,
    /// How good it is to everyone, standard normal.
    pub(crate) quality: f64,
    pub(crate) price: f64,
    /// It is not shown before.
    pub(crate) born: i64,
    /// Nor from then on.
    pub(crate) dies: i64,
}

/// The items that are born before the log ends, oldest first.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) items: Vec<Item>,
    /// Places of the items of each main theme, oldest first.
    by_theme: Vec<Vec<u32>>,
}

impl Item {
    /// The item of a place in the catalog, or after it, born at `born`.
    pub(crate) fn draw(seed: u64, place: usize, born: i64, themes: &Themes, society: &Society) -> Self {
        let rng = &mut stream(seed, Part::Item(place));
        let theme = rng.random_range(0..themes.count());
        let category = themes.category_of(theme);
        let imprint = Society::draw_imprint(category, rng);
        let style = society.imprint_style(imprint).near(rng);
        Self {
            theme,
            category,
            second_theme: draw_second_theme(theme, themes, rng),
            imprint,
            style,
            quality: normal(rng),
            price: draw_price(style, rng),
            born,
            dies: draw_death(place, born, rng),
        }
    }

    pub(crate) fn lives_at(&self, time: i64) -> bool {
        (self.born..self.dies).contains(&time)
    }
}

impl Catalog {
    pub(crate) fn draw(seed: u64, count: usize, themes: &Themes, society: &Society) -> Self {
        let births = draw_births(count, &mut stream(seed, Part::Births));
        let items = births.into_iter().enumerate();
        let items: Vec<Item> = items.map(|(place, born)| Item::draw(seed, place, born, themes, society)).collect();
        let mut by_theme = vec![Vec::new(); themes.count()];
        for (place, item) in items.iter().enumerate() {
            by_theme[item.theme].push(place as u32);
        }
        Self { items, by_theme }
    }

    /// How many are born by a time; these are the first.
    pub(crate) fn born_by(&self, time: i64) -> usize {
        self.items.partition_point(|item| item.born <= time)
    }

    /// Places of the items of a theme that are among the first `born`.
    pub(crate) fn of_theme(&self, theme: usize, born: usize) -> &[u32] {
        let places = &self.by_theme[theme];
        &places[..places.partition_point(|&place| (place as usize) < born)]
    }
}

/// When an item after the catalog's last is born: one every hour from the log's end.
pub(crate) fn later_birth(place: usize, catalog: usize) -> i64 {
    LOG_END + (place - catalog) as i64 * HOUR
}

fn draw_births(count: usize, rng: &mut ChaCha8Rng) -> Vec<i64> {
    let oldest = LOG_START - OLDEST_DAYS * DAY;
    let mut births: Vec<i64> = (1..count)
        .map(|_| match rng.random_bool(OLD_SHARE) {
            true => rng.random_range(oldest..LOG_START),
            false => rng.random_range(LOG_START..LOG_START + LOG_SPAN),
        })
        .collect();
    births.push(oldest);
    births.sort_unstable();
    births
}

/// The first item never dies, so that there is always something to show.
fn draw_death(place: usize, born: i64, rng: &mut ChaCha8Rng) -> i64 {
    let days = rng.random_range(5..90);
    if place > 0 && rng.random_bool(MORTAL_SHARE) { born.max(LOG_START) + days * DAY } else { i64::MAX }
}

fn draw_second_theme(theme: usize, themes: &Themes, rng: &mut ChaCha8Rng) -> Option<usize> {
    if !rng.random_bool(SECOND_THEME_SHARE) {
        return None;
    }
    let among = match rng.random_bool(SAME_CATEGORY_SHARE) {
        true => themes.within(themes.category_of(theme)),
        false => 0..themes.count(),
    };
    Some(rng.random_range(among)).filter(|&second| second != theme)
}

/// Log-normal about 15, dearer along the first dimension of style, in whole cents.
fn draw_price(style: Style, rng: &mut ChaCha8Rng) -> f64 {
    let price = (2.7 + 0.4 * style.0[0] + 0.3 * normal(rng)).exp();
    (price * 100.0).round() / 100.0
}
