//! Seeded randomness: each part of the world draws from a stream of its own, so that the tenth item is the same
//! item however many users there are.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Imprints, and what ages and regions like.
    Society,
    /// When items are born.
    Births,
    /// How much users visit.
    Activity,
    /// Who sees and clicks what.
    Log,
    /// One item's nature.
    Item(usize),
    /// One item's title.
    Title(usize),
    /// One user's nature.
    User(usize),
}

/// The stream of a part of the world of `seed`.
pub(crate) fn stream(seed: u64, part: Part) -> ChaCha8Rng {
    let (kind, place) = match part {
        Part::Society => (0, 0),
        Part::Births => (1, 0),
        Part::Activity => (2, 0),
        Part::Log => (3, 0),
        Part::Item(place) => (4, place),
        Part::Title(place) => (5, place),
        Part::User(place) => (6, place),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((kind << 48) | place as u64);
    rng
}

/// A draw from the standard normal distribution.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}
