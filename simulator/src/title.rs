//! Titles that a person can read, in the words of an item's themes.

use std::collections::HashSet;

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    item::Item,
    random::{Part, stream},
    themes::Themes,
};

const TRIES: usize = 16;

const ADJECTIVES: [&str; 48] = [
    "Quiet",
    "Secret",
    "Slow",
    "Forgotten",
    "Simple",
    "Hidden",
    "Golden",
    "Restless",
    "Patient",
    "Wild",
    "Candid",
    "Curious",
    "Perfect",
    "Daring",
    "Lost",
    "Modern",
    "Timeless",
    "Practical",
    "Little",
    "Great",
    "Stubborn",
    "Gentle",
    "Strange",
    "Common",
    "Brilliant",
    "Silent",
    "Distant",
    "Faithful",
    "Wandering",
    "Vanishing",
    "Fearless",
    "Humble",
    "Northern",
    "Southern",
    "Midnight",
    "Winter",
    "Summer",
    "Crooked",
    "Borrowed",
    "Broken",
    "Radiant",
    "Reluctant",
    "Homemade",
    "Scarlet",
    "Violet",
    "Hollow",
    "Mighty",
    "Plain",
];

/// Composes titles one after another and repeats none.
pub(crate) struct Titles<'t> {
    seed: u64,
    themes: &'t Themes,
    used: HashSet<String>,
}

impl<'t> Titles<'t> {
    pub(crate) fn new(seed: u64, themes: &'t Themes) -> Self {
        Self { seed, themes, used: HashSet::new() }
    }

    /// The title of the item of a place; places are asked for in order, from 0.
    pub(crate) fn next(&mut self, place: usize, item: &Item) -> String {
        let rng = &mut stream(self.seed, Part::Title(place));
        let tried = (0..TRIES).map(|_| compose(item, self.themes, rng)).find(|title| !self.used.contains(title));
        let title = tried.unwrap_or_else(|| self.next_volume(&compose(item, self.themes, rng)));
        self.used.insert(title.clone());
        title
    }

    fn next_volume(&self, title: &str) -> String {
        let volumes = (2..).map(|volume| format!("{title}, Volume {volume}"));
        volumes.into_iter().find(|title| !self.used.contains(title)).expect("there is always a next volume")
    }
}

fn compose(item: &Item, themes: &Themes, rng: &mut ChaCha8Rng) -> String {
    let a = capitalise(themes.word(item.theme, rng));
    let b = other_word(&a, item.second_theme.unwrap_or(item.theme), themes, rng);
    let adjective = ADJECTIVES.choose(rng).expect("there are adjectives");
    match rng.random_range(0..12) {
        0 | 1 => format!("{a} and {b}"),
        2 | 3 => format!("The {adjective} {a}"),
        4 => format!("{adjective} {a}: A Book of {b}"),
        5 => format!("{a}, {b} and a {adjective} Heart"),
        6 => format!("The {adjective} Guide to {a} and {b}"),
        7 => format!("Of {a} and {b}: A {adjective} Companion"),
        8 => format!("{a} for Beginners, with {b}"),
        9 => format!("Notes on {adjective} {a}"),
        10 => format!("In Praise of {adjective} {a}"),
        _ => format!("The {adjective} World of {b} and {a}"),
    }
}

/// A word of a theme that is not `first`.
fn other_word(first: &str, theme: usize, themes: &Themes, rng: &mut ChaCha8Rng) -> String {
    loop {
        let word = capitalise(themes.word(theme, rng));
        if word != first {
            return word;
        }
    }
}

fn capitalise(words: &str) -> String {
    let word = |word: &str| {
        let (head, tail) = word.split_at(1);
        head.to_uppercase() + tail
    };
    words.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{item::Catalog, society::Society};

    #[test]
    fn titles_speak_of_their_theme_and_are_not_repeated() {
        let themes = Themes::for_catalog(3000);
        let catalog = Catalog::draw(1, 3000, &themes, &Society::draw(1, &themes));
        let mut titles = Titles::new(1, &themes);
        let all: HashSet<String> = catalog.items.iter().enumerate().map(|(i, item)| titles.next(i, item)).collect();
        assert_eq!(all.len(), 3000);
        let volumes = all.iter().filter(|title| title.contains("Volume")).count();
        assert!(volumes < 30, "{volumes} of 3000 titles had to be numbered");
    }

    #[test]
    fn every_word_is_capitalised() {
        assert_eq!(capitalise("drum machines"), "Drum Machines");
    }
}
