//! The god model: how much a user truly likes an item.

use crate::{item::Item, user::User};

const OFFSET: f64 = -4.6;
const THEME_EFFECT: f64 = 3.6;
const STYLE_EFFECT: f64 = 0.6;
const QUALITY_EFFECT: f64 = 0.6;

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
