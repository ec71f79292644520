//! What the world's people have in common: imprints with a style, and what ages and regions like.

use std::array;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::{
    random::{Part, normal, stream},
    themes::Themes,
};

pub(crate) const AGE_BANDS: [&str; 6] = ["under 18", "18 to 24", "25 to 34", "35 to 49", "50 to 64", "65 and over"];
pub(crate) const REGIONS: [&str; 8] = ["north", "south", "east", "west", "coast", "highlands", "capital", "islands"];

const IMPRINT_NAMES: [&str; 24] = [
    "Lantern",
    "Harbour",
    "Juniper",
    "Compass",
    "Foxglove",
    "Meridian",
    "Sparrow",
    "Granite",
    "Bluebell",
    "Northgate",
    "Ember",
    "Willow",
    "Pelican",
    "Quarry",
    "Saltmarsh",
    "Thimble",
    "Orchard",
    "Kestrel",
    "Anchor",
    "Marigold",
    "Fable",
    "Cobalt",
    "Driftwood",
    "Almanac",
];
const IMPRINT_KINDS: [&str; 4] = ["Press", "Books", "House", "and Sons"];
const IMPRINTS_PER_CATEGORY: usize = 6;

const AGE_EFFECT: f64 = 0.7;
const REGION_EFFECT: f64 = 0.4;
const FASHION: f64 = 0.7;

const STYLE_DIM: usize = 3;

/// What an item is like, or a user likes, across themes: a point in a small latent space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Style(pub(crate) [f64; STYLE_DIM]);

/// What the world's people have in common.
#[derive(Debug)]
pub(crate) struct Society {
    imprints: Vec<Style>,
    /// The logarithm of a category's appeal to all.
    fashion: Vec<f64>,
    /// The same to each age band, and to each region, beyond that.
    ages: Vec<[f64; AGE_BANDS.len()]>,
    regions: Vec<[f64; REGIONS.len()]>,
}

impl Style {
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self(array::from_fn(|_| normal(rng)))
    }

    /// A style close to this one, of the same variance.
    pub(crate) fn near(self, rng: &mut ChaCha8Rng) -> Self {
        Self(self.0.map(|x| 0.8 * x + 0.6 * normal(rng)))
    }

    pub(crate) fn dot(self, other: Self) -> f64 {
        self.0.iter().zip(other.0).map(|(a, b)| a * b).sum()
    }
}

impl Society {
    pub(crate) fn draw(seed: u64, themes: &Themes) -> Self {
        let rng = &mut stream(seed, Part::Society);
        let categories = themes.categories();
        Self {
            imprints: (0..categories * IMPRINTS_PER_CATEGORY).map(|_| Style::draw(rng)).collect(),
            fashion: (0..categories).map(|_| FASHION * normal(rng)).collect(),
            ages: (0..categories).map(|_| array::from_fn(|_| AGE_EFFECT * normal(rng))).collect(),
            regions: (0..categories).map(|_| array::from_fn(|_| REGION_EFFECT * normal(rng))).collect(),
        }
    }

    /// How likely users of an age band and a region are to care for each category, up to a factor.
    pub(crate) fn appeal(&self, age_band: usize, region: usize) -> Vec<f64> {
        let effects = self.ages.iter().zip(&self.regions);
        self.fashion
            .iter()
            .zip(effects)
            .map(|(f, (ages, regions))| (f + ages[age_band] + regions[region]).exp())
            .collect()
    }

    /// One of a category's imprints.
    pub(crate) fn draw_imprint(category: usize, rng: &mut ChaCha8Rng) -> usize {
        category * IMPRINTS_PER_CATEGORY + rng.random_range(0..IMPRINTS_PER_CATEGORY)
    }

    /// What the items of an imprint are like.
    pub(crate) fn imprint_style(&self, imprint: usize) -> Style {
        self.imprints[imprint]
    }
}

/// The name of an imprint.
pub(crate) fn imprint_name(imprint: usize) -> String {
    let (name, kind) = (imprint % IMPRINT_NAMES.len(), imprint / IMPRINT_NAMES.len());
    format!("{} {}", IMPRINT_NAMES[name], IMPRINT_KINDS[kind % IMPRINT_KINDS.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_imprints_share_a_name() {
        let count = Society::draw(1, &Themes::for_catalog(20_000)).imprints.len();
        assert_eq!((0..count).map(imprint_name).collect::<HashSet<_>>().len(), count);
    }
}
