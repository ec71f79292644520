//! The god model: how much a user truly likes an item.

use crate::{item::Item, user::User};

const OFFSET: f64 = -5.2;
const THEME_EFFECT: f64 = 3.6;
const STYLE_EFFECT: f64 = 0.6;
const QUALITY_EFFECT: f64 = 0.75;

const SECOND_THEME_MATCH: f64 = 0.5;
const CATEGORY_MATCH: f64 = 0.15;

/// The logit of [`click_probability`]:
/// `offset + theme * match(user, item) + style * <user's style, item's style> + quality * item's quality`.
pub(crate) fn logit(user: &User, item: &Item, log_share: f64) -> f64 {
    OFFSET
        + THEME_EFFECT * theme_match(user, item, log_share)
        + STYLE_EFFECT * user.style.dot(item.style)
        + QUALITY_EFFECT * item.quality
}

/// The probability that a user who looks at an item after a share of the log clicks it.
pub(crate) fn click_probability(user: &User, item: &Item, log_share: f64) -> f64 {
    1.0 / (1.0 + (-logit(user, item, log_share)).exp())
}

fn theme_match(user: &User, item: &Item, log_share: f64) -> f64 {
    user.interests
        .iter()
        .map(|interest| {
            let overlap = match interest.theme {
                theme if theme == item.theme => 1.0,
                theme if Some(theme) == item.second_theme => SECOND_THEME_MATCH,
                _ if interest.category == item.category => CATEGORY_MATCH,
                _ => return 0.0,
            };
            overlap * interest.strength(log_share)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        item::Catalog,
        society::Society,
        themes::Themes,
        user::{Interest, draw_users},
    };

    fn user_and_item() -> (User, Item) {
        let themes = Themes::for_catalog(1000);
        let society = Society::draw(1, &themes);
        let user = draw_users(1, 1, &themes, &society).remove(0);
        (user, Catalog::draw(1, 1000, &themes, &society).items.remove(0))
    }

    #[test]
    fn a_theme_of_interest_is_liked_more_than_its_category_and_that_more_than_anything_else() {
        let (user, item) = user_and_item();
        let [theme, category] = [(item.theme, item.category), (usize::MAX, item.category)].map(|(theme, category)| {
            let interests = vec![Interest { theme, category, ..user.interests[0] }];
            click_probability(&User { interests, ..user.clone() }, &item, 0.5)
        });
        let none = click_probability(&User { interests: Vec::new(), ..user.clone() }, &item, 0.5);
        assert!(theme > category && category > none && none > 0.0 && theme < 1.0, "{theme} {category} {none}");
    }

    #[test]
    fn preference_drifts_with_the_interest() {
        let (mut user, item) = user_and_item();
        user.interests = vec![Interest { theme: item.theme, category: item.category, at_start: 0.1, at_end: 0.9 }];
        let liked = [0.0, 0.5, 1.0].map(|log_share| click_probability(&user, &item, log_share));
        assert!(liked.is_sorted_by(|a, b| a < b), "{liked:?}");
    }
}
