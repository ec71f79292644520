//! The latent topics: themes within categories, and the words in which titles speak of them.

use std::ops::Range;

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

const TEXT: &str = include_str!("themes.txt");
const CATEGORIES_MAX: usize = 16;
const THEMES_PER_CATEGORY_MAX: usize = 8;
/// A catalog has no more themes than leaves this many items to each.
const ITEMS_PER_THEME_MIN: usize = 40;

/// The themes of a catalog; a small one has few, so that each has items enough.
#[derive(Debug)]
pub(crate) struct Themes {
    themes: Vec<Theme>,
    per_category: usize,
}

#[derive(Clone, Debug)]
struct Theme {
    category: &'static str,
    name: &'static str,
    words: Vec<&'static str>,
}

impl Themes {
    pub(crate) fn for_catalog(items: usize) -> Self {
        let categories = ((items as f64 / 50.0).sqrt().round() as usize).clamp(4, CATEGORIES_MAX);
        let per_category = (items / (categories * ITEMS_PER_THEME_MIN)).clamp(2, THEMES_PER_CATEGORY_MAX);
        let all: Vec<Theme> = TEXT.lines().filter(|line| !line.starts_with('#')).map(parse).collect();
        let kept = all.chunks(THEMES_PER_CATEGORY_MAX).take(categories);
        Self { themes: kept.flat_map(|category| &category[..per_category]).cloned().collect(), per_category }
    }

    pub(crate) fn count(&self) -> usize {
        self.themes.len()
    }

    pub(crate) fn categories(&self) -> usize {
        self.themes.len() / self.per_category
    }

    pub(crate) fn category_of(&self, theme: usize) -> usize {
        theme / self.per_category
    }

    /// The themes of a category.
    pub(crate) fn within(&self, category: usize) -> Range<usize> {
        category * self.per_category..(category + 1) * self.per_category
    }

    pub(crate) fn category_name(&self, theme: usize) -> &'static str {
        self.themes[theme].category
    }

    pub(crate) fn name(&self, theme: usize) -> &'static str {
        self.themes[theme].name
    }

    pub(crate) fn word(&self, theme: usize, rng: &mut ChaCha8Rng) -> &'static str {
        self.themes[theme].words.choose(rng).expect("every theme has words")
    }
}

fn parse(line: &'static str) -> Theme {
    let (names, words) = line.split_once(": ").expect("a theme's words follow a colon");
    let (category, name) = names.split_once(" / ").expect("a category and a theme are parted by a slash");
    Theme { category, name, words: words.split(", ").collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn all_themes_are_used_in_a_large_catalog_and_share_no_word() {
        let themes = Themes::for_catalog(20_000);
        assert_eq!((themes.categories(), themes.count()), (16, 128));
        let words: Vec<_> = themes.themes.iter().flat_map(|theme| &theme.words).collect();
        assert_eq!(words.len(), 128 * 6);
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
    }

    #[test]
    fn a_category_holds_its_own_themes_in_a_catalog_of_any_size() {
        for items in [100, 500, 3000, 1_000_000] {
            let themes = Themes::for_catalog(items);
            for category in 0..themes.categories() {
                let names: HashSet<_> = themes.within(category).map(|theme| themes.category_name(theme)).collect();
                assert_eq!(names.len(), 1, "{items} items: {names:?}");
                assert!(themes.within(category).all(|theme| themes.category_of(theme) == category));
            }
        }
    }
}
