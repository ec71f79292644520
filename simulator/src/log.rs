//! Time passes: users visit, see slates, and click what they look at and like.

use pagoda_dataset::LogRow;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

use crate::{
    exposure::{Exposure, SLATE_SIZE, Visit, examination},
    item::Catalog,
    preference::click_probability,
    random::{Part, stream},
    time::{LOG_SPAN, LOG_START, log_share},
    user::User,
};

/// The places of events in [`EVENTS`].
pub(crate) const IMPRESSION: u8 = 0;
pub(crate) const CLICK: u8 = 1;
/// The names of events.
pub(crate) const EVENTS: [&str; 2] = ["impression", "click"];

const PROGRESS_EVERY: u64 = 20_000;

/// Simulates until `impressions` items were shown, slate by slate, evenly over the log's span.
/// `progress` is told how many of how many were shown.
pub(crate) fn simulate(
    seed: u64,
    (catalog, users): (&Catalog, &[User]),
    impressions: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<LogRow> {
    let rng = &mut stream(seed, Part::Log);
    let visitors = WeightedAliasIndex::new(users.iter().map(|user| user.activity).collect())
        .expect("activities are positive and finite");
    let mut exposure = Exposure::new(catalog, users.len());
    let mut rows = Vec::with_capacity(impressions);
    let mut told = 0;
    while rows.len() < impressions {
        let place = visitors.sample(rng);
        let visit = Visit { place, user: &users[place], time: visit_time(rows.len(), impressions) };
        let mut slate = exposure.slate(visit, rng);
        slate.truncate(impressions - rows.len());
        show(visit, &slate, &mut exposure, rng, &mut rows);
        if rows.len() as u64 >= told + PROGRESS_EVERY {
            told = rows.len() as u64;
            progress(told, impressions as u64);
        }
    }
    progress(impressions as u64, impressions as u64);
    rows
}

/// The time at which the visit begins before which `shown` of all `impressions` were shown.
fn visit_time(shown: usize, impressions: usize) -> i64 {
    LOG_START + (shown as f64 / impressions as f64 * LOG_SPAN as f64) as i64
}

fn show(visit: Visit<'_>, slate: &[u32], exposure: &mut Exposure<'_>, rng: &mut ChaCha8Rng, rows: &mut Vec<LogRow>) {
    debug_assert!(slate.len() <= SLATE_SIZE);
    for (position, &item) in slate.iter().enumerate() {
        let truth = click_probability(visit.user, exposure.item(item), log_share(visit.time));
        let clicked = rng.random_bool(truth * examination(position));
        if clicked {
            exposure.record_click(visit.place, item);
        }
        let event = if clicked { CLICK } else { IMPRESSION };
        rows.push(LogRow { user: visit.place as u32, item, timestamp: visit.time, event, test: false });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{item::Item, society::Society, themes::Themes, time::LOG_END, user::draw_users};

    fn small_log(impressions: usize) -> (Catalog, Vec<LogRow>) {
        let themes = Themes::for_catalog(1000);
        let society = Society::draw(3, &themes);
        let catalog = Catalog::draw(3, 1000, &themes, &society);
        let users = draw_users(3, 200, &themes, &society);
        let rows = simulate(3, (&catalog, &users), impressions, &mut |_, _| ());
        (catalog, rows)
    }

    #[test]
    fn nothing_is_shown_before_its_birth_or_after_its_death() {
        let (catalog, rows) = small_log(50_003);
        assert_eq!(rows.len(), 50_003);
        assert!(rows.iter().all(|row| catalog.items[row.item as usize].lives_at(row.timestamp)));
        assert!(rows.iter().all(|row| (LOG_START..LOG_END).contains(&row.timestamp)));
        assert!(rows.is_sorted_by_key(|row| row.timestamp));
        let shown: HashSet<u32> = rows.iter().map(|row| row.item).collect();
        let shown_of = |those: fn(&Item) -> bool| shown.iter().filter(|&&i| those(&catalog.items[i as usize])).count();
        assert!(shown_of(|item| item.born >= LOG_START) > 100 && shown_of(|item| item.dies < LOG_END) > 30);
    }

    #[test]
    fn what_a_user_clicked_is_not_shown_to_that_user_again() {
        let (_, rows) = small_log(20_000);
        let mut clicked = HashSet::new();
        for row in rows {
            assert!(!clicked.contains(&(row.user, row.item)), "{row:?}");
            if row.event == CLICK {
                clicked.insert((row.user, row.item));
            }
        }
    }
}
